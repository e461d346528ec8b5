"""Tracked messages, ids and outcomes after `kill -9`, as docs/outcomes.md says."""

import time

import pika
import pytest
from outcome_rig import ALL, Rig


class Restarted:
    """A broker of the test's own with a durable queue for answers, before and after `kill -9`."""

    def __init__(self, broker, name):
        self.broker = broker
        self.name = name
        self.answers = f'{name}-answers'
        self.open()
        self.rig.channel.queue_declare(self.answers, durable=True)
        self.rig.declare()
        self.rig.channel.confirm_delivery()

    def open(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.broker.url))
        self.rig = Rig(connection.channel(), self.name)

    def publish(self, message_id, queue=None, **headers):
        # Not persistent: that a message is tracked is enough.
        self.rig.channel.basic_publish('', queue or self.name, b'', pika.BasicProperties(
            message_id=message_id, reply_to=self.answers, headers={**ALL, **headers}))

    def kill(self):
        self.broker.kill()
        self.broker.restart()
        self.open()

    def told(self):
        told = self.rig.told(self.answers)
        return told['x-message-id'], told['x-outcome'], told['x-reason'], told.get('x-duplicate')


@pytest.fixture
def restarted(broker, name):
    return Restarted(broker, name)


def test_what_was_told_survives_kill_9_and_so_do_ids(restarted):
    restarted.publish('0')
    restarted.rig.ack()
    deadline = time.monotonic() + 5
    while restarted.rig.count(restarted.answers) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    restarted.kill()
    assert restarted.told() == ('0', 'processed', 'acked', None)
    restarted.publish('0')
    assert restarted.told() == ('0', 'processed', 'acked', True)
    assert restarted.rig.count() == 0


def test_tracked_messages_and_their_deadlines_survive_kill_9(restarted):
    restarted.publish('kept')
    restarted.publish('impatient', **{'x-deadline': 1})
    restarted.kill()
    assert restarted.told() == ('impatient', 'deadline-missed', 'deadline', None)
    assert restarted.rig.count() == 2
    restarted.publish('kept')
    assert restarted.rig.count() == 2
    restarted.rig.ack()
    assert restarted.told() == ('kept', 'processed', 'acked', None)


def test_message_of_a_queue_that_is_gone_after_kill_9_was_dropped(restarted):
    transient = f'{restarted.name}-transient'
    restarted.rig.channel.queue_declare(transient)
    restarted.publish('0', transient)
    restarted.kill()
    assert restarted.told() == ('0', 'dropped', 'queue-deleted', None)
