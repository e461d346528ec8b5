"""The article's callback and result notification, with wilco's outcomes instead of by hand.

Producers mark each message processed or not processed, and insert again what they heard nothing of.
Workers work, fail, are slow, or die in the middle. The programs are in article_outcomes, each a
process of its own.
"""

import collections
import json
import time

import pytest
from programs import HERE, Program

PRODUCERS = ('anna', 'ben', 'carla')
WORKER_COUNT = 3
MESSAGE_COUNT = 20


class Play:
    """Producers and workers on one broker; a worker that dies is replaced."""

    def __init__(self, broker, libraries, directory):
        self._url = broker.url
        self._libraries = libraries
        self.log = directory / 'work.log'
        self.log.touch()
        self.crash_count = 0
        self._workers = [self._worker(n) for n in range(WORKER_COUNT)]
        self._producers = [
            Program(self._url, HERE / 'article_outcomes' / f'{self._library(n)}_producer.py',
                    name, MESSAGE_COUNT)
            for n, name in enumerate(PRODUCERS)]

    def _library(self, number):
        return self._libraries[number % len(self._libraries)]

    def _worker(self, number):
        program = HERE / 'article_outcomes' / f'{self._library(number)}_worker.py'
        return Program(self._url, program, self.log)

    def replace_dead_workers(self):
        for number, worker in enumerate(self._workers):
            if worker.has_ended():
                assert worker.exit_code() == 3, worker.output()
                worker.close()
                self.crash_count += 1
                self._workers[number] = self._worker(number)

    def reports(self, seconds=60):
        """What each producer knows in the end."""
        deadline = time.monotonic() + seconds
        while not all(producer.has_ended() for producer in self._producers):
            assert time.monotonic() < deadline, self.state()[-4000:]
            self.replace_dead_workers()
            time.sleep(0.05)
        return [json.loads(producer.output().split('REPORT ', 1)[1])
                for producer in self._producers]

    def lines(self, what):
        """How often each message stands in the workers' log with this word."""
        words = (line.split() for line in self.log.read_text().splitlines())
        return collections.Counter(message for word, message in words if word == what)

    def state(self):
        programs = [*self._producers, *self._workers]
        return '\n'.join([self.log.read_text(), *(program.output() for program in programs)])

    def close(self):
        for program in [*self._producers, *self._workers]:
            program.close()


@pytest.fixture(params=[['pika'], ['amqpstorm'], ['pika', 'amqpstorm']], ids='-'.join)
def play(broker, request, tmp_path):
    made = Play(broker, request.param, tmp_path)
    yield made
    made.close()


def told_first(report, message_id):
    """(outcome, late) of what was told of a message, without repetitions."""
    events = report['events'][message_id]
    return [(outcome, late) for _, outcome, late, is_again, _ in events if not is_again]


def told_ever(report, message_id):
    """The different events told of a message, whatever their order and number."""
    return {event for event, *_ in report['events'][message_id]}


def test_each_producer_is_told_once_of_each_message_what_became_of_it(play):
    reports = play.reports()
    for report in reports:
        assert len(report['marks']) == MESSAGE_COUNT
        for message_id, kind in report['kinds'].items():
            first = told_first(report, message_id)
            says = {says for *_, says in report['events'][message_id] if says}
            if kind == 'fails':
                assert first == [('failed', False)], message_id
                assert says == {f'{message_id} is no good'}
            elif kind == 'slow':
                assert first == [('deadline-missed', False), ('processed', True)], message_id
                assert says == {f'result of {message_id}'}
            else:
                assert first == [('processed', False)], message_id
                assert says == {f'result of {message_id}'}


def test_what_is_inserted_again_is_processed_once(play):
    reports = play.reports()
    done, begun = play.lines('done'), play.lines('begin')
    inserted = 0
    for report in reports:
        inserted += sum(report['inserted'].values())
        for message_id, kind in report['kinds'].items():
            assert done[message_id] == (0 if kind == 'fails' else 1), message_id
            assert begun[message_id] <= (2 if kind == 'crashes' else 1), message_id
    assert inserted > len(PRODUCERS) * MESSAGE_COUNT, 'nothing was inserted again'
    assert play.crash_count > 0


def test_what_was_told_before_kill_9_of_the_broker_stays_told(play, broker):
    deadline = time.monotonic() + 20
    while sum(play.lines('done').values()) < 10 and time.monotonic() < deadline:
        play.replace_dead_workers()
        time.sleep(0.02)
    broker.kill()
    broker.restart()
    reports = play.reports()
    done = play.lines('done')
    for report in reports:
        for message_id, kind in report['kinds'].items():
            expected = 'failed' if kind == 'fails' else 'processed'
            assert report['marks'][message_id] == expected
            # An ack that the crash took back was told to nobody; the work was done again.
            terminal = {e for e in told_ever(report, message_id) if e.startswith(('proc', 'fail'))}
            assert len(terminal) == 1, report['events'][message_id]
            if kind != 'fails':
                assert 1 <= done[message_id] <= 2
