"""A wilco of the test's own: a free port, a directory of its own, killed and started at will."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time

START_SECONDS = 30
STOP_SECONDS = 20


def free_port():
    """None of those that the kernel gives to whoever connects: that could take it before the broker does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
                return port
            except OSError:
                pass


class Broker:
    """Runs WILCO_BIN. The port stays the same over restarts, so clients can come back."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix='wilco-test-')
        self.directory = pathlib.Path(self._directory.name)
        self.port = free_port()
        self.url = f'amqp://guest:guest@127.0.0.1:{self.port}/%2F'
        self._process = None
        self._starts = 0

    def start(self):
        """Returns when the broker has printed its AMQP URL."""
        binary = os.environ['WILCO_BIN']
        self._starts += 1
        log = self.directory / f'broker-{self._starts}.log'
        environment = {k: v for k, v in os.environ.items() if not k.startswith('WILCO_')}
        # Several brokers run at once. The command line, which a test may add to, wins over this.
        environment['WILCO_HTTP'] = '127.0.0.1:0'
        with log.open('wb') as output:
            self._process = subprocess.Popen(
                [binary, 'serve', '--data', str(self.directory / 'data'),
                 '--amqp', f'127.0.0.1:{self.port}'],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=environment)
        deadline = time.monotonic() + START_SECONDS
        while 'amqp://' not in log.read_text(errors='replace'):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f'wilco did not start:\n{log.read_text(errors="replace")}')
            time.sleep(0.02)
        return self

    def kill(self):
        """kill -9: what the broker had not written is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self):
        """SIGTERM; answers the exit code. A broker that does not go is killed and reported."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f'wilco did not stop within {STOP_SECONDS} s of SIGTERM') from None
        self._process = None
        return code

    def restart(self):
        """Starts again on the same store and port, whatever ended the last run."""
        self.stop()
        return self.start()

    def log(self):
        """Everything the broker printed, over all its runs."""
        return ''.join(p.read_text(errors='replace')
                       for p in sorted(self.directory.glob('broker-*.log')))

    def close(self):
        self.kill()
        self._directory.cleanup()
