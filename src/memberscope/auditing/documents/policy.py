"""Read policies: the limits that an audit is judged by, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from memberscope import _check
from memberscope._files import parse_toml
from memberscope.errors import InputError

# A number in quotes, or a misspelt key, must not pass for a limit
STRICT = ConfigDict(extra="forbid", strict=True)
_GROUP = "Judge every value of this group by itself, such as sex; without it all records together."


@dataclass(frozen=True, config=STRICT)
class Claim:
    """No attack finds more than `tpr` of the members at `fpr` false positives.

    >>> Claim(fpr=0.01, tpr=0.03).sentence()
    'No attack finds more than 3% of members at 1% false positives.'
    """

    fpr: float = Field(
        description="False-positive rate at which members are counted, between 0 and 1."
    )
    tpr: float = Field(description="Largest share of members that may be found at that rate.")
    group: str | None = Field(default=None, description=_GROUP)

    def __post_init__(self) -> None:
        _check.check_rate("fpr of a policy claim", self.fpr)
        _check.check_rate("tpr of a policy claim", self.tpr)
        # Guessing reaches the diagonal, so a lower limit would fail every model
        if self.tpr < self.fpr:
            raise InputError(
                f"Expected a limit tpr of at least the fpr {self.fpr}, got {self.tpr}. "
                f"Guessing alone reaches a TPR equal to the FPR."
            )

    def sentence(self) -> str:
        """Write the claim in words."""
        return (
            f"No attack finds more than {100 * self.tpr:.4g}% of "
            f"members{_describe_group(self.group)} "
            f"at {100 * self.fpr:.4g}% false positives."
        )


@dataclass(frozen=True, config=STRICT)
class AucClaim:
    """No attack has an AUC above `auc`.

    >>> AucClaim(auc=0.6, group="sex").sentence()
    'No attack has an AUC above 0.6 in any value of sex.'
    """

    auc: float = Field(description="Largest area under the ROC curve, at least 0.5.")
    group: str | None = Field(default=None, description=_GROUP)

    def __post_init__(self) -> None:
        if not 0.5 <= self.auc < 1:
            raise InputError(
                f"Expected a limit auc of at least 0.5 and below 1, got {self.auc}. Guessing alone "
                "reaches 0.5."
            )

    def sentence(self) -> str:
        """Write the claim in words."""
        return f"No attack has an AUC above {self.auc:.4g}{_describe_group(self.group)}."


@dataclass(frozen=True, config=STRICT)
class PpvClaim:
    """At most a share `ppv` of the records named as members are members, at `fpr` false positives.

    `prior` is the share of members among the records tried.

    >>> round(PpvClaim(ppv=0.5, fpr=0.01, prior=0.1).as_tpr(), 4)
    0.09
    """

    ppv: float = Field(
        description="Largest precision: members among the records that an attack names as members."
    )
    fpr: float = Field(
        description="False-positive rate: the share of non-members that are named as members."
    )
    prior: float = Field(
        description="Share of members among the records that an adversary would try."
    )
    group: str | None = Field(default=None, description=_GROUP)

    def __post_init__(self) -> None:
        for name in ("ppv", "fpr", "prior"):
            _check.check_rate(f"{name} of a policy claim", getattr(self, name))
        if self.ppv < self.prior:
            raise InputError(
                f"Expected a limit ppv of at least the prior {self.prior}, got {self.ppv}. "
                f"Guessing alone reaches a precision equal to the prior."
            )
        # No attack exceeds a TPR of one, so such a limit could never fail
        if self.as_tpr() >= 1:
            raise InputError(
                f"Expected a limit ppv that some attack could exceed at an fpr of {self.fpr} and a "
                f"prior of {self.prior}, got "
                f"{self.ppv}. Finding every member reaches less."
            )

    def as_tpr(self) -> float:
        """Compute the TPR at `fpr` at which the precision is exactly `ppv`."""
        return self.ppv * (1 - self.prior) * self.fpr / (self.prior * (1 - self.ppv))

    def sentence(self) -> str:
        """Write the claim in words."""
        return (
            f"At most {100 * self.ppv:.4g}% of the records named as members are members"
            f"{_describe_group(self.group)}, at {100 * self.fpr:.4g}% false positives and with "
            f"{100 * self.prior:.4g}% of the records tried being members."
        )


@dataclass(frozen=True, config=STRICT)
class EpsilonClaim:
    """The training was differentially private with at most `epsilon` (nats), at delta 0.

    A lower bound on epsilon can refute this and never show it.

    >>> EpsilonClaim(epsilon=2.0).sentence()
    'Training was differentially private with an epsilon of at most 2.'
    """

    epsilon: float = Field(description="Largest epsilon, in nats. It needs members drawn by coins.")

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < float("inf"):
            raise InputError(
                f"Expected a limit epsilon of at least 0, got {self.epsilon}. Give it in nats."
            )

    @property
    def group(self) -> None:
        """No group: the guarantee is about all records."""
        return None

    def sentence(self) -> str:
        """Write the claim in words."""
        return f"Training was differentially private with an epsilon of at most {self.epsilon:.4g}."


AnyClaim = Claim | AucClaim | PpvClaim | EpsilonClaim
KINDS: dict[str, type[AnyClaim]] = {
    "max_tpr": Claim,
    "max_auc": AucClaim,
    "max_ppv": PpvClaim,
    "max_epsilon": EpsilonClaim,
}
EXAMPLES = {
    "max_tpr": "[{ fpr = 0.01, tpr = 0.03 }]",
    "max_auc": "0.6",
    "max_ppv": "[{ ppv = 0.5, fpr = 0.01, prior = 0.01 }]",
    "max_epsilon": "2.0",
}


@dataclass(frozen=True, config=STRICT)
class Policy:
    """The family of claims judged together, and what must have run before anything can pass."""

    name: str = Field(
        default="policy",
        description="The policy's name in reports; the file's name where a file has none.",
    )
    max_tpr: tuple[Claim, ...] = Field(
        default=(), description="Largest TPR at a false-positive rate; rows of fpr, tpr and group."
    )
    require: tuple[str, ...] = Field(
        default=(), description="Attacks that must have run, at every rate of the policy."
    )
    confidence: float = Field(
        default=0.95, description="Least confidence of the intervals that a pass may rest on."
    )
    references: int = Field(
        default=0,
        description="Reference models that attacks must have used; a pass with fewer is a limited pass.",
    )
    max_auc: tuple[AucClaim, ...] = Field(
        default=(), description="Largest AUC of any attack: a number, or rows of auc and group."
    )
    max_ppv: tuple[PpvClaim, ...] = Field(
        default=(), description="Largest precision; rows of ppv, fpr, prior and group."
    )
    max_epsilon: tuple[EpsilonClaim, ...] = Field(
        default=(),
        description="Largest epsilon of differential privacy: a number. It can fail, and never pass.",
    )

    def __post_init__(self) -> None:
        # A policy without claims would pass every audit
        if not self.claims():
            raise InputError(
                "Expected at least one claim in the policy, such as max_tpr, got none. Add { fpr = "
                "0.01, tpr = 0.03 }."
            )
        _check.check_rate("confidence of a policy", self.confidence)
        if self.references < 0:
            raise InputError(
                f"Expected references of at least 0 in the policy, got {self.references}."
            )
        # Two limits for the same number would leave open which one holds
        for name in KINDS:
            places = [
                tuple(getattr(row, key, None) for key in ("fpr", "prior", "group"))
                for row in getattr(self, name)
            ]
            if len(set(places)) < len(places):
                raise InputError(
                    f"Expected one {name} claim for each fpr, prior and group, got two for the "
                    "same. Keep the stricter one."
                )

    def claims(self) -> tuple[AnyClaim, ...]:
        """List every claim, in the order of the policy's keys."""
        return (*self.max_tpr, *self.max_auc, *self.max_ppv, *self.max_epsilon)


