import sys
import time

import pika
from plan import WorkFailed, work

log = sys.argv[1]


def callback(channel, method, properties, body):
    message_id = properties.message_id
    try:
        result = work(message_id, body.decode(), method.redelivered, log)
    except WorkFailed as error:
        channel.basic_publish('amq.wilco.report', message_id, str(error),
                              pika.BasicProperties(headers={'x-outcome': 'failed'}))
        channel.basic_reject(method.delivery_tag, requeue=False)
        return
    channel.basic_publish('amq.wilco.report', message_id, result)
    channel.basic_ack(method.delivery_tag)


while True:
    try:
        channel = pika.BlockingConnection(pika.ConnectionParameters('localhost')).channel()
        channel.queue_declare('tasks', durable=True)
        channel.basic_qos(prefetch_count=3)
        channel.basic_consume('tasks', callback)
        print('ready')
        channel.start_consuming()
    except pika.exceptions.AMQPError:
        time.sleep(0.1)
