"""Every example of outcomes on our pages, run as it stands there, prints what stands under it.

An example is the blocks of Python up to a block of text, which has each program's output below its
name. Programs start in the order of that block; all but `producer.py` run on until the test ends,
so what starts after one waits for its first line.
"""

import pathlib
import re
import time

import pytest
from programs import Program

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'outcomes.md'
# Of the first page only the part about outcomes.
README = re.compile(r'^## Know what became of it$.*?(?=^## )', re.M | re.S)
BLOCK = re.compile(r'^#{2,3} (?P<title>[^\n]+)$|^```(?P<kind>\w+)\n(?P<text>.*?)^```$', re.M | re.S)
NAME = re.compile(r'^# (\w+\.py)\n', re.M)
ENDS = 'producer.py'


def examples(text):
    """Heading, programs by name, output by name: of each example."""
    heading, programs = None, {}
    for block in BLOCK.finditer(text):
        if block['title']:
            heading = block['title']
        elif block['kind'] == 'python':
            name = NAME.match(block['text'])[1]
            assert name not in programs, f'two programs {name} below {heading!r}'
            programs[name] = block['text']
        elif block['kind'] == 'text':
            _, *parts = NAME.split(block['text'])
            yield heading, programs, dict(zip(parts[::2], parts[1::2], strict=True))
            programs = {}
    assert not programs, f'no output stands below {heading!r}'


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


EXAMPLES = [*examples(README.search((ROOT / 'README.md').read_text())[0]),
            *examples(PAGE.read_text())]


def test_the_pages_have_their_examples():
    assert len(EXAMPLES) >= 11
    for heading, programs, output in EXAMPLES:
        assert programs.keys() == output.keys(), heading


@pytest.mark.parametrize('programs, output', [rest for _, *rest in EXAMPLES],
                         ids=[heading for heading, *_ in EXAMPLES])
def test_example_prints_what_the_page_says(broker, tmp_path, programs, output):
    started = {}
    try:
        for name in sorted(output, key=lambda name: name == ENDS):
            path = tmp_path / name
            path.write_text(programs[name])
            started[name] = Program(broker.url, path)
            if name == ENDS:
                assert started[name].exit_code() == 0, started[name].output()
            else:
                started[name].wait_for(lines(output[name])[0])
        for name, program in started.items():
            expected = lines(output[name])
            deadline = time.monotonic() + 10
            while lines(program.output()) != expected and time.monotonic() < deadline:
                time.sleep(0.05)
            assert lines(program.output()) == expected, name
    finally:
        for program in started.values():
            program.close()
    assert ' panicked at ' not in broker.log()
