# The article's 4.3 for AMQPStorm.
import time

import amqpstorm


def callback(message):
    print(" [x] Received %r" % message.body)
    time.sleep(message.body.count('.'))
    print(" [x] Done")
    message.ack()


# Connect to RabbitMQ server
connection = amqpstorm.Connection('localhost', 'guest', 'guest')
channel = connection.channel()

# Declare a message queue
channel.queue.declare('task_queue', durable=True)

# Consume messages from the queue
channel.basic.qos(prefetch_count=1)
channel.basic.consume(callback, 'task_queue')

print(' [*] Waiting for messages. To exit press CTRL+C')
channel.start_consuming()
