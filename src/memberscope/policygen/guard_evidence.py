"""What a policy is written from: outputs that could be served, with what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from memberscope.types import Task

Outputs = Literal["labels", "probabilities", "logits"]
Outcome = Literal["meets", "breaks", "undecided"]


@dataclass(frozen=True)
class MeasuredBound:
    """Measured limits of one claim: of the strongest attack's number, which must keep `limit`.

    The number is the TPR at `fpr`, or what the sentence `claim` speaks of. Where no attack was
    `able` to break the limit, keeping it shows nothing.
    """

    fpr: float | None
    limit: float
    low: float
    high: float
    attack: str
    claim: str = ""
    able: bool = True

    @property
    def outcome(self) -> Outcome:
        """`meets`, `breaks`, or `undecided` where the limit lies between."""
        # Refuting a limit needs no able attack; showing that it is kept does
        if self.low > self.limit:
            return "breaks"
        return "meets" if self.high <= self.limit and self.able else "undecided"

    @property
    def place(self) -> str:
        """What the number is, in words."""
        return (
            f"({self.claim})"
            if self.claim or self.fpr is None
            else f"of members at {format_rate_percent(self.fpr)} false positives"
        )

    def write(self, value: float) -> str:
        """Write a value of the number: a percentage of members, or a plain number."""
        return f"{value:.3g}" if self.claim else format_rate_percent(value)


@dataclass(frozen=True)
class Candidate:
    """Outputs that a guard could serve.

    They come with what was measured of them and of all that can be worked out from them.

    `attacks` ran at this level or below; `lacking` are those of the full set that could have run
    there and did not, and without them the outputs are no candidate to be served. Where nothing ran
    there are no `bounds`.
    """

    restrict: str
    outputs: Outputs
    bounds: tuple[MeasuredBound, ...]
    outcome: Outcome
    attacks: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def is_short(self) -> bool:
        """Whether it would be served but for attacks of the full set that did not run."""
        return bool(self.lacking) and all(bound.outcome == "meets" for bound in self.bounds)

    def tightest(self) -> MeasuredBound:
        """Find the claim with the least room between upper limit and limit."""
        return max(self.bounds, key=lambda bound: bound.high / bound.limit)


@dataclass(frozen=True)
class GuardEvidence:
    """All that a policy is written from.

    It holds candidates, least restrictive first, or in `gaps` why there is nothing to go by.

    `asked` are the queries a record that the audit's attackers had at most; `notes` go into the
    policy as comments.
    """

    file: str
    digest: str
    title: str
    threat: str
    confidence: float
    n_classes: int
    asked: int
    candidates: tuple[Candidate, ...] = ()
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    fitted: str | None = None
    task: Task = "classification"


@dataclass(frozen=True)
class GuardChoice:
    """The candidate to serve, with the exit code and a sentence.

    Without a candidate the code is 1 where no outputs meet the limits, and 3 where it is open.
    """

    candidate: Candidate | None
    code: int
    sentence: str


def format_rate_percent(rate: float) -> str:
    """Write a rate for readers.

    >>> format_rate_percent(0.0123)
    '1.23%'
    """
    return f"{100 * rate:.3g}%"
