"""The HTTP interface against its own description: schemathesis generates requests, good and bad."""

import os
import pathlib
import subprocess
import sys

import pika
import pytest
from wilco_broker import Broker, free_port

CONFIG = pathlib.Path(__file__).parent / 'http_schemathesis.toml'


class HttpBroker(Broker):
    """A broker whose HTTP address is known."""

    def start(self):
        # The broker takes a configuration file from its working directory only, and the base class
        # knows of no other flag; a wrapper adds one.
        self.http = f'http://127.0.0.1:{free_port()}'
        wrapper = self.directory / 'wilco'
        real = os.environ['WILCO_BIN']
        wrapper.write_text(f'#!/bin/sh\nexec "{real}" "$@" --http {self.http[7:]}\n')
        wrapper.chmod(0o700)
        os.environ['WILCO_BIN'] = str(wrapper)
        try:
            return super().start()
        finally:
            os.environ['WILCO_BIN'] = real


@pytest.fixture
def http_broker(request):
    if request.config.wilco.broker is None:
        pytest.skip('needs a wilco of its own; WILCO_TEST_AMQP names one that is not ours')
    own = HttpBroker().start()
    yield own
    own.close()


@pytest.mark.timeout(400)
def test_every_call_is_as_the_openapi_document_says(http_broker):
    with pika.BlockingConnection(pika.URLParameters(http_broker.url)) as connection:
        # So that some of what is published reaches a queue.
        connection.channel().queue_declare('orders', durable=True)
    command = [
        sys.executable, '-m', 'schemathesis.cli', '--config-file', str(CONFIG), '--no-color', 'run',
        f'{http_broker.http}/v1/openapi.json', '--auth', 'guest:guest', '--seed', '1',
    ]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=380, cwd=http_broker.directory)
    assert finished.returncode == 0, finished.stdout + finished.stderr
