"""Serve several models in one process: each has a policy, a guard, upstreams and a monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.asgi.asgi_types import App, Receive, Scope, Send
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.asgi.refusals import build_refusal_reply
from memberscope.guard.forwarding.proxy import Proxy
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.refused import RequestRefused
from memberscope.guard.server.assembly import GuardAssembly, assemble_serving_guard
from memberscope.guard.server.reload import Reloads
from memberscope.guard.server.settings import Run


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One model: the prefix of its paths, and what guards it."""

    prefix: str
    proxy: Proxy
    guard: PolicyMiddleware
    parts: GuardAssembly
    reloads: Reloads

    async def watch_replicas(self) -> None:
        """Check the health of several replicas until cancelled; of one, its answers tell enough."""
        while True:
            await asyncio.sleep(self.proxy.health.health_seconds)
            if len(self.proxy.replicas.entries) > 1:
                await self.proxy.check_health()

    async def stop(self) -> None:
        """Let go of everything, the state last: the monitor still uses it while it stops."""
        await self.proxy.close()
        await self.parts.stop()
        await self.parts.state.close()


def build_served_models(
    run: Run,
    policies: Sequence[GuardPolicy],
    secret: bytes,
    *,
    check: Callable[[GuardPolicy], None],
) -> list[ServedModel]:
    """Build the model of each policy; `check` may refuse the first one's at a reload.

    Raises:
        InputError: What a policy names is not usable.
    """
    # One registry for all: two of them could not be exposed together
    metrics = Metrics()
    paths = (run.policy, *run.models)
    found = []
    for number, (path, policy) in enumerate(zip(paths, policies, strict=True)):
        parts = assemble_serving_guard(policy, secret, metrics)
        found.append(_build_served_model(run, path, policy, parts))
        if number == 0:
            found[0].reloads.check = check
    return found


def _build_served_model(
    run: Run, path: Path, policy: GuardPolicy, parts: GuardAssembly
) -> ServedModel:
    """Build the model of one policy."""
    authority = None if run.upstream_ca is None else str(run.upstream_ca)
    proxy = Proxy(run.upstream, policy, ca_file=authority)
    guard = PolicyMiddleware(
        proxy,
        policy=policy,
        state=parts.state,
        watch=parts.watch,
        counters=parts.counters,
        names=parts.names,
        allow_looser=run.allow_looser,
    )

    def follow(new: GuardPolicy) -> None:
        proxy.follow(new)
        parts.follow(new)

    return ServedModel(policy.serving.prefix, proxy, guard, parts, Reloads(guard, path, follow))


def route_models(models: Sequence[ServedModel]) -> App:
    """Build the application that hands each request to the model whose prefix begins its path."""
    if len(models) == 1 and not models[0].prefix:
        return models[0].guard
    # The longest first, so that /a/b is not taken for /a
    order = sorted(models, key=lambda model: -len(model.prefix))

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        for model in order:
            if path.startswith(model.prefix + "/"):
                # The guard and the proxy take a root's path off, as of any mounted application
                await model.guard({**scope, "root_path": model.prefix}, receive, send)
                return
        if scope["type"] == "http":
            await build_refusal_reply(RequestRefused("not-found")).last().send(send)
        else:
            await models[0].guard(scope, receive, send)

    return routed
