"""Runs example programs as processes of their own against the broker under test."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


class Program:
    """One Python program: started on construction, read while it runs, ended by `close`."""

    def __init__(self, url, *arguments):
        self._output = tempfile.TemporaryFile()
        environment = dict(os.environ, WILCO_TEST_AMQP=url, PYTHONPATH=str(HERE / 'redirect'),
                           PYTHONUNBUFFERED='1', PYTHONDONTWRITEBYTECODE='1')
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], stdin=subprocess.DEVNULL,
            stdout=self._output, stderr=subprocess.STDOUT, env=environment)

    def output(self):
        return os.pread(self._output.fileno(), 1 << 20, 0).decode(errors='replace')

    def wait_for(self, text, seconds=20, count=1):
        """Returns the output once `text` stands in it `count` times."""
        deadline = time.monotonic() + seconds
        while self.output().count(text) < count:
            ended = self._process.poll() is not None
            if (ended and self.output().count(text) < count) or time.monotonic() > deadline:
                state = f'ended with {self._process.returncode}' if ended else 'still runs'
                raise AssertionError(f'no {text!r} x {count}; program {state}:\n{self.output()}')
            time.sleep(0.05)
        return self.output()

    def has_ended(self):
        return self._process.poll() is not None

    def exit_code(self, seconds=30):
        return self._process.wait(seconds)

    def close(self):
        """Ends the program as Ctrl-C would, then by force."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._output.close()
