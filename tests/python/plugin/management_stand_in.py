"""The two calls of RabbitMQ's management API that AMQPStorm's suite cleans up with.

After each test it deletes the test's queue and exchange over HTTP. This server does both by AMQP.
It answers 404 to everything else; tests that need more of the API are in excluded.toml.
"""

import http.server
import threading
from urllib.parse import unquote

import pika


class StandIn:
    """Listens on a port of its own until `close`."""

    def __init__(self, amqp_url):
        stand_in_url = amqp_url

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_DELETE(self):
                parts = [unquote(p) for p in self.path.split('?')[0].split('/') if p]
                known = len(parts) == 4 and parts[0] == 'api' and parts[1] in ('queues', 'exchanges')
                if known:
                    delete(stand_in_url, parts[1], parts[3])
                self.answer(204 if known else 404)

            def do_GET(self):
                self.answer(404)

            do_PUT = do_POST = do_GET

            def answer(self, status):
                length = int(self.headers.get('content-length') or 0)
                self.rfile.read(length)
                self.send_response(status)
                body = b'' if status == 204 else b'{"error":"not found","reason":"stand-in"}'
                self.send_header('content-length', str(len(body)))
                self.send_header('content-type', 'application/json')
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def delete(amqp_url, kind, name):
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    try:
        channel = connection.channel()
        if kind == 'queues':
            channel.queue_delete(name)
        else:
            channel.exchange_delete(name)
    except pika.exceptions.AMQPChannelError:
        pass  # The suite expects a delete of nothing to be harmless.
    finally:
        connection.close()
