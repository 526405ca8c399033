"""100,000 members and 100,000 non-members, 10 classes, 20 groups, every attack and statistic.

Processor and wall seconds of each stage, peak memory, the number of estimates, and whether the aims
hold (controls run beside the estimates, whose stage has the seconds of both until it ends): 30 s on two idle cores, so 60 processor seconds, and 1.5 GB. The seconds on the wall say
something on an idle machine only. `--features` adds the attacks on 20 features, the duplicates and
the blind control; `--all-estimates` every attack by class and group.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace

import numpy as np

from aims import judge
from memberscope.auditing import Plan, audit_subject, make_signals_subject
from memberscope.targets import StoredSignals
from memberscope.types import Access, ThreatModel

N, CLASSES, GROUPS, FEATURES = 100_000, 10, 20, 20
AIM_SECONDS, AIM_MEMORY = 30.0, 1.5  # on two idle cores, and in GB


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


class Stages:
    """Processor and wall seconds up to the last report of each stage of an audit."""

    def __init__(self) -> None:
        self.started = time.process_time(), time.perf_counter()
        self.ends: dict[str, tuple[float, float]] = {}

    def note(self, stage: str, done: int, total: int) -> None:
        """Note that some of a stage is done."""
        self.ends[stage] = self.read()

    def read(self) -> tuple[float, float]:
        """Read the processor and wall seconds since the start."""
        return time.process_time() - self.started[0], time.perf_counter() - self.started[1]

    def show(self) -> None:
        """Print what each stage took."""
        before = (0.0, 0.0)
        for name, end in (*self.ends.items(), ("judge and describe", self.read())):
            spent = [after - first for after, first in zip(end, before, strict=True)]
            print(f"  {name:20s} {spent[0]:7.1f} s of processor {spent[1]:7.1f} s on the wall")
            before = end


def show_aim(name: str, value: float, aim: float, unit: str) -> None:
    """Print a number beside its aim, and whether it holds."""
    print(f"  {name}: {value:.2f} {unit} {judge(name, value, unit, at_most=aim)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", action="store_true")
    parser.add_argument("--all-estimates", action="store_true")
    chosen = parser.parse_args()
    stored = signals()
    alone = peak()
    plan = Plan(
        threat=ThreatModel(access=Access.PROBABILITIES),
        assume_exchangeable=True,
        all_estimates=chosen.all_estimates,
    )
    subject = make_signals_subject(stored)
    if not chosen.features:
        subject = replace(subject, features=None)
    stages = Stages()
    result = audit_subject(plan, subject, progress=stages.note)
    processor, wall = stages.read()
    print(
        f"{2 * N} records, {len(result.arrays.scored)} attacks, {len(result.estimates)} estimates; "
        f"data alone {alone:.2f} GB"
    )
    stages.show()
    show_aim("processor", processor, 2 * AIM_SECONDS, "s")
    show_aim("wall", wall, AIM_SECONDS, "s")
    show_aim("peak memory", peak(), AIM_MEMORY, "GB")


if __name__ == "__main__":
    main()
