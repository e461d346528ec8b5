import sys
import time

import amqpstorm
from plan import WorkFailed, work

log = sys.argv[1]


def callback(message):
    message_id = message.message_id
    try:
        result = work(message_id, message.body, message.method['redelivered'], log)
    except WorkFailed as error:
        message.channel.basic.publish(str(error), message_id, 'amq.wilco.report',
                                      properties={'headers': {'x-outcome': 'failed'}})
        message.reject(requeue=False)
        return
    message.channel.basic.publish(result, message_id, 'amq.wilco.report')
    message.ack()


while True:
    try:
        channel = amqpstorm.Connection('localhost', 'guest', 'guest', heartbeat=1).channel()
        channel.queue.declare('tasks', durable=True)
        channel.basic.qos(3)
        channel.basic.consume(callback, 'tasks')
        print('ready')
        channel.start_consuming()
    except amqpstorm.AMQPError:
        time.sleep(0.1)
