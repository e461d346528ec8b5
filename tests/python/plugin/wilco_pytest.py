"""The pytest plugin behind every Python suite: the broker, the exclusions, the report.

It comes from outside (`-p wilco_pytest`), so suites from other projects run unmodified.

- WILCO_TEST_AMQP names a broker that is already there; without it WILCO_BIN is started for the
  whole run and stopped after it.
- WILCO_TEST_SUITE names a table of excluded.toml: its tests are skipped with the reason given
  there, and an entry that matches no collected test fails the run.
- WILCO_TEST_REPORT is where one JSON line per test goes: name, verdict, reason.
"""

import json
import os
import pathlib
import tomllib
from urllib.parse import urlsplit

import pytest
from management_stand_in import StandIn
from wilco_broker import Broker

EXCLUDED = pathlib.Path(__file__).parent.parent / 'excluded.toml'


def pytest_configure(config):
    config.wilco = run = Run()
    config.pluginmanager.register(run)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    if run := getattr(config, 'wilco', None):
        run.close()


class Run:
    def __init__(self):
        self.suite = os.environ.get('WILCO_TEST_SUITE')
        self.verdicts = {}
        self.broker = None
        self.stand_in = None
        if 'WILCO_TEST_AMQP' not in os.environ:
            self.broker = Broker().start()
            os.environ['WILCO_TEST_AMQP'] = self.broker.url
        self.url = os.environ['WILCO_TEST_AMQP']
        self.set_suites_environment()

    def set_suites_environment(self):
        """Each suite's own means of naming the broker."""
        target = urlsplit(self.url)
        os.environ['RABBITMQ_HOST'] = target.hostname
        os.environ['RABBITMQ_5672_TCP'] = str(target.port or 5672)
        # AMQPStorm's suite has no name for the port: redirect/sitecustomize.py sees to it.
        os.environ['AMQP_HOST'] = '127.0.0.1'
        os.environ['AMQP_USERNAME'] = target.username or 'guest'
        os.environ['AMQP_PASSWORD'] = target.password or 'guest'
        os.environ['AMQP_URI'] = self.url
        if self.suite == 'amqpstorm':
            self.stand_in = StandIn(self.url)
            os.environ['AMQP_HTTP_URL'] = self.stand_in.url

    def close(self):
        if self.stand_in:
            self.stand_in.close()
        if self.broker:
            self.broker.close()

    def pytest_collection_modifyitems(self, items):
        excluded = {}
        if self.suite:
            excluded = tomllib.loads(EXCLUDED.read_text()).get(self.suite, {})
        for item in items:
            if reason := excluded.pop(item.nodeid, None):
                item.add_marker(pytest.mark.skip(reason=reason))
        for name in excluded:
            self.verdicts[name] = ('failed', 'excluded.toml names a test that is not there')

    def pytest_collectreport(self, report):
        if report.failed:
            self.verdicts[report.nodeid] = ('failed', 'cannot be collected')
        elif report.skipped:
            self.verdicts[report.nodeid] = ('skipped', skip_reason(report))

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.verdicts[report.nodeid] = ('failed', f'in {report.when}')
        elif report.skipped:
            self.verdicts[report.nodeid] = ('skipped', skip_reason(report))
        elif report.when == 'call':
            self.verdicts.setdefault(report.nodeid, ('passed', ''))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if any(v == 'failed' for v, _ in self.verdicts.values()):
            session.exitstatus = 1
        if path := os.environ.get('WILCO_TEST_REPORT'):
            with open(path, 'w') as report:
                for name, (verdict, reason) in self.verdicts.items():
                    line = {'name': name, 'verdict': verdict, 'reason': reason}
                    report.write(json.dumps(line) + '\n')


def skip_reason(report):
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix('Skipped: ')
