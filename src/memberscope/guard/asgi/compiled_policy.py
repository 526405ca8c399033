"""Compile a policy into one value, so that a reload replaces all of it at once."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from memberscope.guard.admission.admit import Admission
from memberscope.guard.hashing.pseudonyms import Names
from memberscope.guard.identity.client_classes import Classes
from memberscope.guard.identity.client_identity import Client, Identifier
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.policy.config import GuardPolicy, read_policy
from memberscope.guard.policy.tables import ClientLimits, RateLimit
from memberscope.guard.rewriting.exchange import Exchange, coarsen_defence
from memberscope.guard.rewriting.request_caps import RequestCaps
from memberscope.guard.rewriting.text_exchange import TextExchange
from memberscope.guard.sketching.record_forms import load_record_form
from memberscope.guard.state.client_shares import find_client_networks
from memberscope.guard.state.interface import AnyBucket, Taken
from memberscope.guard.state.token_buckets import (
    build_buckets,
    format_rate_limit,
    format_rate_policies,
)
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

    @cached_property
    def rate_policies(self) -> bytes:
        """The class's budgets as a header field, empty where it has none."""
        return format_rate_policies(self.allowed)

    def tell_limits(self, taken: Taken | None) -> tuple[tuple[bytes, bytes], ...]:
        """Give the header fields of an answer that tell of budgets."""
        if not self.rate_policies:
            return ()
        policies, rate = (b"ratelimit-policy", self.rate_policies), self.allowed.per_client
        if rate is None or taken is None:
            return (policies,)
        return policies, (b"ratelimit", format_rate_limit(rate, taken))


@dataclass(frozen=True, eq=False)
class Rules:
    """Policy in force, with all that is built from it."""

    policy: GuardPolicy
    exchange: Exchange | TextExchange
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
        self,
        group: Group,
        client: str,
        batch: Batch,
        names: Names,
        throttle: RateLimit | None,
        *,
        sender: str = "",
    ) -> list[AnyBucket]:
        """List the token buckets of this query; `client` is the keyed hash of `sender`."""
        # Hashing records takes time, so that it is done only where a budget asks for it
        if group.unlimited and throttle is None and self.policy.guard.total is None:
            return []
        # Without a budget for each record, only their number counts
        records: Sequence[int] = range(len(batch))
        share = "", ""
        if group.allowed.per_record is not None:
            records = names.records(batch)
            wide, narrow = find_client_networks(sender)
            share = names.client(wide), names.client(narrow)
        return build_buckets(
            client,
            group.name,
            group.allowed,
            self.policy.guard.total,
            records,
            throttle,
            share=share,
        )

    def older_buckets(
        self, group: Group, client: str, batch: Batch, names: Names
    ) -> list[AnyBucket]:
        """List the buckets of this query under keys that were rotated away.

        They are drawn from beside those of the new key until all of that time are full again, so
        that a rotation gives nobody a token. `client` is the text that identifies it. Until then a
        record has a place in the tables for each key.
        """
        found: list[AnyBucket] = []
        for older in names.older:
            # Shares are named by the same key, as they were when these buckets were made
            buckets = self.buckets(group, older.client(client), batch, older, None, sender=client)
            # The budget of all clients together has no name that a key could change
            found += [bucket for bucket in buckets if not bucket.key.startswith("a:")]
        return found


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
        _build_exchange(policy),
        classes,
        groups,
        identify,
        Admission(policy.limits, clock),
        hash_guard_policy(policy),
    )


def _build_exchange(policy: GuardPolicy) -> Exchange | TextExchange:
    """Build what reads and writes the messages of the policy's protocol."""
    form, caps = load_record_form(policy), RequestCaps.of(policy.limits)
    if policy.serving.protocol == "openai":
        return TextExchange(policy.serving, form, caps)
    passes_unreadable = policy.monitor.unreadable == "log"
    return Exchange.of(policy.serving, form, passes_unreadable=passes_unreadable, caps=caps)


def hash_guard_policy(policy: GuardPolicy) -> str:
    """Hash what a policy says, in hexadecimal digits."""
    # The folder is no part of what a policy says
    return hashlib.sha256(policy.model_dump_json(exclude={"home"}).encode()).hexdigest()


def load_guard_policy(source: GuardPolicy | str | Path) -> GuardPolicy:
    """Load a policy, from its file where a name is given."""
    return source if isinstance(source, GuardPolicy) else read_policy(source)


def log_undeclared_columns(rules: Rules) -> None:
    """Warn of budgets for each record where nothing says which values a record has."""
    limited = any(group.allowed.per_record for group in rules.groups.values())
    if limited and rules.exchange.form.size is None:
        log_event(
            logging.WARNING,
            "columns_not_declared",
            why="a server that leaves values out answers about one record under many spellings, and "
            "per_record counts each; name columns in [serving]",
        )
