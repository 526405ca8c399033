"""Policies: the limits that an audit is judged by, and where they come from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from memberscope import _check
from memberscope.errors import InputError


@dataclass(frozen=True)
class Claim:
    """No attack finds more than `tpr` of the members while accusing `fpr` of the non-members; both are rates.

    >>> Claim(fpr=0.01, tpr=0.03).sentence()
    'No attack finds more than 3% of members at 1% false positives.'
    """

    fpr: float
    tpr: float

    def __post_init__(self) -> None:
        _check.rate("fpr of a policy claim", self.fpr)
        _check.rate("tpr of a policy claim", self.tpr)
        if self.tpr < self.fpr:
            raise InputError(
                f"Expected a limit tpr of at least the fpr {self.fpr}, got {self.tpr}. "
                f"Guessing alone reaches a TPR equal to the FPR."
            )

    def sentence(self) -> str:
        """The claim in words."""
        return f"No attack finds more than {100 * self.tpr:.4g}% of members at {100 * self.fpr:.4g}% false positives."


@dataclass(frozen=True)
class Policy:
    """The family of claims judged together, and the attacks that must have run before anything can pass."""

    name: str
    max_tpr: tuple[Claim, ...]
    require: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.max_tpr:
            raise InputError("Expected at least one max_tpr claim in the policy, got none. Add { fpr = 0.01, tpr = 0.03 }.")
        if len({claim.fpr for claim in self.max_tpr}) < len(self.max_tpr):
            raise InputError("Expected one max_tpr claim for each fpr, got two for the same fpr. Keep the stricter one.")


def shipped() -> tuple[str, ...]:
    """Names of the policies that come with the package.

    >>> shipped()
    ('demo', 'standard', 'strict')
    """
    names = (entry.name for entry in (files(__package__) / "policies").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def policy_from_table(table: Mapping[str, Any], *, name: str = "policy") -> Policy:
    """Policy from the `[policy]` table of a configuration file.

    Raises:
        InputError: A key is unknown or a value is not usable.
    """
    if not isinstance(table, Mapping):
        raise InputError(f"Expected a [policy] table, got policy = {table!r}. Write max_tpr = [ … ] below [policy].")
    if not isinstance(table.get("require", []), list | tuple):
        raise InputError(f"Expected a list for require in [policy], got {table['require']!r}. Write require = [ … ].")
    unknown = set(table) - {"name", "max_tpr", "require"}
    if unknown:
        raise InputError(
            f"Expected name, max_tpr and require in [policy], got {', '.join(sorted(unknown))}. Remove what is unknown."
        )
    try:
        claims = tuple(Claim(fpr=float(row["fpr"]), tpr=float(row["tpr"])) for row in table.get("max_tpr", ()))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"Expected max_tpr = [{{ fpr = 0.01, tpr = 0.03 }}] in [policy], got {table.get('max_tpr')!r}. Repair it."
        ) from error
    return Policy(str(table.get("name", name)), claims, tuple(str(entry) for entry in table.get("require", ())))


def load_policy(name_or_path: str) -> Policy:
    """A shipped policy by name, or one from a TOML file with a `[policy]` table.

    Raises:
        InputError: There is no such policy, or the file is not one.

    >>> load_policy("standard").max_tpr
    (Claim(fpr=0.01, tpr=0.03),)
    """
    if name_or_path in shipped():
        text = (files(__package__) / "policies" / f"{name_or_path}.toml").read_text(encoding="utf-8")
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError(f"Expected a policy file or one of {', '.join(shipped())}, got {name_or_path!r}. Check the path.")
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"Expected a TOML policy, got {name_or_path!r} with: {error}. Repair the file.") from error
    if "policy" not in table:
        raise InputError(f"Expected a [policy] table in {name_or_path!r}, got none. Add one with max_tpr.")
    return policy_from_table(table["policy"], name=Path(name_or_path).stem)
