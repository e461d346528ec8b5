import pika
import time
import sys

def callback(ch, method, properties, body):
   try:
       print(" [x] Received %r" % body)
       time.sleep(body.count(b'.'))
       print(" [x] Done")
       ch.basic_ack(delivery_tag=method.delivery_tag)
   except Exception as e:
       # Send error notification to producer
       error_message = "Error processing message: %s" % str(e)
       channel.basic_publish(
           exchange='',
           routing_key=properties.reply_to,
           body=error_message,
           properties=pika.BasicProperties(
                delivery_mode = 2, # make message persistent
           ))
       print(error_message)
       sys.exit(1)

# Connect to RabbitMQ server
connection = pika.BlockingConnection(
   pika.ConnectionParameters('localhost'))
channel = connection.channel()

# Declare a message queue
channel.queue_declare(queue='task_queue', durable=True)

# Declare a feedback queue
channel.queue_declare(queue='feedback_queue', durable=True)

# Consume messages from the queue
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue='task_queue', on_message_callback=callback)

print(' [*] Waiting for messages. To exit press CTRL+C')
channel.start_consuming()
