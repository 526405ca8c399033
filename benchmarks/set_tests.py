"""Questions about collections: rejections without use, power, lists, shares, and time.

Simulated scores, and scores of Location-30 records under a logistic regression.

Run `python benchmarks/set_tests.py [draws]`; 2,000 by default, of which power and lists take a fifth.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import ttest_ind

sys.path.insert(0, str(Path(__file__).parent))
import data
import memberscope
from memberscope.auditing import Plan, Result
from memberscope.auditing.sets.evidence import KnownModel, SetEvidence, collect_set_evidence
from memberscope.auditing.sets.not_used import answer_not_used
from memberscope.auditing.sets.settings import SetSettings
from memberscope.recipes import Execution
from memberscope.statistics import auc_interval
from memberscope.statistics.sets import (
    build_unit_features,
    compare_collections,
    compute_collection_power,
    name_units,
)
from memberscope.targets import SklearnTarget
from memberscope.types import Access, Records, ThreatModel

EXCHANGES = 99  # enough for a level of 5% to be exact
SHIFT = 0.622  # AUC .67 of single records
SIZES = (10, 20, 50, 100)
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, np.ndarray | None]]


def draw_scores(
    rng: np.random.Generator, q: int, others: int, f: int, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores (q + others, f) that share half of their variance; suspects are higher by `shift`."""
    member = np.arange(q + others) < q
    common = rng.standard_normal((q + others, 1))
    scores = np.sqrt(0.5) * (common + rng.standard_normal((q + others, f)))
    return scores + shift * member[:, None], member, None


