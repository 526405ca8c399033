"""Run one serving process: its settings, sockets and applications."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.admission.connections import ConnectionRoom
from memberscope.guard.alerting.prometheus import leave_folder
from memberscope.guard.asgi.asgi_types import App
from memberscope.guard.asgi.http_protocol import build_problem_protocol_class, build_protocol_class
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.asgi.proxy import Proxy
from memberscope.guard.logs.operational_log import log_event, log_to_stderr
from memberscope.guard.policy.config import GuardPolicy, read_policy
from memberscope.guard.policy.measured_level import log_measured, require_measured
from memberscope.guard.server.admin_api import build_admin_app
from memberscope.guard.server.assembly import GuardAssembly
from memberscope.guard.server.reload import Reloads

SLACK = 64  # connections that are ending, beyond those that have a seat


@dataclass(frozen=True, kw_only=True)
class Run:
    """Settings of a serving guard; a port of 0 is any free one."""

    upstream: str
    policy: Path
    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 9464
    workers: int = 1
    grace: float = 30.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    upstream_ca: Path | None = None
    log_level: str = "info"
    allow_looser: bool = False

    def checked(self) -> GuardPolicy:
        """Check that everything fits together, and read the policy.

        Raises:
            InputError: It does not; the sentence says what.
        """
        policy = read_policy(self.policy)
        if self.workers < 1 or (self.workers > 1 and policy.state.redis is None):
            raise InputError(
                f"Expected [state] redis for {self.workers} workers, got none: each would keep "
                "budgets by itself. Set it, or use --workers 1."
            )
        if (self.tls_cert is None) != (self.tls_key is None) or (
            self.client_ca is not None and self.tls_cert is None
        ):
            raise InputError(
                "Expected --tls-cert and --tls-key together, --client-ca only beside them, got one "
                "alone. Give both."
            )
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise InputError(
                f"Expected a log level of debug, info, warning or error, got {self.log_level!r}. "
                "Repair --log-level."
            )
        for file, certificate_of in (
            (self.tls_cert, self._own),
            (self.client_ca, _read_authorities),
            (self.upstream_ca, _read_authorities),
        ):
            if file is not None:
                _check_certificates(file, certificate_of)
        # Building them once finds what is not usable before any worker starts
        Proxy(self.upstream, policy)
        if not self.allow_looser:
            require_measured(policy)
        # Without `measured`, as each worker logs a looser policy
        PolicyMiddleware(None, policy=policy.model_copy(update={"measured": None}))
        return policy

    def _own(self, file: Path) -> None:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, self.tls_key)


def _read_authorities(file: Path) -> None:
    """Read the certificates of authorities."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)


def _check_certificates(file: Path, read: Callable[[Path], None]) -> None:
    """Read certificates once, before anybody connects.

    Raises:
        InputError: They cannot be read, or do not fit their key.
    """
    try:
        read(file)
    except OSError as error:  # as an error of TLS is, too
        why = error.strerror or type(error).__name__
        raise InputError(
            f"Expected certificates (PEM) in {str(file)!r}, with their key, got none: {why}. Check "
            "the file."
        ) from None


def run_worker(
    run: Run,
    listening: socket.socket,
    secret: bytes,
    parts: Callable[[GuardPolicy, bytes], GuardAssembly],
    place: int = 0,
) -> None:
    """Run one worker until a signal ends it."""
    from threadpoolctl import threadpool_limits

    log_to_stderr(run.log_level)
    # The monitor's products are small: threads would only wait for one another
    threadpool_limits(1)
    with asyncio.Runner(loop_factory=find_loop_factory()) as runner:
        runner.run(Worker(run, parts(run.checked(), secret), place).serve(listening))


