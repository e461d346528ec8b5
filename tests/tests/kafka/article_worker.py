"""A worker with kafka-python: it takes tasks out of a topic, and tells whoever has put them in what became of each.

    article_worker.py BOOTSTRAP TOPIC COUNT
"""
import sys
import time

from kafka import KafkaConsumer, KafkaProducer

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    group_id=topic,
    enable_auto_commit=False,
    auto_offset_reset="earliest",
)
producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")


def tell(headers, outcome, body=b"", error=None):
    reply_topic, _, partition = headers["reply_to"].partition("/")
    told = {
        "type": "outcome",
        "x-outcome": outcome,
        "x-message-id": headers["message_id"],
        "x-queue": topic,
        "x-attempts": "1",
        "x-published-at": headers["x-published-at"],
        "x-settled-at": str(int(time.time() * 1000)),
        "content_type": "application/json",
    }
    if error:
        told["x-error"] = error
    producer.send(
        reply_topic,
        body,
        partition=int(partition),
        headers=[(name, text.encode()) for name, text in told.items()],
    ).get(timeout=30)


for record in consumer:
    headers = {name: value.decode() for name, value in record.headers}
    if record.value == b'"bad"':
        tell(headers, "failed", error="a hole in the cup")
    else:
        tell(headers, "processed", body=record.value.upper())
    # Only now: else what became of it could get lost.
    consumer.commit()
    count -= 1
    if count == 0:
        break
consumer.close()
