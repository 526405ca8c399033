"""100,000 members and 100,000 non-members, 10 classes, 20 groups, every attack and statistic.

Seconds and peak memory.

Limits: under 30 s on two cores and under 1.5 GB apart from the model's own queries and the blind
control; the blind control on 20 features at most 30 s more. The attacks that need features run too,
on the same 20.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace

import numpy as np

from memberscope.auditing import Plan, audit_signals, audit_subject, make_signals_subject
from memberscope.auditing.controls.blind import run_blind_control
from memberscope.targets import StoredSignals
from memberscope.types import Access, ThreatModel

N, CLASSES, GROUPS, FEATURES = 100_000, 10, 20, 20


def signals(n: int = N, seed: int = 0) -> StoredSignals:
    """Logits of a model that is a little surer of its members."""
    rng = np.random.default_rng(seed)
    member = np.arange(2 * n) < n
    labels = rng.integers(0, CLASSES, 2 * n)
    logits = rng.normal(size=(2 * n, CLASSES))
    logits[np.arange(2 * n), labels] += 2 + 0.5 * member
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return StoredSignals(
        signal="probabilities",
        outputs=shifted / shifted.sum(axis=1, keepdims=True),
        labels=labels,
        member=member,
        ids=np.array([f"r{i}" for i in range(2 * n)]),
        groups={"site": np.array([f"s{i}" for i in range(GROUPS)])[rng.integers(0, GROUPS, 2 * n)]},
        features=rng.normal(size=(2 * n, FEATURES)),
        digest="benchmark",
    )


def peak() -> float:
    """Peak resident memory of this process, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    stored = signals()
    before = peak()
    plan = Plan(threat=ThreatModel(access=Access.PROBABILITIES), assume_exchangeable=True)
    stages: dict[str, float] = {}
    started = time.perf_counter()

    def note(stage: str, done: int, total: int) -> None:
        stages[stage] = time.perf_counter() - started

    subject = replace(make_signals_subject(stored), features=None)
    result = audit_subject(plan, subject, progress=note)
    took = time.perf_counter() - started
    print(
        f"records {2 * N}, attacks {len(result.arrays.scored)}, estimates {len(result.estimates)}"
    )
    print(
        f"signals alone (no features): {took:.1f} s; peak memory {peak():.2f} GB (data alone "
        f"{before:.2f} GB)"
    )
    print(
        "  stage ends at: "
        + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.items())
    )
    started = time.perf_counter()
    blind = run_blind_control(stored.features, stored.labels, stored.member, None)
    alone = time.perf_counter() - started
    print(f"blind control alone: {alone:.1f} s ({blind.details['n_members']} members compared)")
    started = time.perf_counter()
    stages.clear()
    result = audit_signals(stored, plan=plan, progress=note)
    took = time.perf_counter() - started
    print(
        f"with features (quantile regression, duplicates and blind control too): {took:.1f} s; "
        f"peak memory {peak():.2f} GB"
    )
    print(
        "  stage ends at: "
        + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.items())
    )
    print(f"  apart from the blind control: {took - alone:.1f} s")


if __name__ == "__main__":
    main()
