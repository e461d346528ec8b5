"""What docs/outcomes.md says of outcomes, statement by statement, in pika."""

import pathlib
import time

import pika
import pytest
from outcome_rig import ALL, got

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'outcomes.md').read_text()


def twice_published(rig):
    rig.publish('1')
    rig.publish('2')


@pytest.mark.parametrize('arguments, then, expected', [
    ({}, lambda rig: rig.ack(), ('processed', 'acked')),
    ({}, lambda rig: rig.take(auto_ack=True), ('processed', 'auto-acked')),
    ({}, lambda rig: rig.reject(), ('failed', 'rejected')),
    ({'delivery_limit': 0}, lambda rig: rig.reject(requeue=True), ('failed', 'delivery-limit')),
    ({'message_ttl': 20}, lambda rig: None, ('expired', 'ttl')),
    ({'max_length': 1}, twice_published, ('dropped', 'max-length')),
    ({'max_length': 1, 'overflow': 'reject-publish'}, twice_published, ('dropped', 'refused')),
    ({}, lambda rig: rig.channel.queue_purge(rig.queue), ('dropped', 'purged')),
    ({}, lambda rig: rig.channel.queue_delete(rig.queue), ('dropped', 'queue-deleted')),
    ({'expires': 50}, lambda rig: None, ('dropped', 'queue-deleted')),
    ({'deadline': 20}, lambda rig: None, ('deadline-missed', 'deadline')),
], ids=lambda value: value[1] if isinstance(value, tuple) else '')
def test_each_end_has_its_outcome(rig, arguments, then, expected):
    rig.declare(**arguments)
    rig.publish('0')
    then(rig)
    assert rig.outcome() == expected
    assert all(f'`{word}`' in PAGE for word in expected)


def test_what_reaches_no_queue_is_unroutable_and_comes_back_if_mandatory(rig):
    returned = []
    rig.channel.add_on_return_callback(lambda _, method, *rest: returned.append(method.reply_code))
    rig.publish('0', to='no such queue', mandatory=True)
    told = rig.told()
    assert (told['x-outcome'], told['x-reason'], told['x-queue']) == ('unroutable', 'no-route', '')
    assert told['x-queues'] == 1
    rig.channel.connection.process_data_events(0.1)
    assert returned == [312]


def test_every_header_of_an_outcome_message_is_documented(rig):
    rig.declare(dead_letter_exchange='')
    rig.publish('0', {**ALL, 'x-deadline': 50})
    seen = rig.told().keys() - {'body'}
    rig.publish('0')
    rig.report('0', b'x' * 70_000)
    rig.take(auto_ack=True)
    late = rig.told()
    assert late['x-late'] is late['x-unverified'] is True
    rig.publish('0')
    again = rig.told()
    assert again['x-duplicate'] is True
    rig.publish('1')
    method, _, _ = rig.take()
    rig.report('1', b'x' * 70_000, headers={'x-outcome': 'failed'})
    rig.channel.basic_reject(method.delivery_tag, requeue=False)
    failed = rig.told()
    assert len(failed['x-error']) == 1024 and len(failed['body']) == 65536
    assert failed['x-result-bytes'] == 70_000
    assert failed['x-dead-letter-exchange'] == ''
    for header in seen | late.keys() | again.keys() | failed.keys() - {'body'}:
        assert f'`{header}`' in PAGE or header == 'body', header


def test_properties_of_an_outcome_message(rig):
    rig.declare()
    rig.channel.basic_publish('', rig.queue, b'', pika.BasicProperties(
        message_id='7', correlation_id='mine', reply_to=rig.answers, headers=ALL))
    method, _, _ = rig.take()
    rig.report('7', b'{}', content_type='application/json')
    rig.channel.basic_ack(method.delivery_tag)
    _, properties, body = got(rig.channel, rig.answers)
    assert (properties.type, properties.correlation_id) == ('outcome', 'mine')
    assert properties.message_id == f'processed.{rig.queue}.7'
    assert (properties.delivery_mode, properties.content_type) == (2, 'application/json')
    assert abs(properties.timestamp - time.time()) < 10
    assert body == b'{}'


def test_worker_is_named_by_its_connection_and_consumer(rig, connect):
    rig.declare()
    rig.publish('0')
    worker = connect(client_properties={'connection_name': 'shrinker'}).channel()
    worker.basic_consume(rig.queue, lambda channel, method, *_: channel.basic_ack(
        method.delivery_tag), consumer_tag='one')
    worker.connection.process_data_events(1)
    assert rig.told()['x-worker'] == 'shrinker/one'


@pytest.mark.parametrize('asks, told', [
    ('all', {'processed', 'failed'}), ('processed', {'processed'}), ('failed', {'failed'})])
def test_only_what_was_asked_for_is_told(rig, asks, told):
    rig.declare()
    for message_id, end in (('0', rig.ack), ('1', rig.reject)):
        rig.publish(message_id, {'x-notify': asks})
        end()
    assert {rig.outcome()[0] for _ in told} == told
    assert rig.is_told_nothing()


