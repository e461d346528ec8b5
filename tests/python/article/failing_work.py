"""Runs one of the article's consumers with work that fails.

The consumers' work is to sleep a second for every dot in the message. Here a sleep asked for by
the program itself raises; everything else, the client libraries' own sleeps too, is as ever.
"""

import runpy
import sys
import time

_sleep = time.sleep


def sleep(seconds):
    if sys._getframe(1).f_globals.get('__name__') == '__main__':
        raise ValueError('the work failed')
    _sleep(seconds)


program = sys.argv[1]
time.sleep = sleep
runpy.run_path(program, run_name='__main__')
