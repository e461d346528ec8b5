# The article's 4.4, with its own mistakes mended: the feedback queue is declared, the ten seconds
# are waited, and basic_get's answer is taken apart as the tuple it is.
import pika
import time

# Connect to RabbitMQ server
connection = pika.BlockingConnection(
   pika.ConnectionParameters('localhost'))
channel = connection.channel()

# Declare a message queue
channel.queue_declare(queue='task_queue', durable=True)

# Declare a feedback queue
channel.queue_declare(queue='feedback_queue', durable=True)

# Send a message to the queue and wait for feedback
message = "Hello World!"
channel.basic_publish(
   exchange='',
   routing_key='task_queue',
   body=message,
   properties=pika.BasicProperties(
        delivery_mode = 2, # make message persistent
        reply_to = 'feedback_queue',
   ))
deadline = time.monotonic() + 10
method, properties, feedback = None, None, None
while method is None and time.monotonic() < deadline:
   connection.sleep(0.1)
   method, properties, feedback = channel.basic_get('feedback_queue', auto_ack=True)
if method is None:
   print("No feedback received within 10 seconds, re-inserting message...")
   channel.basic_publish(
       exchange='',
       routing_key='task_queue',
       body=message,
       properties=pika.BasicProperties(
            delivery_mode = 2, # make message persistent
       ))
else:
   print("Received feedback: %r" % feedback)

connection.close()
