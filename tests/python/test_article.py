"""The article's programs, producer and consumer each a process of its own.

4.2 and 4.3 in article/pika stand as printed; `localhost:5672` reaches the broker under test by
redirect/sitecustomize.py.
"""

import time

import pika
import pytest
from programs import HERE, Program

QUEUES = ('task_queue', 'feedback_queue')
TEXT = {'pika': "b'Hello World!'", 'amqpstorm': "'Hello World!'"}


@pytest.fixture(params=['pika', 'amqpstorm'])
def library(request):
    return request.param


@pytest.fixture
def run(url, library):
    """Starts one of the library's programs on the shared broker."""
    started = []

    def start(program, *before):
        path = HERE / 'article' / library / f'{program}.py'
        started.append(Program(url, *before, path))
        return started[-1]

    yield start
    for program in started:
        program.close()


@pytest.fixture(autouse=True)
def fresh_queues(request):
    """The programs' queue names are fixed, so each test starts without them."""
    if 'broker' in request.fixturenames:
        return
    channel = request.getfixturevalue('channel')
    for queue in QUEUES:
        channel.queue_delete(queue)


def message_count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def test_message_is_sent_received_and_acknowledged(run, library, channel):
    producer = run('4_2_producer')
    assert producer.exit_code() == 0
    assert " [x] Sent 'Hello World!'" in producer.output()
    assert message_count(channel, 'task_queue') == 1

    consumer = run('4_3_consumer')
    consumer.wait_for(f' [x] Received {TEXT[library]}')
    consumer.wait_for(' [x] Done')
    time.sleep(0.3)
    consumer.close()
    time.sleep(0.3)
    assert message_count(channel, 'task_queue') == 0


def test_producer_hears_that_its_message_was_processed(run, library, channel):
    consumer = run('4_4_consumer')
    consumer.wait_for('Waiting for messages')
    producer = run('4_4_producer')
    producer.wait_for('Received feedback')
    assert 'Message processed successfully' in producer.output()
    assert producer.exit_code() == 0
    assert ' [x] Done' in consumer.output()
    assert message_count(channel, 'task_queue') == 0
    assert message_count(channel, 'feedback_queue') == 0


def test_message_without_feedback_is_inserted_again_after_ten_seconds(run, library, channel):
    started = time.monotonic()
    producer = run('4_4_producer')
    producer.wait_for('No feedback received within 10 seconds, re-inserting message...')
    assert time.monotonic() - started >= 10
    assert producer.exit_code() == 0
    assert message_count(channel, 'task_queue') == 2

    consumer = run('4_3_consumer')
    consumer.wait_for(f' [x] Received {TEXT[library]}', count=2)
    consumer.wait_for(' [x] Done', count=2)


def test_producer_is_notified_of_an_error_in_processing(run, library, channel):
    consumer = run('4_5_consumer', HERE / 'article' / 'failing_work.py')
    consumer.wait_for('Waiting for messages')
    producer = run('4_4_producer')
    producer.wait_for('Received feedback')
    assert 'Error processing message: the work failed' in producer.output()
    assert producer.exit_code() == 0

    consumer.wait_for('Error processing message: the work failed')
    assert consumer.exit_code() == 1
    time.sleep(0.3)
    method, _, body = channel.basic_get('task_queue', auto_ack=True)
    assert (body, method.redelivered) == (b'Hello World!', True)


def test_working_consumer_of_4_5_acknowledges(run, library, channel):
    consumer = run('4_5_consumer')
    producer = run('4_2_producer')
    assert producer.exit_code() == 0
    consumer.wait_for(' [x] Done')
    time.sleep(0.3)
    consumer.close()
    time.sleep(0.3)
    assert message_count(channel, 'task_queue') == 0


def test_sent_message_survives_kill_9_of_the_broker(broker, library):
    directory = HERE / 'article' / library
    producer = Program(broker.url, directory / '4_2_producer.py')
    try:
        assert producer.exit_code() == 0
    finally:
        producer.close()
    # The article's producer asks for no confirm, so it cannot know when its message is safe.
    time.sleep(1)
    broker.kill()
    broker.restart()

    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    assert message_count(connection.channel(), 'task_queue') == 1
    connection.close()
    consumer = Program(broker.url, directory / '4_3_consumer.py')
    try:
        consumer.wait_for(f' [x] Received {TEXT[library]}')
        consumer.wait_for(' [x] Done')
    finally:
        consumer.close()
