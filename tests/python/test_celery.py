"""Celery with a real worker: tasks, results over rpc://, remote control."""

import os
import subprocess
import sys
import time

import pytest

celery = pytest.importorskip('celery')


@pytest.fixture(scope='module')
def app(url, tmp_path_factory):
    queue = f'celery-{os.getpid()}'
    os.environ['WILCO_TEST_CELERY_QUEUE'] = queue
    import celery_tasks

    log = tmp_path_factory.mktemp('celery') / 'worker.log'
    with log.open('wb') as output:
        worker = subprocess.Popen(
            [sys.executable, '-m', 'celery', '-A', 'celery_tasks', 'worker', '--pool', 'solo',
             '--loglevel', 'info', '--hostname', f'{queue}@test'],
            cwd=os.path.dirname(__file__), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, env=dict(os.environ, WILCO_TEST_AMQP=url))
    deadline = time.monotonic() + 40
    while ' ready.' not in log.read_text(errors='replace'):
        if worker.poll() is not None or time.monotonic() > deadline:
            worker.kill()
            pytest.fail(f'worker did not start:\n{log.read_text(errors="replace")}')
        time.sleep(0.1)
    yield celery_tasks
    worker.terminate()
    try:
        worker.wait(15)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def test_task_result_comes_back(app):
    assert app.add.delay(2, 3).get(timeout=20) == 5


def test_failed_task_raises_at_the_caller(app):
    with pytest.raises(ValueError, match='as asked'):
        app.fail.delay().get(timeout=20)


def test_many_tasks_are_all_answered(app):
    results = [app.add.delay(n, n) for n in range(50)]
    assert [r.get(timeout=30) for r in results] == [2 * n for n in range(50)]


def test_countdown_is_kept(app):
    started = time.monotonic()
    assert app.add.apply_async((1, 1), countdown=1).get(timeout=20) == 2
    assert time.monotonic() - started >= 0.9


def test_worker_answers_a_ping(app):
    answers = app.app.control.ping(timeout=5)
    assert [list(a.values()) for a in answers] == [[{'ok': 'pong'}]]


def test_tasks_with_message_ids_work_as_ever(app):
    results = [app.add.apply_async((n, 1), message_id='the same for all') for n in range(3)]
    assert [r.get(timeout=20) for r in results] == [1, 2, 3]


def test_outcomes_of_tasks_are_told(app, channel):
    answers = channel.queue_declare('', exclusive=True).method.queue
    asking = {'reply_to': answers, 'headers': {'x-notify': 'all'}}
    app.note.apply_async((1,), message_id='noted', **asking)
    app.refuse.apply_async(message_id='refused', **asking)
    told = []
    for _, properties, _ in channel.consume(answers, inactivity_timeout=20):
        told.append((properties.headers['x-message-id'], properties.headers['x-outcome']))
        if len(told) == 2:
            break
    assert told == [('noted', 'processed'), ('refused', 'failed')]