def _describe_group(group: str | None) -> str:
    """Write the end of a sentence that names a claim's group.

    >>> _describe_group("sex"), _describe_group("sex=f"), _describe_group(None)
    (' in any value of sex', ' in sex=f', '')
    """
    if group is None:
        return ""
    return f" in {group}" if "=" in group else f" in any value of {group}"


def list_bundled_policies() -> tuple[str, ...]:
    """List the names of the policies that come with the package.

    >>> list_bundled_policies()
    ('demo', 'standard', 'strict')
    """
    names = (entry.name for entry in (files("memberscope.auditing") / "policies").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def parse_policy_table(table: Mapping[str, Any], *, name: str = "policy") -> Policy:
    """Parse a policy from the `[policy]` table of a configuration file.

    Raises:
        InputError: A key is unknown or a value is not usable.

    >>> parse_policy_table({"max_auc": 0.6, "references": 4}).max_auc
    (AucClaim(auc=0.6, group=None),)
    """
    if not isinstance(table, Mapping):
        raise InputError(
            f"Expected a [policy] table, got policy = {table!r}. Write max_tpr = [ … ] below "
            "[policy]."
        )
    # Unknown keys are refused, lest a misspelt limit is not judged
    known = [field.name for field in fields(Policy)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise InputError(
            f"Expected the keys {', '.join(known)} in [policy], got {', '.join(unknown)}. Remove "
            "what is unknown."
        )
    require = table.get("require", ())
    if not isinstance(require, list | tuple) or not all(
        isinstance(entry, str) for entry in require
    ):
        raise InputError(
            f"Expected a list of attacks for require in [policy], got {require!r}. Write require = "
            "[ … ]."
        )
    references = table.get("references", 0)
    # True and false are whole numbers to Python, and no count of models
    if not isinstance(references, int) or isinstance(references, bool):
        raise InputError(
            f"Expected a whole number for references in [policy], got {references!r}. Write "
            "references = 4."
        )
    confidence = table.get("confidence", 0.95)
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        raise InputError(
            f"Expected a number for confidence in [policy], got {confidence!r}. Write confidence = "
            "0.95."
        )
    rows = {key: _read_claims(key, table[key]) for key in KINDS if key in table}
    name = str(table.get("name", name))
    return Policy(
        name=name,
        require=tuple(require),
        confidence=float(confidence),
        references=references,
        **rows,
    )


def _read_claims(key: str, given: Any) -> tuple[Any, ...]:
    """Read the claims under one key of a policy.

    They are a list of rows, or one number where a row needs no other.
    """
    kind = KINDS[key]
    numbers = [field.name for field in fields(kind) if field.name != "group"]
    # One number stands for a row only where the row has no other number
    single = isinstance(given, int | float) and not isinstance(given, bool) and len(numbers) == 1
    rows = [{numbers[0]: given}] if single else given
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(
            f"Expected {key} = {EXAMPLES[key]} in [policy], got {given!r}. Write it so."
        )
    found = []
    for row in rows:
        unknown = sorted(set(row) - {field.name for field in fields(kind)})
        if unknown:
            raise InputError(
                f"Expected the keys {', '.join(field.name for field in fields(kind))} in a row of "
                f"{key}, got "
                f"{', '.join(unknown)}. Remove what is unknown."
            )
        try:
            found.append(kind(**row))
        except ValidationError as error:
            raise InputError(
                f"Expected {key} = {EXAMPLES[key]} in [policy], got {dict(row)!r}: "
                f"{error.errors()[0]['msg'].lower()}. "
                f"Write it so."
            ) from error
    return tuple(found)


def load_policy(name_or_path: str) -> Policy:
    """Load a shipped policy by name, or one from a TOML file with a `[policy]` table.

    Raises:
        InputError: There is no such policy, or the file is not one.

    >>> load_policy("standard").max_tpr
    (Claim(fpr=0.01, tpr=0.03, group=None),)
    """
    # Shipped names come first: `standard` is never a file of the working directory
    if name_or_path in list_bundled_policies():
        text = (files("memberscope.auditing") / "policies" / f"{name_or_path}.toml").read_text(
            encoding="utf-8"
        )
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError(
                f"Expected a policy file or one of {', '.join(list_bundled_policies())}, got "
                f"{name_or_path!r}. Check the path."
            )
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        table = parse_toml(text)
    except ValueError as error:
        raise InputError(
            f"Expected a TOML policy, got {name_or_path!r} with: {error}. Correct the file that "
            "--policy names."
        ) from error
    if "policy" not in table:
        raise InputError(
            f"Expected a [policy] table in {name_or_path!r}, got none. Add one with max_tpr."
        )
    return parse_policy_table(table["policy"], name=Path(name_or_path).stem)
