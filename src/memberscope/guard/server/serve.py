"""The guard as a server: the proxy on one port, what operators need on another, and one process or several."""

from __future__ import annotations

import os
from collections.abc import Callable

from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.server.assembly import Parts, parts_served
from memberscope.guard.server.worker import Run, listener, work


def serve(run: Run, parts: Callable[[GuardPolicy, bytes], Parts] = parts_served) -> None:
    """Serve until a signal ends it; queries in flight get `grace` seconds.

    Raises:
        InputError: The policy or an option is not usable, or an address is taken.
    """
    run.checked()
    for place in range(run.workers if run.admin_port else 0):  # where a port is taken, its worker would begin for ever
        listener(run.admin_host, run.admin_port + place).close()
    listening, secret = listener(run.host, run.port), os.urandom(32)
    if run.workers > 1:
        from memberscope.guard.server.supervisor import supervise

        supervise(run, listening, secret, parts)
    else:
        work(run, listening, secret, parts)
