# The article's 4.5 for AMQPStorm.
import sys
import time

import amqpstorm


def callback(message):
    try:
        print(" [x] Received %r" % message.body)
        time.sleep(message.body.count('.'))
        print(" [x] Done")
        message.ack()
    except Exception as e:
        # Send error notification to producer
        error_message = "Error processing message: %s" % str(e)
        channel.basic.publish(
            body=error_message,
            routing_key=message.reply_to,
            exchange='',
            properties={'delivery_mode': 2},  # make message persistent
        )
        print(error_message)
        sys.exit(1)


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
