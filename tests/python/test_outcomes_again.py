"""Messages that are published again under the same id, as docs/outcomes.md says."""

import time

import pytest
from outcome_rig import ALL


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
    rig.publish('1')
    rig.publish('2')
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


@pytest.mark.parametrize('first', [{}, {'x-notify': 'failed'}], ids=['nothing', 'less'])
def test_duplicate_is_told_what_its_original_did_not_ask_for(rig, first):
    rig.declare(message_deduplication=True)
    rig.publish('0', first)
    rig.publish('0')
    rig.ack()
    assert rig.outcome() == ('processed', 'acked')
    assert rig.is_told_nothing()


def test_duplicate_of_what_failed_after_its_deadline_is_answered(rig):
    rig.declare()
    rig.publish('0', {**ALL, 'x-deadline': 20})
    assert rig.outcome() == ('deadline-missed', 'deadline')
    rig.reject()
    assert rig.is_told_nothing()
    rig.publish('0')
    assert rig.outcome() == ('deadline-missed', 'deadline')
