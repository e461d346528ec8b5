"""A producer with kafka-python: it puts tasks into a topic, and prints what it is told of each.

    article_producer.py BOOTSTRAP TOPIC REPLIES TASK...
"""
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

bootstrap, topic, replies, *tasks = sys.argv[1:]
consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
mine = TopicPartition(replies, 0)
consumer.assign([mine])
consumer.seek_to_end(mine)
# Else only the first poll would look for the end.
consumer.position(mine)
producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
waiting = set()
for number, task in enumerate(tasks):
    message_id = f"task-{number}"
    headers = {"message_id": message_id, "reply_to": f"{replies}/0", "x-notify": "all"}
    producer.send(
        topic,
        task.encode(),
        key=message_id.encode(),
        headers=[(name, text.encode()) for name, text in headers.items()],
    ).get(timeout=30)
    waiting.add(message_id)
for record in consumer:
    told = {name: value.decode() for name, value in record.headers}
    if told.get("x-message-id") not in waiting or "x-outcome" not in told:
        continue
    print(told["x-message-id"], told["x-outcome"], told.get("x-error") or record.value.decode(), flush=True)
    waiting.remove(told["x-message-id"])
    if not waiting:
        break
