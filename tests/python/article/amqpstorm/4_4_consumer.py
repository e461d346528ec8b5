# The article's 4.4 for AMQPStorm.
import time

import amqpstorm


def callback(message):
    print(" [x] Received %r" % message.body)
    time.sleep(message.body.count('.'))
    print(" [x] Done")
    message.ack()

    # Send feedback to producer
    feedback_message = "Message processed successfully"
    channel.basic.publish(
        body=feedback_message,
        routing_key=message.reply_to,
        exchange='',
    )


# Connect to RabbitMQ server
connection = amqpstorm.Connection('localhost', 'guest', 'guest')
channel = connection.channel()

# Declare a message queue
channel.queue.declare('task_queue', durable=True)

# Declare a feedback queue
channel.queue.declare('feedback_queue', durable=True)

# Consume messages from the queue
channel.basic.qos(prefetch_count=1)
channel.basic.consume(callback, 'task_queue')

print(' [*] Waiting for messages. To exit press CTRL+C')
channel.start_consuming()
