import sys
import time

import amqpstorm
from plan import Marks, headers_of

name, count = sys.argv[1], int(sys.argv[2])
marks = Marks(name, count)
answers = f'answers-{name}'


def told(answer):
    # AMQPStorm decodes a body to text unless it is empty.
    marks.told(answer.message_id, answer.properties['headers'], answer.body or '')
    answer.ack()


def produce():
    # AMQPStorm 3.1 learns from its heartbeat that the broker is gone, and then just stops.
    connection = amqpstorm.Connection('localhost', 'guest', 'guest', heartbeat=1)
    channel = connection.channel()
    channel.queue.declare('tasks', durable=True)
    channel.queue.declare(answers, durable=True)
    channel.basic.consume(told, answers)
    while channel.is_open and not marks.is_done():
        for message_id, kind in marks.due():
            channel.basic.publish(kind, 'tasks', properties={
                'message_id': message_id, 'delivery_mode': 2, 'reply_to': answers,
                'headers': headers_of(kind)})
        channel.process_data_events()
        time.sleep(0.01)
    connection.close()


while not marks.is_done():
    try:
        produce()
    except amqpstorm.AMQPError:
        time.sleep(0.1)
print(marks.report())
