"""Whoever asks for port 5672 on this machine gets the broker under test.

Python imports this file on start when its directory is on PYTHONPATH. It answers name look-ups
only: programs and client libraries that name `localhost:5672`, or leave the port at its default,
run unmodified. WILCO_TEST_AMQP says where the broker listens; without it nothing is changed.
"""

import os
import socket
from urllib.parse import urlsplit

_LOCAL = ('localhost', '127.0.0.1')
_getaddrinfo = socket.getaddrinfo


def _redirected(host, port, *args, **kwargs):
    url = os.environ.get('WILCO_TEST_AMQP')
    if url and host in _LOCAL and str(port) == '5672':
        target = urlsplit(url)
        host, port = target.hostname, target.port or 5672
    return _getaddrinfo(host, port, *args, **kwargs)


socket.getaddrinfo = _redirected
