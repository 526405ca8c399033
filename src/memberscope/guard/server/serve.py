"""Serve the guard: the proxy on one port, the admin interface on another."""

from __future__ import annotations

import os

from memberscope.guard.server.settings import Run
from memberscope.guard.server.worker import open_listener, run_worker


def serve_guard(run: Run) -> None:
    """Serve until a signal ends it; queries in flight get `grace` seconds.

    Raises:
        InputError: The policy or an option is not usable, or an address is taken.
    """
    run.checked()
    # Where a port is taken, its worker would begin for ever
    for place in range(run.workers if run.admin_port else 0):
        open_listener(run.admin_host, run.admin_port + place).close()
    listening, secret = open_listener(run.host, run.port), os.urandom(32)
    # Imported only here, as a single worker needs no other process
    if run.workers > 1:
        from memberscope.guard.server.supervisor import supervise_workers

        supervise_workers(run, listening, secret)
    else:
        run_worker(run, listening, secret)
