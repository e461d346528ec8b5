"""Fixtures shared by wilco's own Python tests. The broker under test is plugin/wilco_pytest.py's."""

import pathlib
import sys
import uuid

import pika
import pytest

# `pytest` run by hand finds the plugin too; `cargo xtask test` names it with -p.
sys.path.insert(0, str(pathlib.Path(__file__).parent / 'plugin'))
from outcome_rig import Rig  # noqa: E402
from wilco_broker import Broker  # noqa: E402


@pytest.fixture(scope='session')
def url(request):
    """AMQP URL of the broker that all tests share."""
    return request.config.wilco.url


@pytest.fixture
def broker(request):
    """A broker of the test's own, which it may kill and restart."""
    if request.config.wilco.broker is None:
        pytest.skip('needs a wilco of its own to kill; WILCO_TEST_AMQP names one that is not ours')
    own = Broker().start()
    yield own
    own.close()


@pytest.fixture
def parameters(url):
    """A function from overrides to pika's parameters for the shared broker."""

    def make(**overrides):
        made = pika.URLParameters(url)
        made.socket_timeout = 10
        made.blocked_connection_timeout = 30
        for name, value in overrides.items():
            setattr(made, name, value)
        return made

    return make


@pytest.fixture
def connect(parameters):
    """A function that opens connections; those still open are closed after the test."""
    opened = []

    def make(**overrides):
        opened.append(pika.BlockingConnection(parameters(**overrides)))
        return opened[-1]

    yield make
    for connection in opened:
        if connection.is_open:
            connection.close()


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def name():
    """A name no other test uses."""
    return f'test-{uuid.uuid4().hex[:12]}'


@pytest.fixture
def rig(channel, name):
    made = Rig(channel, name)
    yield made
    if channel.is_open:
        channel.queue_delete(name)
