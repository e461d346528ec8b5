import pika

# Connect to RabbitMQ server
connection = pika.BlockingConnection(
   pika.ConnectionParameters('localhost'))
channel = connection.channel()

# Declare a message queue
channel.queue_declare(queue='task_queue', durable=True)

# Send a message to the queue
message = "Hello World!"
channel.basic_publish(
   exchange='',
   routing_key='task_queue',
   body=message,
   properties=pika.BasicProperties(
        delivery_mode = 2, # make message persistent
   ))
print(" [x] Sent %r" % message)
connection.close()
