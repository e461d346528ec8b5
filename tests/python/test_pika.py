"""What pika's users do, each as a test. All of it passes on RabbitMQ 3.10 too."""

import time

import pika
import pytest
from pika import exceptions as failures


def collect(channel, queue, count, seconds=10, **options):
    """Consumes until `count` messages came, acknowledging each."""
    received = []
    for method, properties, body in channel.consume(queue, inactivity_timeout=seconds, **options):
        if method is None:
            break
        received.append((method, properties, body))
        if not options.get('auto_ack'):
            channel.basic_ack(method.delivery_tag)
        if len(received) == count:
            break
    channel.cancel()
    return received


def bodies(received):
    return [body for _, _, body in received]


def ready_count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'it did not come to pass'
        time.sleep(0.05)


# Publishing and confirms


def test_confirmed_publish_to_a_queue_returns(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish('', name, b'x', mandatory=True)
    assert ready_count(channel, name) == 1


def test_mandatory_publish_to_nowhere_raises_with_the_message(channel, name):
    channel.confirm_delivery()
    with pytest.raises(failures.UnroutableError) as raised:
        channel.basic_publish('', name, b'lost', pika.BasicProperties(message_id='m'),
                              mandatory=True)
    (returned,) = raised.value.messages
    assert (returned.method.reply_code, returned.method.reply_text) == (312, 'NO_ROUTE')
    assert (returned.method.exchange, returned.method.routing_key) == ('', name)
    assert (returned.properties.message_id, returned.body) == ('m', b'lost')


def test_unmandatory_publish_to_nowhere_is_confirmed(channel, name):
    channel.confirm_delivery()
    channel.basic_publish('', name, b'lost')


def test_publish_to_a_missing_exchange_closes_the_channel_only(connection, name):
    channel = connection.channel()
    channel.confirm_delivery()
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        channel.basic_publish(name, 'key', b'x')
    assert closed.value.reply_code == 404
    assert closed.value.reply_text == f"NOT_FOUND - no exchange '{name}' in vhost '/'"
    assert connection.is_open
    connection.channel().queue_declare('', exclusive=True)


def test_overflowing_reject_publish_queue_nacks(channel, name):
    channel.queue_declare(name, exclusive=True,
                          arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})
    channel.confirm_delivery()
    channel.basic_publish('', name, b'fits')
    with pytest.raises(failures.NackError):
        channel.basic_publish('', name, b'does not')
    assert ready_count(channel, name) == 1


def test_full_drop_head_queue_keeps_the_newest(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={'x-max-length': 2})
    for n in range(5):
        channel.basic_publish('', name, b'%d' % n)
    assert bodies(collect(channel, name, 2)) == [b'3', b'4']


def test_body_of_five_megabytes_comes_back_whole(channel, name):
    channel.queue_declare(name, exclusive=True)
    body = bytes(range(256)) * (5 * 4096)
    channel.basic_publish('', name, body)
    assert bodies(collect(channel, name, 1)) == [body]


def test_every_property_and_header_type_comes_back(channel, name):
    channel.queue_declare(name, exclusive=True)
    headers = {'bool': True, 'int': 1 << 20, 'long': 1 << 40, 'negative': -5, 'text': 'grüße',
               'bytes': 'plain', 'list': [1, 'two', {'three': 3}], 'table': {'a': {'b': None}},
               'none': None}
    sent = pika.BasicProperties(
        content_type='text/plain', content_encoding='utf-8', headers=headers, delivery_mode=2,
        priority=7, correlation_id='c', reply_to='r', expiration='60000', message_id='m',
        timestamp=1700000000, type='t', user_id='guest', app_id='a', cluster_id='cl')
    channel.basic_publish('', name, b'', sent)
    ((_, received, body),) = collect(channel, name, 1)
    assert body == b''
    assert received == sent


