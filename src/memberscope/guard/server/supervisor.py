"""Run several workers on one listening socket, and start those that die again."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.alerting.prometheus import FOLDER, forget_worker
from memberscope.guard.logs.operational_log import log_event, log_to_stderr
from memberscope.guard.server.settings import Run
from memberscope.guard.server.worker import run_worker

# Seconds between looks at the workers, and from a worker's start to its next
EVERY, SOONEST = 0.1, 1.0


def supervise_workers(run: Run, listening: socket.socket, secret: bytes) -> None:
    """Keep `run.workers` processes serving until SIGTERM or SIGINT; SIGHUP goes to each of them.

    Each worker exposes what all of them count.

    Raises:
        InputError: There is no folder for what they count.
    """
    log_to_stderr(run.log_level)
    with _create_metrics_folder():
        _keep_workers_running(run, listening, secret)


def _keep_workers_running(run: Run, listening: socket.socket, secret: bytes) -> None:
    """Begin the workers, begin them again as they die, and wait for their end."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Handlers only note the signal: the loop below acts on it
        signal.signal(number, lambda got, _: asked.append(got))
    # Fresh processes: a fork would copy signal handlers and whatever is held
    context = multiprocessing.get_context("spawn")

    def begun(place: int) -> tuple[Any, float]:
        process = context.Process(target=run_worker, args=(run, listening, secret, place))
        process.start()
        return process, time.monotonic()

    workers = [begun(place) for place in range(run.workers)]
    while not {signal.SIGTERM, signal.SIGINT} & set(asked):
        time.sleep(EVERY)
        if signal.SIGHUP in asked:
            asked.remove(signal.SIGHUP)
            _signal_workers([process for process, _ in workers], signal.SIGHUP)
        for place, (process, since) in enumerate(workers):
            if not process.is_alive() and time.monotonic() - since > SOONEST:
                log_event(logging.ERROR, "worker_ended", place=place, code=process.exitcode)
                # Its gauges would stay as they were; its counters are kept
                forget_worker(process.pid)
                workers[place] = begun(place)
    _stop_workers([process for process, _ in workers], run.drain + run.grace)


@contextmanager
def _create_metrics_folder() -> Iterator[None]:
    """Create a folder where all processes of this guard count; remove it at the end.

    Raises:
        InputError: There is nowhere to make it.

    >>> with _create_metrics_folder():
    ...     os.path.isdir(os.environ[FOLDER])
    True
    """
    # Another server in this environment may have a folder of its own
    before = os.environ.get(FOLDER)
    try:
        folder = TemporaryDirectory(prefix="memberscope-guard-", ignore_cleanup_errors=True)
    except OSError as error:
        raise InputError(
            f"Expected a folder for what workers count, got {error}. Set TMPDIR to one that can be "
            "written."
        ) from error
    with folder as name:
        os.environ[FOLDER] = name
        try:
            yield
        finally:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before


def _signal_workers(processes: list[Any], number: int) -> None:
    """Send a signal to those that live."""
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, number)


def _stop_workers(processes: list[Any], grace: float) -> None:
    """Wait for all to end, and kill those that do not."""
    _signal_workers(processes, signal.SIGTERM)
    # Queries in flight get their grace, and the monitor some seconds more to save
    until = time.monotonic() + grace + 5.0
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
