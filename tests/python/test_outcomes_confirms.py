"""Confirms that wait for an ack: the publisher's, and the worker's for its report."""

import time
from urllib.parse import urlsplit

import amqp
import pika
import pytest
from outcome_rig import ALL, got


def confirm(rig, message_id, **how):
    """Whether a message with `x-confirm-on: ack` is acked, and after how long."""
    started = time.monotonic()
    try:
        rig.publish(message_id, {'x-confirm-on': 'ack', 'x-deadline': 300}, **how)
        return True, time.monotonic() - started
    except pika.exceptions.NackError:
        return False, time.monotonic() - started


def test_confirm_on_ack_is_refused_at_the_deadline_and_without_a_queue(rig):
    rig.declare()
    rig.channel.confirm_delivery()
    is_acked, seconds = confirm(rig, '0')
    assert not is_acked and 0.3 <= seconds < 3
    is_acked, seconds = confirm(rig, '1', to='no such queue')
    assert not is_acked and seconds < 0.3


def test_duplicate_is_confirmed_on_ack_as_its_original_turned_out(rig):
    rig.declare()
    rig.channel.confirm_delivery()
    for message_id, end in (('0', rig.ack), ('1', rig.reject)):
        rig.publish(message_id)
        end()
    assert confirm(rig, '0')[0] is True
    assert confirm(rig, '1')[0] is False


@pytest.fixture
def confirming(url):
    """A channel in confirm mode whose client does not block, and the confirms that came."""
    with amqp.Connection(urlsplit(url).netloc.rpartition('@')[2]) as connection:
        channel = connection.channel()
        channel.confirm_select()
        confirms = {}
        for kind in ('basic_ack', 'basic_nack'):
            channel.events[kind].add(lambda tag, multiple, *_, kind=kind: confirms.update(
                {t: kind for t in (range(1, tag + 1) if multiple else [tag]) if t not in confirms}))
        yield channel, confirms


def drain(channel, until, seconds=5):
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        try:
            channel.connection.drain_events(timeout=0.05)
        except TimeoutError:
            pass
    assert until()


def test_later_messages_are_confirmed_before_one_that_is_held(rig, confirming):
    rig.declare()
    channel, confirms = confirming
    held = amqp.Message('', message_id='0', application_headers={'x-confirm-on': 'ack'})
    channel.basic_publish(held, '', rig.queue)
    for _ in range(3):
        channel.basic_publish(amqp.Message(''), '', rig.queue)
    drain(channel, lambda: len(confirms) == 3)
    assert confirms == dict.fromkeys((2, 3, 4), 'basic_ack')
    rig.ack()
    drain(channel, lambda: confirms.get(1) == 'basic_ack')


def test_fan_out_is_confirmed_when_processed_everywhere(rig, confirming, name):
    rig.declare()
    rig.channel.exchange_declare(name, 'fanout', auto_delete=True)
    other = rig.channel.queue_declare('', exclusive=True).method.queue
    for queue in (rig.queue, other):
        rig.channel.queue_bind(queue, name)
    channel, confirms = confirming
    for n in range(2):
        channel.basic_publish(amqp.Message('', application_headers={'x-confirm-on': 'ack'}), name)
    rig.ack(other)
    rig.channel.basic_reject(rig.take(other)[0].delivery_tag, requeue=False)
    time.sleep(0.2)
    assert not confirms
    rig.ack()
    rig.ack()
    drain(channel, lambda: confirms == {1: 'basic_ack', 2: 'basic_nack'})


@pytest.mark.parametrize('headers, end, expected', [
    (ALL, lambda rig, tag: rig.channel.basic_ack(tag), 'basic_ack'),
    (ALL, lambda rig, tag: rig.channel.basic_reject(tag, requeue=False), 'basic_nack'),
    ({}, None, 'basic_nack')], ids=['acked', 'rejected', 'nobody asked'])
def test_workers_confirm_says_whether_the_producer_has_it(rig, confirming, headers, end, expected):
    rig.declare()
    rig.publish('0', headers)
    channel, confirms = confirming
    message = None
    while message is None:
        message = channel.basic_get(rig.queue)
    report = amqp.Message('result', application_headers={'x-confirm-on': 'ack'})
    channel.basic_publish(report, 'amq.wilco.report', '0')
    channel.basic_ack(message.delivery_tag)
    if end:
        answer, _, body = got(rig.channel, rig.answers)
        assert body == b'result'
        drain(channel, lambda: True)
        assert not confirms
        end(rig, answer.delivery_tag)
        rig.count()
    drain(channel, lambda: confirms == {1: expected})


def test_workers_confirm_comes_at_the_latest_at_the_reports_deadline(rig, confirming):
    rig.declare()
    rig.publish('0')
    channel, confirms = confirming
    message = None
    while message is None:
        message = channel.basic_get(rig.queue)
    report = amqp.Message('', application_headers={'x-confirm-on': 'ack', 'x-deadline': 200})
    channel.basic_publish(report, 'amq.wilco.report', '0')
    channel.basic_ack(message.delivery_tag)
    drain(channel, lambda: confirms == {1: 'basic_nack'})
