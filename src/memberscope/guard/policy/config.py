"""The policy `guard.toml` as a whole: read it, check it across tables, find its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from memberscope._files import parse_toml, read_regular_file
from memberscope._text import quote_value
from memberscope.errors import InputError
from memberscope.guard.policy.tables import (
    AdminConfig,
    Alerts,
    ClientClass,
    ClientLimits,
    GuardLimits,
    Identity,
    MeasuredClaim,
    ModeConfig,
    MonitorConfig,
    PolicyTable,
    Respond,
    ServingConfig,
    StateConfig,
    TelemetryConfig,
    UpstreamsConfig,
)
from memberscope.outputs import NONE, check_restriction, parse_restriction
from memberscope.outputs.texts import is_text_defence


class GuardPolicy(PolicyTable):
    """Policy of a guard: all of `guard.toml`.

    >>> policy = GuardPolicy(serving=ServingConfig(model_name="iris", n_classes=3), default=ClientLimits(restrict="top:1", per_client="100/h"))
    >>> policy.default.per_client.n, policy.guard.on_fault
    (100, 'closed')
    """

    guard: ModeConfig = ModeConfig()
    serving: ServingConfig
    identity: Identity = Identity()
    clients: tuple[ClientClass, ...] = ()
    default: ClientLimits = ClientLimits()
    limits: GuardLimits = GuardLimits()
    monitor: MonitorConfig = MonitorConfig()
    respond: Respond = Respond()
    alerts: Alerts = Alerts()
    state: StateConfig = StateConfig()
    admin: AdminConfig = AdminConfig()
    upstreams: UpstreamsConfig = UpstreamsConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    measured: MeasuredClaim | None = None
    fitted: str | None = None  # the file of fitted output defences, such as memguard
    home: str = "."  # the folder that paths are relative to

    @model_validator(mode="after")
    def _whole(self) -> GuardPolicy:
        names = [entry.name for entry in self.clients]
        if len(set(names)) < len(names) or "default" in names:
            raise ValueError(
                "Expected client classes with different names, none of them default. Rename one."
            )
        # Of labels nothing can be rounded or hidden
        if self.serving.outputs == "labels" and any(
            entry.restrict not in ("none", "label") for entry in (*self.clients, self.default)
        ):
            raise ValueError(
                "Expected restrict none or label where the server answers labels. Set restrict to "
                "one of the two."
            )
        if self.serving.protocol == "openai":
            self._check_texts()
        else:
            self._check_task()
        if self.monitor.socket is not None and self.state.redis is not None:
            raise ValueError(
                "Expected socket in [monitor] without [state] redis, got both: workers that share "
                "a Redis watch by turns themselves. Remove one."
            )
        if "jwt" in self.identity.by and self.identity.jwt is None:
            raise ValueError(
                "Expected [identity.jwt] with key_file or jwks_url for by = jwt, got none. Add it."
            )
        if "api_key" in self.identity.by and not self.identity.keys:
            raise ValueError(
                "Expected [[identity.keys]] for by = api_key, got none. Add name and sha256 of "
                "each key."
            )
        return self

    def _check_texts(self) -> None:
        """Check what a policy in front of a language model says of answers and records.

        Raises:
            ValueError: A defence is for classes alone, or the monitor's records are no texts.
        """
        named = [entry.restrict for entry in (*self.clients, self.default)]
        for name in (*named, self.respond.coarsen):
            if not is_text_defence(name):
                raise ValueError(
                    f"Expected none, label, top:k or round:d for a language model, got {name}. "
                    "Write one of them."
                )
        if self.monitor.sketch is not None and self.monitor.kind != "text":
            raise ValueError(
                f"Expected kind text in [monitor] with protocol openai, got {self.monitor.kind}. "
                'Write kind = "text".'
            )

    def _check_task(self) -> None:
        """Check that each restriction is for answers of the served model's task.

        Raises:
            ValueError: One is for answers of another kind.
        """
        named = [entry.restrict for entry in (*self.clients, self.default)]
        # The usual way to coarsen is for classes, and counts only where an alarm may coarsen
        respond = self.respond
        words = (respond.volume, respond.probing, respond.boundary, respond.coverage)
        named += [respond.coarsen] if "coarsen" in words else []
        for name in named:
            if name == NONE:
                continue
            try:
                check_restriction(parse_restriction(name), self.serving.task)
            except InputError as error:
                raise ValueError(str(error)) from None

    @property
    def longest_refill(self) -> float:
        """Seconds after which every budget of a client is full again."""
        limits = (*self.clients, self.default)
        rates = [rate for entry in limits for rate in (entry.per_client, entry.per_record)]
        return max((rate.seconds for rate in rates if rate is not None), default=0.0)

    def path(self, name: str) -> Path:
        """Give the path of a file that the policy names.

        Raises:
            InputError: No file can have that name.
        """
        if "\0" in name:
            raise InputError(
                f"Expected the name of a file in the policy, got {quote_value(name)}. Take the null "
                "character out."
            )
        return Path(self.home) / name


def read_policy(path: str | Path) -> GuardPolicy:
    """Read a policy from a TOML file.

    Raises:
        InputError: It cannot be read, is no TOML, or some key or value is not usable; the sentence
            names the key.
    """
    return parse_guard_policy(read_policy_table(path), str(path))


def read_policy_table(path: str | Path) -> dict[str, object]:
    """Read the tables of a policy file, and the folder that its paths are relative to.

    Raises:
        InputError: It cannot be read, or is no TOML.
    """
    path = Path(path)
    try:
        table = parse_toml(read_regular_file(path, largest=16 << 20).decode())
    except OSError as error:
        raise InputError(
            f"Expected a guard policy, got {str(path)!r}: {error.strerror}. Check --policy."
        ) from error
    except ValueError as error:
        raise InputError(
            f"Expected a TOML policy, got {str(path)!r} with: {error}. Correct the file that "
            "--policy names."
        ) from error
    return {**table, "home": str(path.parent)}


def parse_guard_policy(table: dict[str, object], name: str = "the policy") -> GuardPolicy:
    """Parse a policy from a table.

    Raises:
        InputError: Some key or value is not usable; the sentence names the key.

    >>> parse_guard_policy({"serving": {"n_classes": 3}, "default": {"restrict": "tip:3"}})
    Traceback (most recent call last):
    memberscope.errors.InputError: Expected a usable default.restrict in the policy, got 'tip:3':
    Expected a restriction such as ...
    """
    try:
        return GuardPolicy.model_validate(table)
    except ValidationError as error:
        # The first error alone: others often follow from it
        raise InputError(_describe_policy_error(error.errors()[0], name)) from None


def list_policy_errors(table: dict[str, object], name: str = "the policy") -> list[str]:
    """List all that is wrong with a table of a policy, in sentences.

    >>> len(list_policy_errors({"serving": {"n_classes": 3}, "limits": {"queue": -1}, "x": 1}))
    2
    """
    try:
        GuardPolicy.model_validate(table)
    except ValidationError as error:
        return [_describe_policy_error(entry, name) for entry in error.errors()]
    return []


def _describe_policy_error(found: Any, name: str) -> str:
    """Describe one error of a policy; `found` is one of pydantic's."""
    where = ".".join(map(str, found["loc"])) or "table"
    said = found["msg"].removeprefix("Value error, ").rstrip(".")
    # What a check of one value says may quote it
    said = re.sub(r"'([^']*)'", lambda quoted: quote_value(quoted[1]), said)
    # A whole table says nothing about which of its keys is wrong
    unsaid = isinstance(found["input"], dict | GuardPolicy)
    # Nothing is quoted from tables where keys and passwords are pasted
    hidden = {"identity", "alerts", "state", "admin", "who"} & set(map(str, found["loc"]))
    got = "" if unsaid or hidden else f", got {quote_value(found['input'])}"
    if hidden:
        said = said.replace(repr(found["input"]), "another text")
    return f"Expected a usable {where} in {name}{got}: {said}. Correct it there."