def test_foreign_user_id_is_refused(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        channel.basic_publish('', name, b'x', pika.BasicProperties(user_id='somebody'))
    assert closed.value.reply_code == 406


# Getting and consuming


def test_basic_get_answers_a_message_or_nothing(channel, name):
    channel.queue_declare(name, exclusive=True)
    assert channel.basic_get(name) == (None, None, None)
    channel.basic_publish('', name, b'one')
    channel.basic_publish('', name, b'two')
    method, _, body = channel.basic_get(name)
    assert (body, method.message_count, method.redelivered) == (b'one', 1, False)
    channel.basic_nack(method.delivery_tag)
    method, _, body = channel.basic_get(name, auto_ack=True)
    assert (body, method.redelivered) == (b'one', True)


def test_consume_yields_nothing_after_the_inactivity_timeout(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish('', name, b'one')
    answers = []
    for answer in channel.consume(name, inactivity_timeout=0.3, auto_ack=True):
        answers.append(answer[2])
        if answer[0] is None:
            break
    assert answers == [b'one', None]
    assert channel.cancel() == 0


def test_prefetch_bounds_the_unacknowledged(connection, channel, name):
    channel.queue_declare(name)
    for n in range(5):
        channel.basic_publish('', name, b'%d' % n)
    channel.basic_qos(prefetch_count=2)
    received = []
    channel.basic_consume(name, lambda ch, method, *_: received.append(method.delivery_tag))
    connection.sleep(0.5)
    assert received == [1, 2]
    channel.basic_ack(2, multiple=True)
    connection.sleep(0.5)
    assert received == [1, 2, 3, 4]
    channel.close()
    other = connection.channel()
    assert ready_count(other, name) == 3
    other.queue_delete(name)


def test_two_consumers_share_a_queue(connection, name):
    publisher = connection.channel()
    publisher.queue_declare(name, exclusive=True)
    shares = {}
    for worker in ('a', 'b'):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        shares[worker] = []

        def work(ch, method, _, body, share=shares[worker]):
            share.append(body)
            ch.basic_ack(method.delivery_tag)

        channel.basic_consume(name, work)
    for n in range(20):
        publisher.basic_publish('', name, b'%d' % n)
    wait_until(lambda: connection.sleep(0.1) or sum(map(len, shares.values())) == 20)
    assert all(len(share) >= 5 for share in shares.values())


def test_rejected_message_returns_to_its_place(channel, name):
    channel.queue_declare(name, exclusive=True)
    for body in (b'1', b'2', b'3'):
        channel.basic_publish('', name, body)
    method, _, _ = channel.basic_get(name)
    channel.basic_reject(method.delivery_tag, requeue=True)
    assert [(body, method.redelivered) for method, _, body in collect(channel, name, 3)] == [
        (b'1', True), (b'2', False), (b'3', False)]


def test_recover_redelivers_the_unacknowledged(connection, channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish('', name, b'x')
    seen = []
    channel.basic_consume(name, lambda ch, method, _, body: seen.append(method.redelivered))
    connection.sleep(0.3)
    channel.basic_recover(requeue=True)
    connection.sleep(0.3)
    assert seen == [False, True]


def test_closing_the_channel_requeues_what_it_held(connection, name):
    holder = connection.channel()
    holder.queue_declare(name, exclusive=True)
    holder.basic_publish('', name, b'x')
    assert holder.basic_get(name)[2] == b'x'
    holder.close()
    method, _, body = connection.channel().basic_get(name, auto_ack=True)
    assert (body, method.redelivered) == (b'x', True)


def test_unknown_delivery_tag_closes_the_channel(connection):
    channel = connection.channel()
    channel.basic_ack(99)
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        channel.queue_declare('', exclusive=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == 'PRECONDITION_FAILED - unknown delivery tag 99'


def test_deleted_queue_cancels_its_consumer(connection, name):
    channel = connection.channel()
    channel.queue_declare(name)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(name, lambda *_: None)
    connection.channel().queue_delete(name)
    connection.sleep(0.5)
    assert cancelled == [tag]
    assert channel.is_open


def test_exclusive_consumer_keeps_others_out(connection, name):
    connection.channel().queue_declare(name, exclusive=True)
    connection.channel().basic_consume(name, lambda *_: None, exclusive=True)
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().basic_consume(name, lambda *_: None)
    assert closed.value.reply_code == 403


def test_higher_consumer_priority_is_served_first(connection, channel, name):
    channel.queue_declare(name, exclusive=True)
    seen = []
    for priority in (1, 10):
        channel.basic_consume(name, lambda *_, p=priority: seen.append(p), auto_ack=True,
                              arguments={'x-priority': priority})
    for _ in range(4):
        channel.basic_publish('', name, b'x')
    connection.sleep(0.5)
    assert seen == [10] * 4


def test_single_active_consumer_hands_over(connection, channel, name):
    channel.queue_declare(name, exclusive=True, arguments={'x-single-active-consumer': True})
    seen = []
    first = channel.basic_consume(name, lambda *_: seen.append('first'), auto_ack=True)
    channel.basic_consume(name, lambda *_: seen.append('second'), auto_ack=True)
    for _ in range(2):
        channel.basic_publish('', name, b'x')
    connection.sleep(0.3)
    channel.basic_cancel(first)
    channel.basic_publish('', name, b'x')
    connection.sleep(0.3)
    assert seen == ['first', 'first', 'second']


# Queues


def test_server_names_queues(channel):
    first = channel.queue_declare('', exclusive=True).method.queue
    second = channel.queue_declare('', exclusive=True).method.queue
    assert first.startswith('amq.gen-') and second.startswith('amq.gen-') and first != second
    channel.basic_publish('', second, b'x')
    # An empty name stands for the channel's last declared queue.
    assert channel.basic_get('', auto_ack=True)[2] == b'x'


def test_exclusive_queue_is_locked_to_its_connection_and_dies_with_it(connect, name):
    owner, other = connect(), connect()
    owner.channel().queue_declare(name, exclusive=True)
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        other.channel().queue_declare(name, passive=True)
    assert closed.value.reply_code == 405
    owner.close()
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        other.channel().queue_declare(name, passive=True)
    assert closed.value.reply_code == 404


def test_auto_delete_queue_goes_with_its_last_consumer(connection, channel, name):
    channel.queue_declare(name, auto_delete=True)
    tag = channel.basic_consume(name, lambda *_: None)
    channel.basic_cancel(tag)
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().queue_declare(name, passive=True)
    assert closed.value.reply_code == 404


def test_passive_declare_of_nothing_leaves_the_connection_alive(connection, name):
    for declare in ('queue_declare', 'exchange_declare'):
        with pytest.raises(failures.ChannelClosedByBroker) as closed:
            getattr(connection.channel(), declare)(name, passive=True)
        assert closed.value.reply_code == 404
    assert connection.is_open
    connection.channel().queue_declare(name, exclusive=True)


def test_unequal_redeclaration_is_refused(connection, name):
    connection.channel().queue_declare(name, exclusive=True, arguments={'x-max-length': 5})
    connection.channel().queue_declare(name, exclusive=True, arguments={'x-max-length': 5})
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().queue_declare(name, exclusive=True, arguments={'x-max-length': 6})
    assert closed.value.reply_code == 406
    assert closed.value.reply_text.startswith(
        f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/'")


def test_delete_if_unused_and_if_empty_are_honoured(connection, name):
    channel = connection.channel()
    channel.queue_declare(name)
    channel.basic_publish('', name, b'x')
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().queue_delete(name, if_empty=True)
    assert closed.value.reply_code == 406
    tag = channel.basic_consume(name, lambda *_: None)
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().queue_delete(name, if_unused=True)
    assert closed.value.reply_code == 406
    channel.basic_cancel(tag)
    channel.close()
    assert connection.channel().queue_delete(name).method.message_count == 1


def test_purge_counts_what_it_removed(channel, name):
    channel.queue_declare(name, exclusive=True)
    for _ in range(3):
        channel.basic_publish('', name, b'x')
    assert channel.queue_purge(name).method.message_count == 3
    assert ready_count(channel, name) == 0


def test_priority_queue_serves_the_highest_first(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={'x-max-priority': 10})
    for n, priority in enumerate((1, 5, 10, 5, None, 99)):
        channel.basic_publish('', name, b'%d' % n, pika.BasicProperties(priority=priority))
    # Above the maximum counts as the maximum; none counts as nought.
    assert bodies(collect(channel, name, 6)) == [b'2', b'5', b'1', b'3', b'0', b'4']


def test_idle_queue_expires(connection, channel, name):
    channel.queue_declare(name, arguments={'x-expires': 300})
    time.sleep(1)
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().queue_declare(name, passive=True)
    assert closed.value.reply_code == 404


# Time to live and dead letters


def dead_letter_pair(channel, name, **arguments):
    """A queue that dead-letters to `name-dead`; answers both names."""
    dead = f'{name}-dead'
    channel.queue_declare(dead, exclusive=True)
    channel.queue_declare(name, exclusive=True, arguments={
        'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead, **arguments})
    return name, dead


def check_death_headers(channel, headers, reason, queue, exchange=''):
    first = {'queue': queue, 'reason': reason, 'exchange': exchange}
    assert {k: headers[f'x-first-death-{k}'] for k in first} == first
    version = channel.connection._impl.server_properties['version']
    if int(version.split('.')[0]) >= 4:  # RabbitMQ writes the last death since 3.13.
        assert {k: headers[f'x-last-death-{k}'] for k in first} == first


def test_expired_message_is_dead_lettered_with_its_story(channel, name):
    queue, dead = dead_letter_pair(channel, name, **{'x-message-ttl': 200})
    channel.basic_publish('', queue, b'late', pika.BasicProperties(headers={'mine': 1}))
    ((method, properties, body),) = collect(channel, dead, 1)
    assert (body, method.exchange, method.routing_key) == (b'late', '', dead)
    (death,) = properties.headers['x-death']
    assert abs(death.pop('time').timestamp() - time.time()) < 30 * 3600
    assert death == {'count': 1, 'reason': 'expired', 'queue': queue, 'exchange': '',
                     'routing-keys': [queue]}
    assert properties.headers['mine'] == 1
    check_death_headers(channel, properties.headers, 'expired', queue)


def test_message_ttl_moves_to_the_death_record(channel, name):
    queue, dead = dead_letter_pair(channel, name)
    channel.basic_publish('', queue, b'late', pika.BasicProperties(expiration='100'))
    ((_, properties, _),) = collect(channel, dead, 1)
    assert properties.expiration is None
    assert properties.headers['x-death'][0]['original-expiration'] == '100'
    assert properties.headers['x-death'][0]['reason'] == 'expired'


def test_rejected_message_is_dead_lettered(channel, name):
    queue, dead = dead_letter_pair(channel, name)
    channel.basic_publish('', queue, b'bad')
    method, _, _ = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=False)
    ((_, properties, body),) = collect(channel, dead, 1)
    assert body == b'bad'
    assert properties.headers['x-death'][0]['reason'] == 'rejected'
    check_death_headers(channel, properties.headers, 'rejected', queue)


def test_overflow_dead_letters_the_head(channel, name):
    queue, dead = dead_letter_pair(channel, name, **{'x-max-length': 1})
    channel.basic_publish('', queue, b'old')
    channel.basic_publish('', queue, b'new')
    ((_, properties, body),) = collect(channel, dead, 1)
    assert body == b'old'
    assert properties.headers['x-death'][0]['reason'] == 'maxlen'
    check_death_headers(channel, properties.headers, 'maxlen', queue)


def test_repeated_death_in_one_queue_is_counted(channel, name):
    channel.queue_declare(f'{name}-wait', exclusive=True, arguments={
        'x-message-ttl': 20, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': name})
    channel.queue_declare(name, exclusive=True, arguments={
        'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': f'{name}-wait'})
    channel.basic_publish('', name, b'x')
    for expected in (0, 1, 2, 3):
        wait_until(lambda: ready_count(channel, name) == 1)
        method, properties, _ = channel.basic_get(name)
        deaths = (properties.headers or {}).get('x-death', [])
        assert sum(d['count'] for d in deaths if d['reason'] == 'rejected') == expected
        channel.basic_nack(method.delivery_tag, requeue=False)


def test_history_that_a_client_publishes_does_not_count(channel, name):
    queue, dead = dead_letter_pair(channel, name)
    channel.basic_publish('', queue, b'x')
    for _ in range(3):
        method, _, _ = channel.basic_get(queue)
        channel.basic_nack(method.delivery_tag, requeue=False)
        wait_until(lambda: ready_count(channel, dead) == 1)
        _, properties, body = channel.basic_get(dead, auto_ack=True)
        (death,) = properties.headers['x-death']
        assert (death['count'], death['reason']) == (1, 'rejected')
        channel.basic_publish('', queue, body, properties)


def test_deaths_in_two_queues_are_listed_newest_first(channel, name):
    end = f'{name}-end'
    channel.queue_declare(end, exclusive=True)
    channel.queue_declare(f'{name}-wait', exclusive=True, arguments={
        'x-message-ttl': 100, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': end})
    channel.queue_declare(name, exclusive=True, arguments={
        'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': f'{name}-wait'})
    channel.basic_publish('', name, b'x')
    method, _, _ = channel.basic_get(name)
    channel.basic_nack(method.delivery_tag, requeue=False)
    ((_, properties, _),) = collect(channel, end, 1)
    assert [(d['queue'], d['reason']) for d in properties.headers['x-death']] == [
        (f'{name}-wait', 'expired'), (name, 'rejected')]
    assert properties.headers['x-first-death-queue'] == name


def test_dead_letter_cycle_without_rejection_is_dropped(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={
        'x-message-ttl': 50, 'x-dead-letter-exchange': ''})
    channel.basic_publish('', name, b'x')
    time.sleep(0.5)
    assert ready_count(channel, name) == 0


def test_dead_letter_exchange_keeps_the_routing_key(channel, name):
    channel.exchange_declare(name, 'fanout', auto_delete=True)
    channel.queue_declare(f'{name}-dead', exclusive=True)
    channel.queue_bind(f'{name}-dead', name)
    channel.queue_declare(name, exclusive=True, arguments={'x-dead-letter-exchange': name})
    channel.basic_publish('', name, b'x', pika.BasicProperties(expiration='0'))
    ((method, _, _),) = collect(channel, f'{name}-dead', 1)
    assert (method.exchange, method.routing_key) == (name, name)


# Exchanges


def test_topic_exchange_matches_words(channel, name):
    channel.exchange_declare(name, 'topic', auto_delete=True)
    for pattern, keys in {'a.*': ['a.b'], 'a.#': ['a', 'a.b', 'a.b.c'], '#.c': ['a.b.c']}.items():
        channel.queue_declare(f'{name}-{pattern}', exclusive=True)
        channel.queue_bind(f'{name}-{pattern}', name, pattern)
    for key in ('a', 'a.b', 'a.b.c', 'x'):
        channel.basic_publish(name, key, key.encode())
    for pattern, keys in {'a.*': ['a.b'], 'a.#': ['a', 'a.b', 'a.b.c'], '#.c': ['a.b.c']}.items():
        received = collect(channel, f'{name}-{pattern}', len(keys) + 1, seconds=0.2)
        assert [body.decode() for body in bodies(received)] == keys


@pytest.mark.parametrize('match, headers, routed', [
    ('all', {'a': 1, 'b': 'x'}, True), ('all', {'a': 1}, False), ('all', {'a': 2, 'b': 'x'}, False),
    ('any', {'a': 1}, True), ('any', {'b': 'x', 'c': 0}, True), ('any', {'c': 0}, False),
])
def test_headers_exchange_matches(channel, name, match, headers, routed):
    channel.exchange_declare(name, 'headers', auto_delete=True)
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, name, arguments={'x-match': match, 'a': 1, 'b': 'x'})
    channel.confirm_delivery()
    channel.basic_publish(name, '', b'x', pika.BasicProperties(headers=headers))
    assert ready_count(channel, name) == routed


def test_bound_exchanges_pass_messages_on(channel, name):
    channel.exchange_declare(f'{name}-in', 'direct')
    channel.exchange_declare(f'{name}-out', 'fanout', auto_delete=True)
    channel.exchange_bind(f'{name}-out', f'{name}-in', 'key')
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, f'{name}-out')
    channel.basic_publish(f'{name}-in', 'key', b'through')
    channel.basic_publish(f'{name}-in', 'other', b'lost')
    ((method, _, body),) = collect(channel, name, 2, seconds=0.3)
    assert (method.exchange, method.routing_key, body) == (f'{name}-in', 'key', b'through')
    channel.exchange_unbind(f'{name}-out', f'{name}-in', 'key')
    channel.basic_publish(f'{name}-in', 'key', b'lost')
    assert ready_count(channel, name) == 0
    channel.exchange_delete(f'{name}-in')


def test_alternate_exchange_takes_what_is_not_routed(channel, name):
    channel.exchange_declare(f'{name}-alternate', 'fanout', auto_delete=True)
    channel.exchange_declare(name, 'direct', auto_delete=True,
                             arguments={'alternate-exchange': f'{name}-alternate'})
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, f'{name}-alternate')
    channel.confirm_delivery()
    channel.basic_publish(name, 'nowhere', b'caught', mandatory=True)
    assert bodies(collect(channel, name, 1)) == [b'caught']
    channel.exchange_delete(name)


def test_cc_and_bcc_route_too_and_bcc_is_removed(channel, name):
    for suffix in ('a', 'b', 'c'):
        channel.queue_declare(f'{name}-{suffix}', exclusive=True)
    channel.basic_publish('', f'{name}-a', b'x', pika.BasicProperties(
        headers={'CC': [f'{name}-b'], 'BCC': [f'{name}-c']}))
    for suffix in ('a', 'b', 'c'):
        ((_, properties, _),) = collect(channel, f'{name}-{suffix}', 1)
        assert properties.headers == {'CC': [f'{name}-b']}


def test_predeclared_exchanges_are_there_and_reserved_names_refused(connection, name):
    channel = connection.channel()
    for exchange in ('amq.direct', 'amq.fanout', 'amq.topic', 'amq.headers', 'amq.match'):
        channel.exchange_declare(exchange, passive=True)
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        channel.exchange_declare(f'amq.{name}')
    assert closed.value.reply_code == 403


def test_internal_exchange_takes_no_publish(connection, name):
    channel = connection.channel()
    channel.exchange_declare(name, internal=True, auto_delete=True)
    channel.confirm_delivery()
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        channel.basic_publish(name, '', b'x')
    assert closed.value.reply_code == 403
    connection.channel().exchange_delete(name)


def test_unknown_exchange_type_closes_the_channel(connection, name):
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().exchange_declare(name, 'x-no-such-type')
    assert closed.value.reply_code == 406
    assert connection.is_open


# Transactions and requests


def test_transaction_shows_on_commit_and_vanishes_on_rollback(connection, channel, name):
    channel.queue_declare(name, exclusive=True)
    watcher = connection.channel()
    channel.tx_select()
    channel.basic_publish('', name, b'one')
    assert ready_count(watcher, name) == 0
    channel.tx_rollback()
    channel.basic_publish('', name, b'two')
    channel.tx_commit()
    assert bodies(collect(watcher, name, 2, seconds=0.3)) == [b'two']


def test_acknowledgement_in_a_transaction_waits_for_the_commit(connection, name):
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish('', name, b'x')
    channel.tx_select()
    method, _, _ = channel.basic_get(name)
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.close()
    assert ready_count(connection.channel(), name) == 1


def test_commit_without_select_is_refused(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        channel.tx_select()
    assert closed.value.reply_code == 406


def test_direct_reply_to_answers_a_request(connect, name):
    client, server = connect(), connect()
    service = server.channel()
    service.queue_declare(name, auto_delete=True)

    def serve(ch, method, properties, body):
        assert properties.reply_to.startswith('amq.rabbitmq.reply-to.')
        ch.basic_publish('', properties.reply_to, body.upper(),
                         pika.BasicProperties(correlation_id=properties.correlation_id))

    service.basic_consume(name, serve, auto_ack=True)
    requests = client.channel()
    replies = []
    requests.basic_consume('amq.rabbitmq.reply-to', lambda _ch, _method, properties, body:
                           replies.append((properties.correlation_id, body)), auto_ack=True)
    for n in range(3):
        requests.basic_publish('', name, b'call %d' % n, pika.BasicProperties(
            reply_to='amq.rabbitmq.reply-to', correlation_id=str(n)))
    for _ in range(3):
        server.sleep(0.1)
        client.sleep(0.1)
    assert replies == [(str(n), b'CALL %d' % n) for n in range(3)]


def test_direct_reply_to_needs_auto_ack(connection):
    with pytest.raises(failures.ChannelClosedByBroker) as closed:
        connection.channel().basic_consume('amq.rabbitmq.reply-to', lambda *_: None)
    assert closed.value.reply_code == 406


# Connections


def test_heartbeats_keep_an_idle_connection(connect):
    connection = connect(heartbeat=2)
    channel = connection.channel()
    connection.sleep(5)
    channel.queue_declare('', exclusive=True)


def test_silent_client_is_dropped_after_its_heartbeat(connect):
    connection = connect(heartbeat=1)
    channel = connection.channel()
    time.sleep(5)
    with pytest.raises(failures.AMQPConnectionError):
        channel.queue_declare('', exclusive=True)


def test_wrong_password_is_told(parameters):
    with pytest.raises(failures.ProbableAuthenticationError):
        pika.BlockingConnection(parameters(
            credentials=pika.PlainCredentials('guest', 'wrong')))


def test_unknown_virtual_host_is_told(parameters, name):
    with pytest.raises((failures.ProbableAccessDeniedError,
                        failures.ConnectionClosedByBroker)) as refused:
        pika.BlockingConnection(parameters(virtual_host=name))
    assert '530' in str(refused.value)


def test_hundred_channels_on_one_connection(connection, name):
    channels = [connection.channel() for _ in range(100)]
    channels[0].queue_declare(name, exclusive=True)
    for n, channel in enumerate(channels):
        channel.basic_publish('', name, b'%d' % n)
    wait_until(lambda: ready_count(channels[1], name) == 100)
    for channel in channels:
        channel.close()
    assert connection.is_open


def test_many_connections_come_and_go(connect):
    for _ in range(30):
        connection = connect()
        connection.channel().queue_declare('', exclusive=True)
        connection.close()


def test_small_frames_carry_large_bodies(connect, name):
    channel = connect(frame_max=4096).channel()
    channel.queue_declare(name, exclusive=True)
    body = b'abc' * 50_000
    channel.basic_publish('', name, body)
    assert bodies(collect(channel, name, 1)) == [body]


def test_immediate_publish_is_not_implemented(connect, name):
    connection = connect()
    channel = connection.channel()
    channel._impl._send_method(
        pika.spec.Basic.Publish(exchange='', routing_key=name, immediate=True),
        (pika.BasicProperties(), b'x'))
    with pytest.raises(failures.ConnectionClosedByBroker) as closed:
        channel.queue_declare(name, exclusive=True)
    assert closed.value.reply_code == 540
