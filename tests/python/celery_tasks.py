"""The Celery application that test_celery.py's worker runs."""

import os

from celery import Celery
from celery.exceptions import Reject

app = Celery('celery_tasks', broker=os.environ['WILCO_TEST_AMQP'], backend='rpc://')
app.conf.task_default_queue = os.environ.get('WILCO_TEST_CELERY_QUEUE', 'celery')
app.conf.broker_connection_retry_on_startup = True
app.conf.task_acks_late = True


@app.task
def add(left, right):
    return left + right


@app.task
def fail():
    raise ValueError('as asked')


@app.task(ignore_result=True)
def note(_):
    pass


@app.task(ignore_result=True)
def refuse():
    raise Reject('as asked', requeue=False)
