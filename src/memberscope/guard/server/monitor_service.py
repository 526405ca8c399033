"""Serve as the monitor of a guard that runs as another user: `memberscope guard monitor`.

It listens at the Unix socket that [monitor] names, and watches for one guard at a time. Files are
those of its own policy: the guard does not say where to read and write.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from memberscope.errors import InputError
from memberscope.guard.logs.operational_log import log_event, log_to_stderr
from memberscope.guard.monitor.artifacts import load_monitor_artifacts
from memberscope.guard.monitor.child_main import answer_guard, prepare_process
from memberscope.guard.monitor.ipc import Begin
from memberscope.guard.policy.config import GuardPolicy, read_policy

MODE = 0o660  # of the socket: its owner and its group


def serve_monitor(path: Path) -> None:
    """Watch for one guard after the other until SIGTERM or SIGINT, as the policy at `path` says.

    Raises:
        InputError: The policy names no socket, or what it names is not usable.
    """
    log_to_stderr("info")
    policy = read_policy(path)
    if policy.monitor.socket is None:
        raise InputError(
            "Expected socket in [monitor], got none. Name the Unix socket that the guard connects "
            "to."
        )
    # What is not usable is told now, not when the guard comes
    load_monitor_artifacts(policy)
    listening = _open_socket(policy.path(policy.monitor.socket))
    prepare_process()
    held: list[socket.socket] = [listening]

    def end(number: int, frame: object) -> None:
        # Reading and waiting end as at the end of a connection: what is remembered is saved
        for each in held:
            _shut(each)
        held.clear()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    log_event(logging.INFO, "monitoring", process=os.getpid())
    while held:
        try:
            connection, _ = listening.accept()
        except OSError:
            break
        # A signal may have come in between
        if not held:
            connection.close()
            break
        held.append(connection)
        asyncio.run(answer_guard(connection, lambda begin: _settle_files(begin, policy)))
        if connection in held:
            held.remove(connection)
    policy.path(policy.monitor.socket).unlink(missing_ok=True)
    log_event(logging.INFO, "ended")


def _settle_files(begin: Begin, own: GuardPolicy) -> Begin:
    """Put the monitor's own files and receivers in the place of those that the guard names."""
    settled = {"monitor": own.monitor, "alerts": own.alerts, "home": own.home}
    return replace(begin, policy=begin.policy.model_copy(update=settled))


def _shut(connection: socket.socket) -> None:
    """End what is read from a socket; one that has ended already stays so."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)


def _open_socket(path: Path) -> socket.socket:
    """Listen at a Unix socket that its owner and its group may use.

    Raises:
        InputError: Another process listens there, or it cannot be made.
    """
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_answered(path):
            # What a monitor that was killed has left
            path.unlink()
        before = os.umask(0o777 & ~MODE)
        try:
            found.bind(str(path))
        finally:
            os.umask(before)
        found.listen(1)
    except OSError as error:
        found.close()
        raise InputError(
            f"Expected a free path for monitor.socket, got {error.strerror}. Check its folder, and "
            "whether another monitor runs."
        ) from error
    return found


def _is_answered(path: Path) -> bool:
    """Tell whether a process listens at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        try:
            trying.connect(str(path))
        except OSError:
            return False
    return True
