"""How often two equal audits are said to differ.

Two models, 200 people of ten records each, and two trainings of one recipe.

In each run the scores of two attacks (a confidence and whether the answer is right) on 1,000
members and 1,000 non-members are drawn and compared as two audits. In `trainings` the shift between
members and non-members differs from one training to the next, and four further target models of
each audit show by how much.

    python benchmarks/compare_nulls.py --runs 400
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta

from memberscope.auditing import Plan, audit_signals, compare
from memberscope.auditing.documents.result import Result
from memberscope.auditing.verdict.recompute import digest_audit_arrays
from memberscope.targets import StoredSignals

SIDE = 1000
CASES = (
    "people",
    "people, other records",
    "trainings",
    "trainings, other records",
    "trainings, models only",
    "leak",
)


@dataclass(frozen=True)
class Drawn:
    """Scores (n,) of one audit's model and of its further targets.

    Each with who was a member (n,).
    """

    own: np.ndarray
    targets: list[tuple[np.ndarray, np.ndarray]]


def template() -> Result:
    """Audit one set of stored signals, into which drawn scores are put."""
    rng = np.random.default_rng(0)
    member, labels = np.arange(2 * SIDE) < SIDE, rng.integers(0, 2, 2 * SIDE)
    outputs = np.eye(2)[labels] * rng.standard_normal(2 * SIDE)[:, None]
    ids = np.arange(2 * SIDE).astype(str)
    signals = StoredSignals("logits", outputs, labels, member, ids, {}, None, digest="0")
    plan = Plan(attacks=("gap", "logit"), restrictions=(), fprs=(0.1, 0.01))
    return audit_signals(signals, plan=plan)


def fill(result: Result, drawn: Drawn, unit: np.ndarray | None, records: str) -> Result:
    """Put drawn scores into the result."""
    arrays = replace(scored(result.arrays, drawn.own), unit=unit)
    others = {
        f"target {k}": replace(scored(arrays, scores), member=member, targets={})
        for k, (scores, member) in enumerate(drawn.targets)
    }
    arrays = replace(arrays, targets=others)
    digests = {**result.digests, "arrays": digest_audit_arrays(arrays), "records": records}
    return result.model_copy(update={"arrays": arrays, "digests": digests})


def scored(arrays, scores: np.ndarray):
    """The arrays with both attacks' scores worked out from one number a record."""
    found = {"logit": scores, "gap": (scores > 0).astype(float)}
    entries = tuple(
        replace(entry, scores=found[entry.attack], budgets=None, stages=None)
        for entry in arrays.scored
    )
    return replace(
        arrays, scored=entries, comparable={entry.name: entry.scores for entry in entries}
    )


def draw_people(
    rng: np.random.Generator, correlation: float, same: bool
) -> tuple[list[Drawn], np.ndarray]:
    """Two models' scores of 100 members and 100 others of ten records each.

    Which share a part of their variance.
    """
    unit = np.arange(2 * SIDE) // 10
    member = np.arange(2 * SIDE) < SIDE
    person = [rng.standard_normal(2 * SIDE // 10) for _ in range(1 if same else 2)]
    found = []
    for k in (0, 1):
        # A person's records rise together under one model; half of that is the person's own under
        # every model.
        own = 0.5**0.5 * (person[0 if same else k] + rng.standard_normal(2 * SIDE // 10))
        noise = rng.standard_normal(2 * SIDE)
        found.append(
            Drawn(
                correlation**0.5 * own[unit] + (1 - correlation) ** 0.5 * noise + 0.8 * member, []
            )
        )
    return found, unit


def draw_trainings(
    rng: np.random.Generator, spread: float, same: bool, n_targets: int, gain: float = 0.0
) -> list[Drawn]:
    """Two models of one recipe and further targets of each, on the same records or others."""
    records = [rng.standard_normal(2 * SIDE) for _ in range(1 if same else 2)]
    fixed = np.arange(2 * SIDE) < SIDE

    def train(record: np.ndarray, member: np.ndarray, shift: float) -> np.ndarray:
        noise = rng.standard_normal(2 * SIDE)
        return (
            0.8**0.5 * record + 0.2**0.5 * noise + (shift + spread * rng.standard_normal()) * member
        )

    found = []
    for k in (0, 1):
        record = records[0 if same else k]
        own = train(record, fixed, 0.8 + gain * k)
        sides = [rng.permutation(fixed) for _ in range(n_targets)]
        found.append(Drawn(own, [(train(record, side, 0.8 + gain * k), side) for side in sides]))
    return found


def run_once(base: Result, case: str, setting: float, rng: np.random.Generator) -> str:
    """The verdict of one comparison."""
    unit, same = None, "other records" not in case
    if case.startswith("people"):
        drawn, unit = draw_people(rng, setting, same)
    else:
        drawn = draw_trainings(
            rng, setting, same, 0 if case.endswith("only") else 4, 0.6 if case == "leak" else 0.0
        )
    pair = [fill(base, one, unit, "same" if same else str(k)) for k, one in enumerate(drawn)]
    return compare(pair).verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--cases", nargs="*", default=CASES, choices=CASES)
    given = parser.parse_args()
    runs, base = given.runs, template()
    print("| case | setting | LEAKS_MORE | share (95%) |\n|" + " --- |" * 4)
    for case in given.cases:
        for setting in (0.1, 0.3, 0.8) if case.startswith("people") else (0.03, 0.1, 0.3):
            rng = np.random.default_rng([CASES.index(case), int(100 * setting)])
            count = sum(run_once(base, case, setting, rng) == "LEAKS_MORE" for _ in range(runs))
            low = 0.0 if count == 0 else beta.ppf(0.025, count, runs - count + 1)
            high = 1.0 if count == runs else beta.ppf(0.975, count + 1, runs - count)
            print(
                f"| {case} | {setting:g} | {count} of {runs} | {count / runs:.3f} ({low:.3f} to "
                f"{high:.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