def draw_units(
    rng: np.random.Generator, q: int, rows: int, correlation: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores of q + q units with `rows` records each that are correlated within their unit."""
    unit = np.repeat(np.arange(2 * q), rows)
    own = rng.standard_normal((2 * q, 6))[unit]
    scores = np.sqrt(correlation) * own
    scores += np.sqrt(1 - correlation) * rng.standard_normal((len(unit), 6))
    return scores, unit < q, unit


def count_rejections(draw: Draw, n: int, seed: int) -> int:
    """How many of `n` draws the test calls used at 5%."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(n):
        features = build_unit_features(*draw(rng))
        found += compare_collections(features, rng, permutations=EXCHANGES).p_value <= 0.05
    return found


def split_once(scores: np.ndarray, member: np.ndarray, rng: np.random.Generator) -> float:
    """The p-value of weights fitted on one half and a t test on the other, as in arXiv:2406.06443."""
    half = np.zeros(len(member), dtype=bool)
    for side in (member, ~member):
        rows = rng.permutation(np.flatnonzero(side))
        half[rows[: len(rows) // 2]] = True
    ones = np.column_stack([scores, np.ones(len(scores))])
    weights = np.linalg.lstsq(ones[half], member[half].astype(float), rcond=None)[0]
    values = ones @ weights
    inside, outside = values[~half & member], values[~half & ~member]
    return float(ttest_ind(inside, outside, equal_var=False, alternative="greater").pvalue)


def measure_power(draw: Draw, n: int, seed: int) -> tuple[float, float]:
    """The share of `n` draws that this test, and a test with one split, call used at 5%."""
    rng, ours, once = np.random.default_rng(seed), 0, 0
    for _ in range(n):
        scores, member, unit = draw(rng)
        features = build_unit_features(scores, member, unit)
        ours += compare_collections(features, rng, permutations=EXCHANGES).p_value <= 0.05
        once += split_once(features.values, features.member, rng) <= 0.05
    return ours / n, once / n


def train(records: Records, seed: int) -> SklearnTarget:
    """Logistic regression, which learns some of its records by heart."""
    from sklearn.linear_model import LogisticRegression

    return SklearnTarget(LogisticRegression(C=0.01, max_iter=300).fit(records.x, records.y))


def audit_location() -> Result:
    """Audit a model of 1,000 of Location-30's records, with three more of the same recipe."""
    x, y = data.location30()
    order = np.random.default_rng(0).permutation(len(x))[:2000]
    ids = np.array([f"r{i}" for i in order])
    members = Records(x[order[:1000]], y[order[:1000]], ids[:1000], {})
    others = Records(x[order[1000:]], y[order[1000:]], ids[1000:], {})
    return memberscope.audit(
        train(members, 0),
        members,
        others,
        recipe=train,
        plan=Plan(
            attacks=("gap", "loss", "confidence", "entropy", "modified_entropy"),
            references=2,
            targets=3,
            restrictions=(),
        ),
        threat=ThreatModel(Access.PROBABILITIES),
        execution=Execution("sequential"),
        progress=False,
    )


def pick_rows(evidence: SetEvidence, side: np.ndarray, q: int, share: float = 1.0) -> Draw:
    """Draw q suspects, a `share` of them members, and q held-out records."""
    inside, outside = np.flatnonzero(side), np.flatnonzero(~side)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, None]:
        used = round(share * q)
        rest = rng.permutation(outside)[: 2 * q - used]
        rows = np.concatenate([rng.permutation(inside)[:used], rest])
        return evidence.scores[rows], np.arange(2 * q) < q, None

    return draw


def measure_lists(sources: dict[str, tuple[np.ndarray, np.ndarray]], n: int) -> None:
    """Print what a list at 10% names of 200 suspects, among 400 held-out records."""
    print("\n| scores | used of 200 | named wrongly | used ones named |")
    print("| --- | --- | --- | --- |")
    for name, (scores, member) in sources.items():
        inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
        for used in (20, 100, 180):
            rng = np.random.default_rng(used)
            wrong, caught = [], []
            for _ in range(n):
                rest = rng.permutation(outside)[: 600 - used]
                rows = np.concatenate([rng.permutation(inside)[:used], rest])
                suspect = np.arange(600) < 200
                features = build_unit_features(scores[rows], suspect, by_rank=True)
                named = name_units(features, 0.1, rng).named
                wrong.append(named[used:].sum() / max(named.sum(), 1))
                caught.append(named[:used].sum() / used)
            rates = f"{100 * np.mean(wrong):.1f}% | {100 * np.mean(caught):.1f}%"
            print(f"| {name} | {used} | {rates} |", flush=True)


def measure_shares(evidence: SetEvidence, n: int) -> None:
    """Print estimates of the share, and how often their limits miss it on the dangerous side."""
    print("\n| share used | mean estimate | upper limit, mean | upper limit too low |")
    print("| --- | --- | --- | --- |")
    member = evidence.member
    inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
    for share in (0.0, 0.1, 0.5, 1.0):
        rng = np.random.default_rng(int(100 * share))
        found = []
        for _ in range(n):
            used = round(400 * share)
            rows = np.concatenate(
                [rng.permutation(inside)[:used], rng.permutation(outside)[: 800 - used]]
            )
            known = tuple(
                KnownModel(model.name, model.scores[rows], model.member[rows])
                for model in evidence.known
            )
            part = SetEvidence(
                evidence.result,
                evidence.arrays,
                evidence.attacks,
                evidence.scores[rows],
                np.arange(800) < 400,
                None,
                known,
            )
            answer = answer_not_used(part, SetSettings(), rng)
            found.append((answer.value, answer.high))
        values, highs = np.array(found, dtype=float).T
        missed = float((highs < share).mean())
        print(f"| {share:.0%} | {values.mean():.3f} | {highs.mean():.3f} | {100 * missed:.1f}% |")


def measure_time() -> None:
    """Print the processor time of both questions for 10,000 suspects with 20 scores each."""
    rng = np.random.default_rng(0)
    scores, member, _ = draw_scores(rng, 10_000, 10_000, 20, 0.05)
    start = time.process_time()
    found = compare_collections(build_unit_features(scores, member), rng)
    half = build_unit_features(scores[10_000:], np.arange(10_000) < 5000)
    for _ in range(2):
        compare_collections(half, rng)
    name_units(build_unit_features(scores, member, by_rank=True), 0.1, rng)
    spent = time.process_time() - start
    print(
        f"\nTest, held-out control and list of 10,000 + 10,000 records with 20 scores: {spent:.1f} s"
    )
    print(f"of processor time, {found.permutations} exchanges.")


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    result = audit_location()
    evidence = collect_set_evidence(result)
    leading = max(auc_interval(column, evidence.member).value for column in evidence.scores.T)
    n_scores = len(evidence.attacks)
    print(f"Location-30: {n_scores} scores, best AUC of a record {leading:.3f}.\n")
    nulls: dict[str, Draw] = {
        "20 + 20, 1 score": lambda rng: draw_scores(rng, 20, 20, 1),
        "50 + 50, 10 scores": lambda rng: draw_scores(rng, 50, 50, 10),
        "200 + 60, 10 scores": lambda rng: draw_scores(rng, 200, 60, 10),
        "30 + 30 units of 10, correlation .9": lambda rng: draw_units(rng, 30, 10, 0.9),
        "100 + 100 of Location-30, none used": pick_rows(evidence, evidence.member, 100, 0.0),
    }
    print(f"| not used | rejected of {n} at 5% |\n| --- | --- |")
    for name, draw in nulls.items():
        print(f"| {name} | {count_rejections(draw, n, 0)} |", flush=True)
    few = max(n // 5, 1)
    print("\n| scores | units a side | power | power as stated | one split |")
    print("| --- | --- | --- | --- | --- |")
    for q in SIZES:
        for f in (1, 6):
            shift = SHIFT if f == 1 else SHIFT * np.sqrt(0.5 + 0.5 / 6)
            ours, once = measure_power(
                lambda rng, q=q, f=f, s=shift: draw_scores(rng, q, q, f, s), few, q
            )
            stated = compute_collection_power(SHIFT, q, q)
            print(f"| simulated, {f} | {q} | {ours:.2f} | {stated:.2f} | {once:.2f} |", flush=True)
    for q in SIZES:
        ours, once = measure_power(pick_rows(evidence, evidence.member, q), few, q)
        print(
            f"| Location-30, {n_scores} | {q} | {ours:.2f} | | {once:.2f} |",
            flush=True,
        )
    simulated = draw_scores(np.random.default_rng(1), 4000, 4000, 6, 3.0)[:2]
    lists = {
        "simulated, 6": simulated,
        f"Location-30, {n_scores}": (evidence.scores, evidence.member),
    }
    measure_lists(lists, few)
    measure_shares(evidence, few)
    measure_time()


if __name__ == "__main__":
    main()