class Worker:
    """Serve in one process: the guard, its proxy, and the admin interface."""

    def __init__(self, run: Run, parts: GuardAssembly, place: int = 0) -> None:
        """Put it together."""
        self.run, self.parts, self.place, self._parent = run, parts, place, os.getppid()
        policy = read_policy(run.policy)
        self.proxy = Proxy(
            run.upstream, policy, ca_file=None if run.upstream_ca is None else str(run.upstream_ca)
        )
        self.guard = PolicyMiddleware(
            self.proxy,
            policy=policy,
            state=parts.state,
            watch=parts.watch,
            counters=parts.counters,
            names=parts.names,
            allow_looser=run.allow_looser,
        )
        self.reloads = Reloads(self.guard, run.policy, self._follow)

    def _follow(self, policy: GuardPolicy) -> None:
        self.proxy.follow(policy)
        self.parts.follow(policy)

    async def serve(self, listening: socket.socket) -> None:
        """Serve until a signal ends it."""
        # Each worker has an admin port of its own, counted up from the first
        inward = open_listener(
            self.run.admin_host, self.run.admin_port + self.place if self.run.admin_port else 0
        )
        public, inside = (
            build_server(self.guard, self._public()),
            build_server(self._admin(), {"http": build_problem_protocol_class()}),
        )
        # Signals that come while the parts start must end it too
        ending = self._signals(public)
        try:
            await self.parts.start()
        except BaseException:
            ending()
            raise
        # What lives from the start on is no garbage: collections need not look at it each time
        gc.freeze()
        log_event(
            logging.INFO,
            "serving",
            process=os.getpid(),
            port=listening.getsockname()[1],
            admin_port=inward.getsockname()[1],
            digest=self.guard.rules.digest,
            mode=self.guard.rules.policy.guard.mode,
            on_fault=self.guard.rules.policy.guard.on_fault,
        )
        log_measured(self.guard.rules.policy)
        # The admin interface answers until the public one has ended
        within = asyncio.create_task(inside.serve([inward]))
        orphan = asyncio.create_task(self._orphaned(public))
        try:
            await public.serve([listening])
        finally:
            orphan.cancel()
            inside.should_exit = True
            await within
            try:
                # The monitor still uses the state while it stops
                await self.proxy.close()
                await self.parts.stop()
                await self.parts.state.close()
            finally:
                ending()
                # With the first process gone nobody else clears the folder of metrics
                if self._alone():
                    leave_folder()
                log_event(logging.INFO, "ended")

    def _public(self) -> dict[str, Any]:
        limits, run = self.guard.rules.policy.limits, self.run
        room = ConnectionRoom(self.guard.rules.policy, self.guard.counters)
        found: dict[str, Any] = {
            "http": build_protocol_class(limits.body_timeout, room),
            # More connections than requests: what is too much the guard refuses, not uvicorn
            "limit_concurrency": room.most + SLACK,
            "timeout_graceful_shutdown": max(1, int(run.grace)),
        }
        if run.tls_cert is not None:
            found |= {"ssl_certfile": str(run.tls_cert), "ssl_keyfile": str(run.tls_key)}
        # Clients without a certificate may still prove themselves in another way
        if run.client_ca is not None:
            found |= {"ssl_ca_certs": str(run.client_ca), "ssl_cert_reqs": ssl.CERT_OPTIONAL}
        return found

    def _admin(self) -> App:
        return build_admin_app(self.reloads, self.proxy.reachable, self.parts.metrics, self._reload)

    def _reload(self) -> bool:
        """Read the policy again; where there are more workers, have the first process tell all."""
        good = self.reloads()
        if good and self.run.workers > 1:
            os.kill(self._parent, signal.SIGHUP)
        return good

    def _signals(self, public: Any) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def end() -> None:
            # A second signal ends it at once
            public.force_exit, public.should_exit = public.should_exit, True

        def again() -> None:
            self.reloads()

        handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: again}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)

        def stop() -> None:
            for number in handlers:
                loop.remove_signal_handler(number)

        return stop

    async def _orphaned(self, public: Any) -> None:
        """End when the first process has gone."""
        # An orphan has another parent; nothing else tells a worker of it
        while self.run.workers > 1 and not self._alone():
            await asyncio.sleep(1.0)
        if self.run.workers > 1:
            public.should_exit = True

    def _alone(self) -> bool:
        """Tell whether the first process of several has gone."""
        return self.run.workers > 1 and os.getppid() != self._parent


def build_server(app: App, settings: dict[str, Any]) -> Any:
    """Build a uvicorn server that leaves signals and logging to us."""
    import uvicorn

    class Server(uvicorn.Server):
        """Handle no signals."""

        def capture_signals(self) -> Any:
            """None."""
            return nullcontext()

    # proxy_headers stays off, as the guard itself decides whose headers it believes
    base: dict[str, Any] = {
        "lifespan": "off",
        "ws": "none",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
    }
    return Server(uvicorn.Config(app, log_config=None, **base | settings))


def open_listener(host: str, port: int) -> socket.socket:
    """Open a socket that listens at an address.

    Raises:
        InputError: The address is taken, or none of this machine.
    """
    try:
        # A colon stands only in addresses of IPv6
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Expected a free address, got {host}:{port}: {error}. Choose another port."
        ) from error
    # Workers get the socket from the first process
    found.set_inheritable(True)
    return found


def find_loop_factory() -> Any:
    """Find the faster event loop, if installed."""
    try:
        import uvloop

        return uvloop.new_event_loop
    except ImportError:
        return None
