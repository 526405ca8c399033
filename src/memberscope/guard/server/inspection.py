"""Look for what is wrong with a guard before it serves: settings, files, upstream, Redis."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from memberscope._files import is_open_to_all
from memberscope.errors import InputError
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.forwarding.proxy import Proxy
from memberscope.guard.forwarding.replicas import can_connect
from memberscope.guard.hashing import read_secrets
from memberscope.guard.monitor import has_monitor, load_monitor_artifacts
from memberscope.guard.policy.config import (
    GuardPolicy,
    list_policy_errors,
    parse_guard_policy,
    read_policy_table,
)
from memberscope.guard.policy.measured_level import find_looser_classes
from memberscope.guard.server.admin_token import read_required_token
from memberscope.guard.server.settings import Run, require_separate_models
from memberscope.guard.state.budget_folder import is_writable_by_all
from memberscope.guard.state.interface import StateError
from memberscope.guard.state.redis_client import RedisLink

OLDEST_REDIS = (6, 2)
PATIENCE = 5.0  # seconds for Redis: this is no request that a client waits for


def inspect_guard(run: Run) -> list[str]:
    """Find all that is wrong with what `guard run` would serve, each in a sentence.

    It reaches the upstreams and Redis; nothing is asked of the model.

    Raises:
        InputError: A policy cannot be read at all.
    """
    found: list[str] = []
    policies: list[GuardPolicy] = []
    for path in (run.policy, *run.models):
        table = read_policy_table(path)
        wrong = list_policy_errors(table, str(path))
        found += wrong
        # What follows needs a policy that can be read as one
        if not wrong:
            policies.append(parse_guard_policy(table, str(path)))
    if len(policies) == 1 + len(run.models):
        found += _list_errors(lambda: require_separate_models(policies))
        found += _list_errors(lambda: run.check_options(policies))
        found += _list_errors(lambda: read_required_token(policies[0], run.admin_host))
    if run.tls_key is not None:
        found += _inspect_secret_file(run.tls_key)
    for policy in policies:
        found += _inspect_policy(run, policy)
        found += asyncio.run(_inspect_services(run, policy))
    return found


def _list_errors(check: Any) -> list[str]:
    """Give the sentence of what a check raises, if it does."""
    try:
        check()
    except InputError as error:
        return [str(error)]
    return []


def _inspect_policy(run: Run, policy: GuardPolicy) -> Iterator[str]:
    """Look at a policy's levels, defences, credentials and files."""
    if not run.allow_looser:
        level = None if policy.measured is None else policy.measured.level
        for name in find_looser_classes(policy):
            yield (
                f"Clients of the class {name} would see more than follows from the measured level "
                f"{level}: repair its restrict, or audit it and run guard init again."
            )
    plain = policy.model_copy(update={"measured": None})
    yield from _list_errors(lambda: PolicyMiddleware(None, policy=plain))
    key = policy.monitor.key
    # A key that everybody can read is told with the other secrets
    if key is not None and not is_open_to_all(policy.path(key)):
        yield from _list_errors(lambda: read_secrets(policy.path(key)))
    for path in _list_secret_files(policy):
        yield from _inspect_secret_file(path)
    if policy.state.folder is not None:
        yield from _inspect_budget_folder(policy.path(policy.state.folder))
    if has_monitor(policy):
        yield from _list_errors(lambda: load_monitor_artifacts(policy))
    if policy.state.redis is not None and policy.monitor.key is None:
        yield (
            "Budgets in Redis would begin anew at each start, as [monitor] names no key to know "
            "clients by: name a key file, and make it with memberscope guard prepare."
        )


def _inspect_budget_folder(path: Path) -> Iterator[str]:
    """Look whether budgets can be kept in a folder, or the folder be made; nothing is made."""
    there = next(entry for entry in (path, *path.absolute().parents) if os.access(entry, os.F_OK))
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield (
            f"Budgets cannot be kept in {str(path)!r}: {str(there)!r} is no folder that can be "
            "written. Name another folder in [state]."
        )
    elif there == path and is_writable_by_all(path):
        yield (
            f"Budgets in {str(path)!r} can be made fresh, as everybody can write that folder: run "
            f"chmod 700 {path}."
        )


def _list_secret_files(policy: GuardPolicy) -> list[Path]:
    """List the files of a policy that hold secrets."""
    jwt = policy.identity.jwt
    # The key of other algorithms is public
    shared = jwt is not None and any(word.startswith("HS") for word in jwt.algorithms)
    token_key = jwt.key_file if jwt is not None and shared else None
    names = (policy.monitor.key, policy.fitted, token_key)
    return [policy.path(name) for name in names if name is not None]


def _inspect_secret_file(path: Path) -> Iterator[str]:
    """Look at who may read a file with a secret."""
    if is_open_to_all(path):
        yield f"The file {str(path)!r} holds a secret that everybody can read: run chmod 600 {path}."


async def _inspect_services(run: Run, policy: GuardPolicy) -> list[str]:
    """Reach each replica of the upstream, and Redis where the policy names one."""
    found = []
    try:
        proxy = Proxy(run.upstream, policy)
    except InputError as error:
        found.append(str(error))
    else:
        context = ssl.create_default_context()
        # A file that cannot be read was told with the other options
        if run.upstream_ca is not None:
            with suppress(OSError):
                context = ssl.create_default_context(cafile=run.upstream_ca)
        for replica in proxy.replicas.entries:
            if not await can_connect(replica, policy.limits.connect_timeout, context):
                host, port = replica.place
                found.append(
                    f"The model's server at {host}:{port} accepts no connection, or shows a "
                    "certificate that is not trusted: start it, or repair its address."
                )
    if policy.state.redis is not None:
        found += await _inspect_redis(policy.state.redis)
    return found


async def _inspect_redis(url: str) -> list[str]:
    """Look at a Redis: its version, its kind, and whether it would drop budgets."""
    try:
        link = RedisLink(url, PATIENCE)
    except InputError as error:
        return [str(error)]
    try:
        about = await link.ask(link.redis.info)
    except StateError as error:
        return [
            f"Redis of [state] cannot be used: {str(error).rstrip('.')}: start it, or repair it."
        ]
    finally:
        await link.close()
    return list(_judge_redis(about))


def _judge_redis(about: dict[str, object]) -> Iterator[str]:
    """Say what is wrong with a Redis by what it says about itself.

    >>> good = {"redis_version": "7.2.1", "maxmemory_policy": "noeviction", "redis_mode": "standalone"}
    >>> list(_judge_redis(good)), len(list(_judge_redis({**good, "maxmemory_policy": "allkeys-lru"})))
    ([], 1)
    """
    version = str(about.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_REDIS:
        yield f"Redis has the version {version or 'unknown'}, and 6.2 or later is needed: update it."
    eviction = about.get("maxmemory_policy")
    # Every key has a time to live, so that the volatile policies drop budgets too
    if eviction != "noeviction":
        yield (
            f"Redis has maxmemory-policy {eviction}, by which it drops budgets when memory is short "
            "and gives fresh ones: set noeviction."
        )
    if about.get("redis_mode") == "cluster" or about.get("cluster_enabled"):
        yield "Redis is a cluster, on which no script takes several budgets at once: use one server."
