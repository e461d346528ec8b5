"""What docs/outcomes.md says of outcomes, statement by statement, in pika."""

import pathlib
import time
from urllib.parse import urlsplit

import amqp
import pika
import pytest

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'outcomes.md').read_text()
ALL = {'x-notify': 'all'}


class Rig:
    """One channel that publishes, works and is told, with a queue of its own for each test."""

    def __init__(self, channel, name):
        self.channel = channel
        self.queue = name
        self.answers = channel.queue_declare('', exclusive=True).method.queue

    def declare(self, **arguments):
        arguments = {f'x-{key.replace("_", "-")}': value for key, value in arguments.items()}
        self.channel.queue_declare(self.queue, durable=True, arguments=arguments)

    def publish(self, message_id, headers=ALL, to=None, exchange='', reply_to=None, mandatory=False):
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


@pytest.fixture
def rig(channel, name):
    made = Rig(channel, name)
    yield made
    if channel.is_open:
        channel.queue_delete(name)


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
    assert len(failed['x-error']) == 65536 and failed['x-result-bytes'] == 70_000
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
    ('x-deadline', '5'), ('x-deadline', 4294967296)])
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
    assert closed.value.reply_text in PAGE or '`x-notify needs the property reply_to' in PAGE


def test_header_of_type_void_asks_for_nothing(rig):
    rig.declare()
    rig.publish('0', {'x-notify': None})
    rig.ack()
    assert rig.is_told_nothing()


@pytest.mark.parametrize('arguments, headers, count', [
    ({}, ALL, 1), ({}, {}, 2), ({'message_deduplication': True}, {}, 1),
    ({'message_deduplication': False}, ALL, 2), ({'notify': 'all'}, {}, 2)])
def test_messages_that_ask_or_whose_queue_wants_it_are_looked_for(rig, arguments, headers, count):
    rig.declare(**arguments)
    rig.publish('0', headers)
    rig.publish('0', headers)
    assert rig.count() == count


def test_id_is_forgotten_after_the_queues_time(rig):
    rig.declare(cache_ttl=300)
    rig.publish('0')
    rig.publish('0')
    assert rig.count() == 1
    time.sleep(0.4)
    rig.publish('0')
    assert rig.count() == 2


def test_refused_message_may_come_again(rig):
    rig.declare(max_length=1, overflow='reject-publish')
    twice_published(rig)
    assert rig.outcome() == ('dropped', 'refused')
    rig.ack()
    assert rig.outcome()[0] == 'processed'
    rig.publish('2')
    rig.ack()
    assert rig.outcome()[0] == 'processed'


def test_duplicate_with_another_address_is_told_there_too(rig):
    rig.declare()
    other = rig.channel.queue_declare('', exclusive=True).method.queue
    rig.publish('0')
    rig.publish('0', reply_to=other)
    rig.ack()
    assert 'x-duplicate' not in rig.told()
    assert rig.told(other)['x-duplicate'] is True
    assert rig.is_told_nothing() and rig.is_told_nothing(other)


@pytest.mark.xfail(reason='only the original counts where both have the same address')
@pytest.mark.parametrize('first', [{}, {'x-notify': 'failed'}], ids=['nothing', 'less'])
def test_duplicate_is_told_what_its_original_did_not_ask_for(rig, first):
    rig.declare(message_deduplication=True)
    rig.publish('0', first)
    rig.publish('0')
    rig.ack()
    assert rig.outcome() == ('processed', 'acked')
    assert rig.is_told_nothing()


@pytest.mark.xfail(reason='what left its queue after its deadline counts as still there')
def test_duplicate_of_what_failed_after_its_deadline_is_answered(rig):
    rig.declare()
    rig.publish('0', {**ALL, 'x-deadline': 20})
    assert rig.outcome() == ('deadline-missed', 'deadline')
    rig.reject()
    assert rig.is_told_nothing()
    rig.publish('0')
    assert rig.outcome() == ('deadline-missed', 'deadline')


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
