"""The policy `guard.toml` as a whole: read it, check it across tables, find its files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from memberscope.errors import InputError
from memberscope.guard.policy.tables import (
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
)


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
                "Expected restrict none or label where the server answers labels. Repair restrict."
            )
        if "jwt" in self.identity.by and self.identity.jwt is None:
            raise ValueError(
                "Expected [identity.jwt] with a key_file for by = jwt, got none. Add it."
            )
        if "api_key" in self.identity.by and not self.identity.keys:
            raise ValueError(
                "Expected [[identity.keys]] for by = api_key, got none. Add name and sha256 of "
                "each key."
            )
        return self

    def path(self, name: str) -> Path:
        """Give the path of a file that the policy names."""
        return Path(self.home) / name


def read_policy(path: str | Path) -> GuardPolicy:
    """Read a policy from a TOML file.

    Raises:
        InputError: It cannot be read, is no TOML, or some key or value is not usable; the sentence
            names the key.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"Expected a guard policy, got {str(path)!r}: {error.strerror}. Check --policy."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"Expected a TOML policy, got {str(path)!r} with: {error}. Repair the file."
        ) from error
    return parse_guard_policy({**table, "home": str(path.parent)}, str(path))


def parse_guard_policy(table: dict[str, Any], name: str = "the policy") -> GuardPolicy:
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
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "table"
        said = first["msg"].removeprefix("Value error, ").rstrip(".")
        # A whole table says nothing about which of its keys is wrong
        got = (
            ""
            if isinstance(first["input"], dict | GuardPolicy)
            else f", got {str(first['input'])[:80]!r}"
        )
        raise InputError(
            f"Expected a usable {where} in {name}{got}: {said}. Repair the policy."
        ) from None
