"""The examples of docs/http.md: each command, and the answer that stands under it."""

import pathlib
import re
import shutil
import subprocess

import pika
import pytest
from test_http_schema import http_broker  # noqa: F401 (a fixture)

PAGE = pathlib.Path(__file__).parents[2] / 'docs/http.md'
BLOCK = re.compile(r'^```sh\n(.*?)^```\n\n```(json|text)\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def pattern(answer, kind):
    """A pattern of the answer: `...` is anything; in JSON, lines are broken for the reader."""
    if kind == 'json':
        answer = re.sub(r'\n\s*', '', answer)
    parts = [re.escape(part.strip(' ') if kind == 'json' else part)
             for part in answer.strip().split('...')]
    return re.compile('.*'.join(parts), re.DOTALL)


@pytest.mark.skipif(shutil.which('curl') is None, reason='curl is not installed')
def test_every_example_answers_what_the_page_says(http_broker):  # noqa: F811
    with pika.BlockingConnection(pika.URLParameters(http_broker.url)) as connection:
        connection.channel().queue_declare('orders', durable=True)
    examples = BLOCK.findall(PAGE.read_text())
    assert len(examples) == PAGE.read_text().count('```sh\n')
    for command, kind, answer in examples:
        command = command.replace('localhost:15672', http_broker.http.removeprefix('http://'))
        finished = subprocess.run(
            ['sh', '-c', command], capture_output=True, text=True, timeout=30)
        output = finished.stdout.replace('\r', '').strip()
        assert pattern(answer, kind).fullmatch(output), f'{command}\n{output}\n{answer}'
