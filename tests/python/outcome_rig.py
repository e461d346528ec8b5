"""What tests of outcomes publish, work and are told with."""

import time

import pika

ALL = {'x-notify': 'all'}


class Rig:
    """One channel that publishes, works and is told, with a queue of its own for each test."""

    def __init__(self, channel, name):
        self.channel = channel
        self.queue = name
        self.answers = channel.queue_declare('', exclusive=True).method.queue

    def declare(self, **arguments):
        arguments = {'x-' + name.replace('_', '-'): value for name, value in arguments.items()}
        self.channel.queue_declare(self.queue, durable=True, arguments=arguments)

    def publish(self, message_id, headers=ALL, to=None, exchange='', reply_to=None,
                mandatory=False):
        to = self.queue if to is None else to
        self.channel.basic_publish(exchange, to, b'work', pika.BasicProperties(
            message_id=message_id, reply_to=reply_to or self.answers, headers=headers,
            delivery_mode=2), mandatory=mandatory)

    def take(self, queue=None, **how):
        return got(self.channel, queue or self.queue, **how)

    def ack(self, queue=None):
        self.channel.basic_ack(self.take(queue)[0].delivery_tag)

    def reject(self, requeue=False):
        self.channel.basic_reject(self.take()[0].delivery_tag, requeue=requeue)

    def report(self, message_id, body, **properties):
        self.channel.basic_publish('amq.wilco.report', message_id, body,
                                   pika.BasicProperties(**properties))

    def told(self, queue=None):
        """Headers of the next outcome message, with its body."""
        _, properties, body = got(self.channel, queue or self.answers, auto_ack=True)
        return {**properties.headers, 'body': body}

    def outcome(self):
        told = self.told()
        return told['x-outcome'], told['x-reason']

    def is_told_nothing(self, queue=None):
        time.sleep(0.2)
        return self.channel.basic_get(queue or self.answers, auto_ack=True)[0] is None

    def count(self, queue=None):
        return self.channel.queue_declare(queue or self.queue, passive=True).method.message_count


def got(channel, queue, seconds=5, **how):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        method, properties, body = channel.basic_get(queue, **how)
        if method:
            return method, properties, body
        time.sleep(0.01)
    raise AssertionError(f'nothing came to {queue}')
