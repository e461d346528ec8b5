"""The mail worker in Python: any AMQP client can take part. It needs pika, and nothing of wilco.

    python mail_worker.py [amqp://guest:guest@localhost] [orders.db]

It acks what it has done, gives back what may work later, and rejects what never will, as workers do
everywhere. What it adds for a wilco server is one message before it rejects: the reason, which the shop
is told.
"""
import json
import sqlite3
import sys
import time

import pika

QUEUE = "placed.mail"
ATTEMPTS = 10
RETRY_AFTER = 1.0  # s


class NoAddress(Exception):
    """The mail can never be sent."""


class Busy(Exception):
    """The mail server does not take it now."""


def confirm(database, order, attempt):
    """Sends the mail: a row whose key keeps it from being sent twice. See src/mail.rs."""
    if "@" not in order["customer"]:
        raise NoAddress(f"'{order['customer']}' is no address")
    if attempt == 1 and order["id"][-1] in "37":
        raise Busy("the mail server is busy")
    database.execute(
        "INSERT INTO mails (order_id, kind, customer, text)"
        " SELECT id, 'confirmation', customer, 'thank you for your order' FROM orders"
        " WHERE id = ? AND state <> 'cancelled' ON CONFLICT (order_id, kind) DO NOTHING",
        (order["id"],))


def work(database, channel, method, properties, body):
    attempt = (properties.headers or {}).get("x-delivery-count", 0) + 1
    try:
        confirm(database, json.loads(body), attempt)
    except (Busy, sqlite3.OperationalError) as error:
        if attempt < ATTEMPTS:
            # Not at once: it would be the same. Meanwhile others of the queue are worked on.
            channel.connection.call_later(RETRY_AFTER, lambda: channel.basic_nack(method.delivery_tag))
        else:
            fail(channel, method, properties, error)
    except Exception as error:
        # Also an order that cannot be read: it fails alone.
        fail(channel, method, properties, error)
    else:
        channel.basic_ack(method.delivery_tag)


def fail(channel, method, properties, error):
    # Before the reject, on the same channel.
    channel.basic_publish("amq.wilco.report", properties.message_id, str(error),
                          pika.BasicProperties(headers={"x-outcome": "failed"}))
    channel.basic_reject(method.delivery_tag, requeue=False)


def run(url, database):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        # There only on a wilco server. Elsewhere nobody would tell the shop what became of its orders:
        # the library's own workers do.
        channel.exchange_declare("amq.wilco.report", passive=True)
        # As the library does, with the same arguments: whoever is first makes them.
        channel.exchange_declare("placed", "fanout", durable=True)
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(QUEUE, "placed")
        channel.basic_qos(prefetch_count=16)
        channel.basic_consume(QUEUE, lambda *delivery: work(database, *delivery))
        print("mail: waiting for orders", flush=True)
        channel.start_consuming()
    finally:
        if connection.is_open:
            connection.close()


def main(url="amqp://guest:guest@localhost", path="orders.db"):
    # Without transactions of its own: each statement is one.
    database = sqlite3.connect(path, timeout=10, isolation_level=None)
    while True:
        try:
            run(url, database)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                sys.exit("this is no wilco server; use the mail worker in Rust, see README.md")
            raise
        except pika.exceptions.AMQPError as error:
            # The broker is away. What was not acked is still in the queue, or with the next worker.
            print(f"mail: {error!r}; connecting again", flush=True)
            time.sleep(0.5)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