def test_message_wins_over_its_queue_one_by_one(rig):
    rig.declare(notify='failed', deadline=50)
    rig.publish('0', {'x-notify': 'processed'})
    time.sleep(0.3)
    rig.ack()
    told = rig.told()
    assert (told['x-outcome'], told['x-late']) == ('processed', True)


def test_fan_out_has_an_outcome_per_queue(rig, name):
    rig.declare()
    rig.channel.exchange_declare(name, 'fanout', auto_delete=True)
    other = rig.channel.queue_declare('', exclusive=True).method.queue
    for queue in (rig.queue, other):
        rig.channel.queue_bind(queue, name)
    rig.publish('0', exchange=name)
    rig.ack()
    rig.channel.basic_reject(rig.take(other)[0].delivery_tag, requeue=False)
    told = {(t['x-queue'], t['x-outcome'], t['x-queues']) for t in (rig.told(), rig.told())}
    assert told == {(rig.queue, 'processed', 2), (other, 'failed', 2)}


def test_last_report_counts_and_one_before_a_requeue_is_forgotten(rig):
    rig.declare()
    rig.publish('0')
    method, _, _ = rig.take()
    rig.report('0', b'of the first attempt')
    rig.channel.basic_nack(method.delivery_tag, requeue=True)
    method, _, _ = rig.take()
    rig.channel.basic_ack(method.delivery_tag)
    told = rig.told()
    assert (told['body'], told['x-attempts']) == (b'', 2)

    rig.publish('1')
    method, _, _ = rig.take()
    rig.report('1', b'first')
    rig.report('1', b'last')
    rig.channel.basic_ack(method.delivery_tag)
    assert rig.told()['body'] == b'last'


def test_report_about_what_the_channel_does_not_hold_is_refused(channel):
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish('amq.wilco.report', 'unknown', b'')


@pytest.mark.parametrize('header, value', [
    ('x-notify', 'sometimes'), ('x-notify', True), ('x-confirm-on', 'never'), ('x-deadline', 0),
    ('x-deadline', '5'), ('x-deadline', 315360000001)])
def test_header_without_sense_closes_the_channel(rig, header, value):
    rig.publish('0', {header: value})
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        rig.count(rig.answers)
    assert closed.value.reply_code == 406
    assert f"header '{header}': " in closed.value.reply_text


def test_asking_for_an_answer_to_nowhere_closes_the_channel(channel):
    channel.basic_publish('', 'x', b'', pika.BasicProperties(headers=ALL))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare('', exclusive=True)
    text = 'x-notify needs the property reply_to: the queue to send the outcome to'
    assert text in closed.value.reply_text and text in PAGE


def test_header_of_type_void_asks_for_nothing(rig):
    rig.declare()
    rig.publish('0', {'x-notify': None})
    rig.ack()
    assert rig.is_told_nothing()


def test_dead_letter_copy_asks_for_nothing_and_watchers_see_it(rig):
    dead = rig.channel.queue_declare('', exclusive=True).method.queue
    watched = rig.channel.queue_declare('', exclusive=True).method.queue
    rig.channel.queue_bind(watched, 'amq.wilco.outcomes', f'processed.{dead}')
    rig.declare(dead_letter_exchange='', dead_letter_routing_key=dead)
    rig.publish('0')
    rig.reject()
    assert rig.told()['x-dead-letter-exchange'] == ''
    method, properties, _ = rig.take(dead)
    assert (properties.message_id, properties.headers['x-notify']) == ('0', 'all')
    rig.channel.basic_ack(method.delivery_tag)
    assert rig.told(watched)['x-dead-letter-copy'] is True
    assert rig.is_told_nothing()


def test_only_the_broker_publishes_outcomes(channel):
    channel.basic_publish('amq.wilco.outcomes', 'processed.q', b'')
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare('', exclusive=True)
    assert closed.value.reply_code == 403


def test_transaction_tells_at_its_commit(rig, connection):
    rig.declare()
    rig.publish('0')
    working = connection.channel()
    working.tx_select()
    method, _, _ = got(working, rig.queue)
    working.basic_ack(method.delivery_tag)
    working.tx_rollback()
    assert rig.is_told_nothing()
    working.basic_ack(method.delivery_tag)
    assert rig.is_told_nothing()
    working.tx_commit()
    assert rig.outcome() == ('processed', 'acked')


def test_direct_reply_to_brings_the_workers_reply_and_the_outcome(rig, connection):
    rig.declare()
    replies = []
    asking = connection.channel()
    asking.basic_consume('amq.rabbitmq.reply-to', auto_ack=True, on_message_callback=(
        lambda _, __, properties, body: replies.append((properties.type, body))))
    asking.basic_publish('', rig.queue, b'', pika.BasicProperties(
        message_id='0', reply_to='amq.rabbitmq.reply-to', headers=ALL))
    method, properties, _ = rig.take()
    rig.channel.basic_publish('', properties.reply_to, b'own reply')
    rig.channel.basic_ack(method.delivery_tag)
    deadline = time.monotonic() + 5
    while len(replies) < 2 and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    assert sorted(replies, key=str) == [('outcome', b''), (None, b'own reply')]
