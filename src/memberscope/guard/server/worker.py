"""Run one serving process: its sockets, its models and the admin interface."""

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
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.admission.connections import SPARE, ConnectionRoom
from memberscope.guard.alerting.prometheus import Metrics, leave_folder
from memberscope.guard.asgi.asgi_types import App, Receive, Scope, Send
from memberscope.guard.asgi.compiled_policy import log_undeclared_columns
from memberscope.guard.asgi.http_protocol import build_protocol_class
from memberscope.guard.logs.operational_log import log_event, log_to_stderr
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.measured_level import log_measured
from memberscope.guard.server.admin_api import AdminParts, build_admin_app
from memberscope.guard.server.admin_token import read_required_token
from memberscope.guard.server.certificates import ServedCertificates
from memberscope.guard.server.request_entry import serve_with_request_id
from memberscope.guard.server.served_model import build_served_models, route_models
from memberscope.guard.server.settings import Run
from memberscope.guard.server.telemetry import build_telemetry

SLACK = 64  # connections that are ending, beyond those that have a seat
CERTIFICATES_EVERY = 1.0  # seconds between looks at the files of certificates
ADMIN_PATIENCE = 10.0  # seconds for the head of a request to the operators' port


def run_worker(run: Run, listening: socket.socket, secret: bytes, place: int = 0) -> None:
    """Run one worker until a signal ends it."""
    from threadpoolctl import threadpool_limits

    log_to_stderr(run.log_level)
    # The monitor's products are small: threads would only wait for one another
    threadpool_limits(1)
    with asyncio.Runner(loop_factory=find_loop_factory()) as runner:
        runner.run(Worker(run, secret, place).serve(listening))


class Worker:
    """Serve in one process: the guards of its models, and the admin interface."""

    def __init__(self, run: Run, secret: bytes, place: int = 0) -> None:
        """Put it together."""
        self.run, self.place, self._parent = run, place, os.getppid()
        self.draining = False
        policies = run.checked()
        self._token = read_required_token(policies[0], run.admin_host)
        self.models = build_served_models(run, policies, secret, check=self._read_token)
        self.app = route_models(self.models)
        self._telemetry = build_telemetry(policies[0].telemetry)
        counters = self.models[0].parts.counters
        self._metrics = counters if isinstance(counters, Metrics) else None
        if self._telemetry is not None and self._metrics is not None:
            self._telemetry.export(self._metrics)
        self._certificates: ServedCertificates | None = None

    async def serve(self, listening: socket.socket) -> None:
        """Serve until a signal ends it."""
        # Each worker has an admin port of its own, counted up from the first
        inward = open_listener(
            self.run.admin_host, self.run.admin_port + self.place if self.run.admin_port else 0
        )
        public, inside = (
            build_server(self._entry, self._public()),
            build_server(self._admin(), {"http": build_protocol_class(ADMIN_PATIENCE)}),
        )
        # Signals that come while the parts start must end it too
        ending = self._signals(public)
        try:
            for model in self.models:
                await model.parts.start()
        except BaseException:
            ending()
            raise
        # What lives from the start on is no garbage: collections need not look at it each time
        gc.freeze()
        self._log_start(listening, inward)
        self._watch_certificates(public)
        # The admin interface answers until the public one has ended
        within = asyncio.create_task(inside.serve([inward]))
        aside = [
            asyncio.create_task(self._orphaned(public)),
            asyncio.create_task(self._look_again()),
            *(asyncio.create_task(model.watch_replicas()) for model in self.models),
        ]
        try:
            await public.serve([listening])
        finally:
            for task in aside:
                task.cancel()
            inside.should_exit = True
            await within
            try:
                for model in self.models:
                    await model.stop()
                if self._telemetry is not None:
                    await self._telemetry.stop()
            finally:
                ending()
                # With the first process gone nobody else clears the folder of metrics
                if self._alone():
                    leave_folder()
                log_event(logging.INFO, "ended")

    async def _entry(self, scope: Scope, receive: Receive, send: Send) -> None:
        await serve_with_request_id(self._traced, scope, receive, send)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._telemetry is None:
            await self.app(scope, receive, send)
        else:
            await self._telemetry.trace(self.app, scope, receive, send)

    def _log_start(self, listening: socket.socket, inward: socket.socket) -> None:
        for model in self.models:
            rules = model.guard.rules
            log_event(
                logging.INFO,
                "serving",
                process=os.getpid(),
                port=listening.getsockname()[1],
                admin_port=inward.getsockname()[1],
                prefix=model.prefix,
                digest=rules.digest,
                mode=rules.policy.guard.mode,
                on_fault=rules.policy.guard.on_fault,
            )
            log_measured(rules.policy)
            log_undeclared_columns(rules)

    def _public(self) -> dict[str, Any]:
        limits, run = [model.guard.rules.policy.limits for model in self.models], self.run
        # A connection is there before anything says which model it is for: shares and proxies are
        # those of the first policy, room is for all
        first = self.models[0]
        most = sum(entry.concurrency + entry.queue for entry in limits) + SPARE
        room = ConnectionRoom(first.guard.rules.policy, first.guard.counters, most)
        found: dict[str, Any] = {
            "http": build_protocol_class(max(entry.body_timeout for entry in limits), room),
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
        return build_admin_app(
            AdminParts(
                [model.reloads for model in self.models],
                self._reachable,
                self._expose_metrics,
                self._reload,
                lambda: self._token,
                lambda: self.draining,
            )
        )

    async def _reachable(self) -> bool:
        return all([await model.proxy.reachable() for model in self.models])

    def _expose_metrics(self) -> bytes:
        if self._metrics is not None:
            pools = [model.proxy.replicas for model in self.models]
            out = [entry for pool in pools for entry in pool.entries if pool.is_out(entry)]
            self._metrics.left_out(len(out))
        # All models count in the same registry; each has a monitor of its own to ask
        return [model.parts.metrics() for model in self.models][-1]

    def _read_token(self, policy: GuardPolicy) -> None:
        self._token = read_required_token(policy, self.run.admin_host)

    def _reload(self) -> bool:
        """Read the policies again; where there are more workers, have the first process tell all."""
        good = self._read_policies()
        if good and self.run.workers > 1:
            os.kill(self._parent, signal.SIGHUP)
        return good

    def _read_policies(self) -> bool:
        return all([model.reloads() for model in self.models])

    def _signals(self, public: Any) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            public.should_exit = True

        def end() -> None:
            # A second signal ends it at once
            public.force_exit = public.should_exit
            if self.draining or not self.run.drain:
                stop()
            else:
                # Who looks at readiness sends nothing new before the listener closes
                log_event(logging.INFO, "draining", seconds=self.run.drain)
                loop.call_later(self.run.drain, stop)
            self.draining = True

        def again() -> None:
            self._read_policies()
            if self._certificates is not None:
                self._certificates.reload()

        handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: again}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)

        def release() -> None:
            for number in handlers:
                loop.remove_signal_handler(number)

        return release

    def _watch_certificates(self, public: Any) -> None:
        run = self.run
        if run.tls_cert is None or run.tls_key is None:
            return
        # Else the context is made only when the server starts
        public.config.load()
        self._certificates = ServedCertificates(
            public.config.ssl, run.tls_cert, run.tls_key, run.client_ca
        )

    async def _look_again(self) -> None:
        """Load certificates again whenever their files change."""
        while self._certificates is not None:
            await asyncio.sleep(CERTIFICATES_EVERY)
            self._certificates.reload_changed()

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
        # Else uvicorn takes a method for an application of ASGI 2
        "interface": "asgi3",
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
