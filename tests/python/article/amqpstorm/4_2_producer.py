# The article's 4.2 for AMQPStorm.
import amqpstorm

# Connect to RabbitMQ server
connection = amqpstorm.Connection('localhost', 'guest', 'guest')
channel = connection.channel()

# Declare a message queue
channel.queue.declare('task_queue', durable=True)

# Send a message to the queue
message = "Hello World!"
channel.basic.publish(
    body=message,
    routing_key='task_queue',
    exchange='',
    properties={'delivery_mode': 2},  # make message persistent
)
print(" [x] Sent %r" % message)
connection.close()
