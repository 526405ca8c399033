"""Compile a policy into one value, so that a reload replaces all of it at once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from memberscope.guard.admission.admit import Admission
from memberscope.guard.hashing.pseudonyms import Names
from memberscope.guard.identity.client_classes import Classes
from memberscope.guard.identity.client_identity import Client, Identifier
from memberscope.guard.policy.config import GuardPolicy, read_policy
from memberscope.guard.policy.tables import ClientLimits, RateLimit
from memberscope.guard.rewriting.exchange import Exchange, coarsen_defence
from memberscope.guard.rewriting.request_caps import RequestCaps
from memberscope.guard.state.interface import Bucket
from memberscope.guard.state.token_buckets import build_buckets
from memberscope.types import OutputDefence
from memberscope.wire import Batch

Identify = Callable[[Mapping[str, Any]], Client]


@dataclass(frozen=True, eq=False)
class Group:
    """Class of clients: its budgets and the defence of its answers.

    Without a defence (None) answers pass as they are.
    """

    name: str
    allowed: ClientLimits
    defence: OutputDefence | None
    coarse: OutputDefence | None  # after an alarm

    @cached_property
    def unlimited(self) -> bool:
        """Whether the class has no budget."""
        return self.allowed.per_client is None and self.allowed.per_record is None


@dataclass(frozen=True, eq=False)
class Rules:
    """Policy in force, with all that is built from it."""

    policy: GuardPolicy
    exchange: Exchange
    classes: Classes
    groups: Mapping[str, Group]
    identify: Identify
    admission: Admission
    digest: str

    @cached_property
    def responds(self) -> bool:
        """Whether an alarm may change what a client gets."""
        # Membership is not among them: its alarms only alert
        respond = self.policy.respond
        return any(
            word != "alert"
            for word in (respond.volume, respond.probing, respond.boundary, respond.coverage)
        )

    @property
    def keeps(self) -> bool:
        """Whether budgets or responses must be kept."""
        limited = self.policy.guard.total is not None or not all(
            group.unlimited for group in self.groups.values()
        )
        return limited or self.responds

    def group(self, client: Client) -> Group:
        """Find the first class that the client belongs to."""
        return self.groups[self.classes.of(client)[0]]

    def buckets(
        self, group: Group, client: str, batch: Batch, names: Names, throttle: RateLimit | None
    ) -> list[Bucket]:
        """List the token buckets of this query; `client` is its keyed hash."""
        # Hashing records takes time, so that it is done only where a budget asks for it
        if group.unlimited and throttle is None and self.policy.guard.total is None:
            return []
        # Without a budget for each record, only their number counts
        records = range(len(batch)) if group.allowed.per_record is None else names.records(batch)
        return build_buckets(
            client, group.name, group.allowed, self.policy.guard.total, records, throttle
        )


def build_rules(
    policy: GuardPolicy,
    identify: Identify | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Rules:
    """Compile a policy; `clock` is for allowances, in seconds.

    Raises:
        InputError: A defence is not fitted, a network cannot be read, or what identifies clients is
            not usable.

    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> build_rules(parse_guard_policy({"serving": {"n_classes": 3}, "default": {"restrict": "top:1"}})).groups["default"].defence
    TopK(k=1)
    """
    classes = Classes(policy)
    groups = {}
    for name, allowed in classes.allowed.items():
        defence, coarse = classes.defence(name), classes.coarsened
        groups[name] = Group(
            name, allowed, defence, defence if coarse is None else coarsen_defence(defence, coarse)
        )
    identify = identify or Identifier(policy.identity, Path(policy.home)).client
    return Rules(
        policy,
        Exchange.of(policy.serving, caps=RequestCaps.of(policy.limits)),
        classes,
        groups,
        identify,
        Admission(policy.limits, clock),
        hash_guard_policy(policy),
    )


def hash_guard_policy(policy: GuardPolicy) -> str:
    """Hash what a policy says, in hexadecimal digits."""
    # The folder is no part of what a policy says
    return hashlib.sha256(policy.model_dump_json(exclude={"home"}).encode()).hexdigest()


def load_guard_policy(source: GuardPolicy | str | Path) -> GuardPolicy:
    """Load a policy, from its file where a name is given."""
    return source if isinstance(source, GuardPolicy) else read_policy(source)
