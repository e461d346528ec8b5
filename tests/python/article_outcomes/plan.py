"""What the producers ask for and the workers do, whichever client library they use."""

import json
import os
import time

# The work, in turn: message n is of the kind KINDS[n % 5].
KINDS = ('works', 'fails', 'slow', 'crashes', 'works')
# A slow message takes longer than its producer is ready to wait.
SLOW_SECONDS = 0.6
SLOW_DEADLINE_MS = 300
# A message of which nothing was heard for so long is inserted again.
SILENCE_SECONDS = 1
# No more answers after so long without one, and everything answered: the producer is done.
QUIET_SECONDS = 0.7


class WorkFailed(Exception):
    """The worker cannot do it."""


def work(message_id, kind, redelivered, log):
    """Does the work; answers the result. A crash is that of the whole process, in the middle."""
    note(log, 'begin', message_id)
    if kind == 'crashes' and not redelivered:
        os._exit(3)
    if kind == 'slow':
        time.sleep(SLOW_SECONDS)
    if kind == 'fails':
        raise WorkFailed(f'{message_id} is no good')
    note(log, 'done', message_id)
    return f'result of {message_id}'


def note(log, what, message_id):
    """One line, written at once: the processes share the file."""
    with open(log, 'a', buffering=1) as file:
        file.write(f'{what} {message_id}\n')


class Marks:
    """The producer's list: which messages are processed, not processed, unanswered."""

    def __init__(self, name, count):
        self.kinds = {f'{name}-{n}': KINDS[n % len(KINDS)] for n in range(count)}
        self.inserted_at = dict.fromkeys(self.kinds, 0.0)
        self.inserted_count = dict.fromkeys(self.kinds, 0)
        self.marks = {}
        self.events = {message_id: [] for message_id in self.kinds}
        self.heard_at = time.monotonic()

    def due(self):
        """Messages to be inserted now: new ones, and those of which nothing was heard for long."""
        now = time.monotonic()
        for message_id in self.kinds:
            silent = now - self.inserted_at[message_id] >= SILENCE_SECONDS
            if message_id not in self.marks and silent:
                self.inserted_at[message_id] = now
                self.inserted_count[message_id] += 1
                yield message_id, self.kinds[message_id]

    def told(self, event, headers, body):
        self.heard_at = time.monotonic()
        message_id, outcome = headers['x-message-id'], headers['x-outcome']
        says = headers.get('x-error') or body
        is_again = bool(headers.get('x-duplicate'))
        is_late = bool(headers.get('x-late'))
        self.events[message_id].append([event, outcome, is_late, is_again, says])
        if outcome != 'deadline-missed':
            self.marks[message_id] = outcome

    def is_done(self):
        quiet = time.monotonic() - self.heard_at >= QUIET_SECONDS
        return quiet and len(self.marks) == len(self.kinds)

    def report(self):
        return 'REPORT ' + json.dumps({'kinds': self.kinds, 'marks': self.marks,
                                       'events': self.events, 'inserted': self.inserted_count})


def headers_of(kind):
    asks = {'x-notify': 'all'}
    if kind == 'slow':
        asks['x-deadline'] = SLOW_DEADLINE_MS
    return asks
