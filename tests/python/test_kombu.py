"""kombu over py-amqp: what it looks at in the handshake, and what its users do."""

import socket

import kombu
import pytest
from kombu.pools import producers


@pytest.fixture
def kombu_connection(url):
    with kombu.Connection(url) as connection:
        yield connection


def test_server_presents_itself_as_kombu_expects(kombu_connection):
    kombu_connection.ensure_connection(max_retries=1)
    properties = kombu_connection.connection.server_properties
    assert properties['product'] == 'RabbitMQ'
    version = tuple(int(part) for part in properties['version'].split('.')[:2])
    assert version >= (3, 8)
    capabilities = properties['capabilities']
    for capability in ('publisher_confirms', 'exchange_exchange_bindings', 'basic.nack',
                       'consumer_cancel_notify', 'connection.blocked', 'consumer_priorities',
                       'authentication_failure_close', 'per_consumer_qos', 'direct_reply_to'):
        assert capabilities[capability] is True, capability
    # kombu sets its prefetch with `global` on 3.x and per consumer from 4.0 on.
    per_consumer = kombu_connection.transport.qos_semantics_matches_spec(
        kombu_connection.connection)
    assert per_consumer == (version >= (4, 0))


def test_simple_queue_gives_back_what_was_put(kombu_connection, name):
    queue = kombu_connection.SimpleQueue(name)
    queue.put({'answer': 42, 'list': [1, 2]})
    message = queue.get(timeout=5)
    assert message.payload == {'answer': 42, 'list': [1, 2]}
    message.ack()
    with pytest.raises(queue.Empty):
        queue.get(block=False)
    queue.close()
    queue.queue.delete()


def test_producer_pool_publishes_with_retry_and_declares(kombu_connection, name):
    exchange = kombu.Exchange(name, type='topic', durable=False, auto_delete=True)
    queue = kombu.Queue(name, exchange, routing_key='a.*', durable=False, auto_delete=True)
    received = []
    with kombu_connection.Consumer(queue, callbacks=[lambda body, message: (
            received.append((body, message.delivery_info['routing_key'])), message.ack())]):
        with producers[kombu_connection].acquire(block=True) as producer:
            for key in ('a.one', 'b.two', 'a.three'):
                producer.publish({'key': key}, exchange=exchange, routing_key=key,
                                 declare=[exchange, queue], retry=True, serializer='json')
        while len(received) < 2:
            kombu_connection.drain_events(timeout=5)
        with pytest.raises(socket.timeout):
            kombu_connection.drain_events(timeout=0.2)
    assert received == [({'key': 'a.one'}, 'a.one'), ({'key': 'a.three'}, 'a.three')]


def test_compressed_and_priority_messages_arrive(kombu_connection, name):
    queue = kombu.Queue(name, max_priority=10, durable=True)
    bound = queue(kombu_connection.channel())
    bound.declare()
    # The queue's own channel, so that the gets come after the publishes.
    producer = kombu.Producer(bound.channel)
    for priority in (1, 9, 5):
        producer.publish('x' * 1000, routing_key=name, priority=priority, compression='zlib')
    bodies = [bound.get() for _ in range(3)]
    assert [m.properties['priority'] for m in bodies] == [9, 5, 1]
    assert all(m.payload == 'x' * 1000 for m in bodies)
    for message in bodies:
        message.ack()
    bound.delete()


def test_confirming_transport_option_waits_for_the_broker(url, name):
    with kombu.Connection(url, transport_options={'confirm_publish': True}) as connection:
        queue = connection.SimpleQueue(name)
        for n in range(20):
            queue.put(n)
        assert queue.qsize() == 20
        queue.clear()
        assert queue.qsize() == 0
        queue.queue.delete()


def test_heartbeat_check_keeps_a_connection(url, name):
    with kombu.Connection(url, heartbeat=4) as connection:
        connection.ensure_connection(max_retries=1)
        assert connection.get_heartbeat_interval() == 4
        for _ in range(4):
            connection.heartbeat_check(rate=2)
            with pytest.raises(socket.timeout):
                connection.drain_events(timeout=0.5)
        assert connection.connected


def test_messages_with_ids_are_delivered_as_ever_and_their_outcomes_told(kombu_connection, name):
    channel = kombu_connection.channel()
    queue, answers = (kombu.Queue(n, durable=False, auto_delete=True)(channel)
                      for n in (name, f'{name}-answers'))
    queue.declare()
    answers.declare()
    producer = kombu.Producer(channel)
    for _ in range(2):
        producer.publish({'n': 0}, routing_key=name, message_id='not asked for')
    for end in ('ack', 'reject'):
        producer.publish({'n': 1}, routing_key=name, message_id=end, reply_to=answers.name,
                         headers={'x-notify': 'all'})
    for expected in ('not asked for', 'not asked for', 'ack', 'reject'):
        message = queue.get()
        assert message.properties['message_id'] == expected
        message.reject() if expected == 'reject' else message.ack()
    told = []
    with kombu_connection.Consumer(answers, channel=channel, no_ack=True, on_message=told.append):
        while len(told) < 2:
            kombu_connection.drain_events(timeout=5)
    assert [(m.headers['x-message-id'], m.headers['x-outcome']) for m in told] == [
        ('ack', 'processed'), ('reject', 'failed')]
