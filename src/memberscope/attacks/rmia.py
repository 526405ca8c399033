"""RMIA: compare a record's likelihood ratio with those of records known to be outside.

The score counts how often the record's ratio is larger by a factor gamma.

The ratio compares the target's probability of the true class with its average over reference
models. A score is a share of population records, so scores tie; for one view it orders records
exactly as the ratio itself does.

References:
    [1] S. Zarifzadeh, P. Liu, R. Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML
2024, arXiv:2312.03262.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import (
    access_of,
    average_probabilities,
    convert_to_log_confidence,
    iterate_reference_blocks,
    keep_hidden_scores,
    read_target_values,
    tasks_of,
)
from memberscope.statistics import auc_value, roc
from memberscope.types import Access, Bools, Evidence, Floats, Needs, OneNumber, SignalSpec

GRID = tuple(round(0.1 * step, 1) for step in range(11))  # values tried for `a`
PRETENDED = 4  # reference models that play the target when `a` is chosen


@dataclass(frozen=True)
class RMIA:
    """Share of population records whose ratio the record's exceeds by `gamma`; a mean over views.

    `mode` online averages the models with and without the record; offline sees those without it and
    corrects with `a`: P(x) = ((1 + a) P_out(x) + 1 - a) / 2. An `a` of None is chosen by attacking
    reference models with one another, never the target. `correct_population` applies the same
    correction to population records, which no model saw. Without a population the audited records
    themselves serve, whose membership the attack does not know. A `signal` other than the
    confidence is read as the logit of one, at the same temperature.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(6)[:, None] % 2 == np.zeros(3, dtype=int)
    >>> refs = np.log(np.where(inside, 0.9, 0.3)) + 0.01 * rng.normal(size=(6, 3))
    >>> hidden = np.full(3, -1, dtype=np.int8)
    >>> evidence = Evidence("log_confidence", np.log([0.95, 0.6, 0.1])[:, None, None], np.zeros(3, dtype=int), hidden,
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> RMIA(gamma=1.0).score(evidence, rng).tolist()
    [1.0, 0.6666666666666666, 0.3333333333333333]
    """

    mode: Literal["online", "offline"] = "online"
    gamma: float = 2.0
    temperature: float = 2.0
    a: float | None = None
    correct_population: bool = False
    signal: OneNumber = "logit_confidence"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`rmia` or `rmia_offline`, with what differs from the default."""
        parts = ["rmia"] + (["offline"] if self.mode == "offline" else [])
        parts += [self.signal] if self.signal != "logit_confidence" else []
        parts += [f"gamma{self.gamma:g}"] if self.gamma != 2.0 else []
        parts += [f"t{self.temperature:g}"] if self.temperature != 2.0 else []
        parts += [f"a{self.a:g}"] if self.a is not None else []
        parts += ["corrected"] if self.correct_population else []
        return "_".join(parts)

    @property
    def needs(self) -> Needs:
        """One reference model on each side that is averaged."""
        # Only averages are taken, so that one model is enough
        least = (1, 1) if self.mode == "online" else (0, 1)
        if self.signal != "logit_confidence":
            # The other signals are measured already, and read as logits later
            return Needs(
                access_of(self.signal), (self.signal,), SignalSpec(self.signal), references=least
            )
        spec = SignalSpec("log_confidence", parameters=(("temperature", self.temperature),))
        return Needs(
            access=Access.PROBABILITIES,
            signals=("log_confidence",),
            spec=spec,
            references=least,
            tasks=tasks_of(self.signal, self.temperature),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the share of population records with a smaller ratio, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        # From here on all signals are log-confidences
        evidence = convert_to_log_confidence(evidence, self.temperature)
        # Online the correction is not used, and 1 stands for none
        a = (
            self.a
            if self.a is not None
            else choose_offline_a(evidence)
            if self.mode == "offline"
            else 1.0
        )
        record = self.ratios(evidence, a)
        if evidence.population is None:
            # Their membership stays unknown: the records are only compared with one another
            others = record
        else:
            # No model saw the population, so that by default nothing needs to be corrected
            others = self.ratios(
                evidence.population, a if self.correct_population else 1.0, outside=True
            )
        views = [
            compute_dominated_share(record[:, view], others[:, view], self.gamma)
            for view in range(record.shape[1])
        ]
        return keep_hidden_scores(np.mean(views, axis=0), evidence.hidden)

    def ratios(self, evidence: Evidence, a: float, *, outside: bool = False) -> Floats:
        """Compute p(x | target) / P(x), (n, views).

        Records `outside` all models have P_out alone.
        """
        inside, without, _ = average_probabilities(evidence)
        # Population records have no models that were trained with them
        both = self.mode == "online" and not outside
        # Offline, the mean over models with the record is a linear guess from those without
        average = (inside + without) / 2 if both else ((1 + a) * without + (1 - a)) / 2
        # A probability of zero in all models must not divide by zero
        found: Floats = np.exp(read_target_values(evidence)) / np.maximum(
            average, np.finfo(np.float64).tiny
        )
        return found


def compute_dominated_share(record: Floats, population: Floats, gamma: float) -> Floats:
    """Compute the share (n,) of `population` (z,) with record / population >= gamma, by sorting.

    The result equals that of comparing all pairs, bit for bit.

    >>> compute_dominated_share(np.array([4.0, 1.0]), np.array([1.0, 2.0]), 2.0).tolist()
    [1.0, 0.0]
    """
    ordered = np.sort(population)
    count = np.searchsorted(ordered, record / gamma, side="right")
    # Rounding may move the border by a place or so: step to where the division itself, which is
    # monotone, changes sides.
    with np.errstate(divide="ignore", over="ignore"):
        while True:
            above = (count < len(ordered)) & (
                record / ordered[np.minimum(count, len(ordered) - 1)] >= gamma
            )
            below = (count > 0) & ~(record / ordered[np.maximum(count - 1, 0)] >= gamma)
            if not (above | below).any():
                return np.asarray(count / len(ordered), dtype=np.float64)
            count = count + above - (below & ~above)


def choose_offline_a(evidence: Evidence) -> float:
    """Choose the `a` of `GRID` with the best mean AUC when reference models play the target.

    With fewer than three reference models it is 0.3.
    """
    assert evidence.references is not None and evidence.inside is not None
    totals = np.zeros(len(GRID))
    played = 0
    for p, without, truth in (
        _iterate_stand_in_targets(evidence) if evidence.n_references > 2 else ()
    ):
        usable = np.isfinite(without)
        # An AUC needs records of both kinds
        if truth[usable].all() or not truth[usable].any():
            continue
        played += 1
        for index, a in enumerate(GRID):
            average = np.maximum(
                ((1 + a) * without[usable] + (1 - a)) / 2, np.finfo(np.float64).tiny
            )
            totals[index] += auc_value(roc(p[usable] / average, truth[usable]))
    # The first of equal sums, hence the smallest `a`
    return GRID[int(np.argmax(totals))] if played else 0.3


def _iterate_stand_in_targets(evidence: Evidence) -> Iterator[tuple[Floats, Floats, Bools]]:
    """Yield some reference models as if each were the target.

    Each gives p(x) (n,), its mean (n,) over the other models without x (NaN where there are none),
    and who was inside (n,).
    """
    # Few suffice, and each takes a ROC curve for each value tried
    n_players = min(PRETENDED, evidence.n_references)
    p, out = np.empty((2, n_players, len(evidence)))
    rest, n_rest = np.empty((2, len(evidence)))
    for block in iterate_reference_blocks(evidence):
        values, absent = np.exp(block.references[:, :, 0]), 1.0 - block.inside
        # Players are kept one by one, all other models only as sums
        p[:, block.rows], out[:, block.rows] = values[:n_players], absent[:n_players]
        rest[block.rows] = (values * absent)[n_players:].sum(axis=0)
        n_rest[block.rows] = absent[n_players:].sum(axis=0)
    # A model that plays the target must not be among the references that judge it
    for model in range(n_players):
        others = np.arange(n_players) != model
        # A record that all other models were trained with has no mean: 0 / 0 is NaN
        with np.errstate(invalid="ignore"):
            without = (rest + (p * out)[others].sum(axis=0)) / (n_rest + out[others].sum(axis=0))
        yield p[model], without, out[model] == 0
