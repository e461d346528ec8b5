# The article's 4.4 for AMQPStorm, with the same mistakes mended as in the pika program.
import time

import amqpstorm

# Connect to RabbitMQ server
connection = amqpstorm.Connection('localhost', 'guest', 'guest')
channel = connection.channel()

# Declare a message queue
channel.queue.declare('task_queue', durable=True)

# Declare a feedback queue
channel.queue.declare('feedback_queue', durable=True)

# Send a message to the queue and wait for feedback
message = "Hello World!"
channel.basic.publish(
    body=message,
    routing_key='task_queue',
    exchange='',
    properties={
        'delivery_mode': 2,  # make message persistent
        'reply_to': 'feedback_queue',
    },
)
deadline = time.monotonic() + 10
result = None
while result is None and time.monotonic() < deadline:
    time.sleep(0.1)
    result = channel.basic.get('feedback_queue', no_ack=True)
if result is None:
    print("No feedback received within 10 seconds, re-inserting message...")
    channel.basic.publish(
        body=message,
        routing_key='task_queue',
        exchange='',
        properties={'delivery_mode': 2},  # make message persistent
    )
else:
    print("Received feedback: %r" % result.body)

connection.close()
