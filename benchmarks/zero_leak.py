"""Verdicts on models that leak nothing.

How often an audit fails, passes, or cannot tell, by this version's rules and by 0.1's.

    python benchmarks/zero_leak.py scores [--runs 1000] [--sizes 300,1000,2000,5000]
    python benchmarks/zero_leak.py audits [--runs 60]

`scores`: 20 attacks share 90% of their variance and know nothing of membership; the claim is 3% of
members at 1% false positives. `audits`: whole audits of fitted models whose training data are
independent of both sides, with the shipped policy `standard`.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter

import numpy as np
from joblib import Parallel, delayed

from coverage import old_limits
from memberscope.auditing.documents.policy import Claim, Policy
from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.estimates.attack_part import build_whole_part
from memberscope.auditing.verdict.claims import examine_claims
from memberscope.auditing.verdict.judge import _Family, build_claim_findings
from memberscope.statistics import clopper_pearson, roc

JOBS = int(os.environ.get("JOBS", "-1"))  # processes
ATTACKS, SHARED, CLAIM = 20, 0.9, Claim(fpr=0.01, tpr=0.03)
POLICY = Policy("standard", (CLAIM,))


def draw_arrays(n: int, seed: int) -> AuditArrays:
    """Scores of 20 attacks on n members and n non-members, all of one distribution."""
    rng = np.random.default_rng([seed, n])
    common = rng.standard_normal(2 * n)
    scored = tuple(
        AttackScores(
            f"a{k}",
            "probabilities",
            False,
            SHARED**0.5 * common + (1 - SHARED) ** 0.5 * rng.standard_normal(2 * n),
            {},
        )
        for k in range(ATTACKS)
    )
    fold = np.arange(2 * n) % 5
    return AuditArrays(
        np.arange(2 * n).astype(str), np.arange(2 * n) < n, np.zeros(2 * n, int), fold, scored
    )


def verdicts(n: int, seed: int) -> tuple[str, str]:
    """The verdict by this version's rules, and by those of 0.1."""
    arrays = draw_arrays(n, seed)
    parts = [build_whole_part(entry, arrays) for entry in arrays.scored]
    tested = examine_claims(POLICY, arrays, parts, [], 0.95)
    family = _Family(sum(len(entry.p_values) for entry in tested), 0.025, "probabilities", "", 0)
    new = build_claim_findings(tested, family)[0].verdict
    limits = [
        old_limits(roc(part.scores, part.member), CLAIM.fpr, None, 0.025 / ATTACKS)
        for part in parts
    ]
    old = "FAIL" if max(low for low, _ in limits) > CLAIM.tpr else "INCONCLUSIVE"
    if old != "FAIL" and max(high for _, high in limits) <= CLAIM.tpr:
        old = "PASS"
    return new, old


def print_shares(words: str, found: list[str]) -> None:
    """One row: the share of each verdict with its exact 95% interval."""
    counts, cells = Counter(found), []
    for verdict in ("FAIL", "PASS", "INCONCLUSIVE"):
        low, high = clopper_pearson(counts[verdict], len(found))
        cells.append(f"{counts[verdict] / len(found):.3f} ({float(low):.3f} to {float(high):.3f})")
    print(f"| {words} | {len(found)} | {' | '.join(cells)} |", flush=True)


def print_scores(runs: int, sizes: list[int]) -> None:
    """The table for scores drawn at random."""
    print(
        "| records a side, rules | data sets | FAIL | PASS | INCONCLUSIVE |\n| --- | --- | --- | "
        "--- | --- |"
    )
    for n in sizes:
        found = Parallel(n_jobs=JOBS)(delayed(verdicts)(n, seed) for seed in range(runs))
        for place, rules in enumerate(("this version", "version 0.1")):
            print_shares(f"{n}, {rules}", [entry[place] for entry in found])


def audit_once(seed: int, n: int = 2000) -> str:
    """One whole audit of a logistic regression whose training data are neither side of the audit."""
    import warnings

    from sklearn.linear_model import LogisticRegression

    import memberscope

    rng = np.random.default_rng([seed, 60])
    x = rng.normal(size=(3 * n, 10))
    y = (rng.random(3 * n) < 1 / (1 + np.exp(-2 * x[:, 0] - x[:, 1]))).astype(int)
    model = LogisticRegression().fit(x[2 * n :], y[2 * n :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = memberscope.audit(
            model, (x[:n], y[:n]), (x[n : 2 * n], y[n : 2 * n]), policy="standard"
        )
    return result.verdict


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["scores", "audits"])
    parser.add_argument("--runs", type=int)
    parser.add_argument("--sizes", default="300,1000,2000,5000")
    given = parser.parse_args()
    if given.part == "scores":
        print_scores(given.runs or 1000, [int(size) for size in given.sizes.split(",")])
        return
    print(
        "| whole audits | runs | FAIL | PASS, limited or not | INCONCLUSIVE |\n| --- | --- | --- | "
        "--- | --- |"
    )
    found = Parallel(n_jobs=JOBS)(delayed(audit_once)(seed) for seed in range(given.runs or 60))
    print_shares("2,000 a side, policy standard", found)


if __name__ == "__main__":
    main()
