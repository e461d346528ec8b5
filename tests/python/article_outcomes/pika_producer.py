import sys
import time

import pika
from plan import Marks, headers_of

name, count = sys.argv[1], int(sys.argv[2])
marks = Marks(name, count)
answers = f'answers-{name}'


def produce():
    connection = pika.BlockingConnection(pika.ConnectionParameters('localhost'))
    channel = connection.channel()
    channel.queue_declare('tasks', durable=True)
    channel.queue_declare(answers, durable=True)
    for method, properties, body in channel.consume(answers, inactivity_timeout=0.05):
        if method:
            marks.told(properties.message_id, properties.headers, body.decode())
            channel.basic_ack(method.delivery_tag)
        for message_id, kind in marks.due():
            channel.basic_publish('', 'tasks', kind, pika.BasicProperties(
                message_id=message_id, delivery_mode=2, reply_to=answers, headers=headers_of(kind)))
        if marks.is_done():
            break
    connection.close()


while True:
    try:
        produce()
        break
    except pika.exceptions.AMQPError:
        time.sleep(0.1)
print(marks.report())
