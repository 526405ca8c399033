"""Audits of releases of one model: the same records, and members that stand out by `shift`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memberscope.auditing import Claim, Plan, Policy, Result, audit_signals
from memberscope.reports import write_all
from memberscope.targets import StoredSignals
from memberscope.types import Access, ThreatModel

N = 800
LENIENT = Policy("lenient", (Claim(0.05, 0.5),))
STRICT = Policy("strict", (Claim(0.05, 0.15),))
ATTACKS = ("gap", "loss", "confidence")


def audit_release(
    shift: float,
    *,
    policy: Policy | None = LENIENT,
    title: str = "credit",
    classes: int = 2,
    access: Access = Access.PROBABILITIES,
    attacks: tuple[str, ...] = ATTACKS,
    seed: int = 0,
    n: int = N,
    **more,
) -> Result:
    """The audit of a release; `seed` draws other records."""
    rng = np.random.default_rng(seed)
    member, labels = np.arange(n) < n // 2, rng.integers(0, classes, n)
    logits = np.eye(classes)[labels] * (1.5 + rng.standard_normal(n) + shift * member)[:, None]
    groups = {"sex": np.where(rng.random(n) < 0.5, "f", "m")}
    ids = np.array([f"secret-{i}" for i in range(n)])
    signals = StoredSignals(
        "logits", logits, labels, member, ids, groups, rng.standard_normal((n, 2)), str(shift)
    )
    plan = Plan(
        title=title,
        threat=ThreatModel(access=access),
        attacks=attacks,
        policy=policy,
        restrictions=(),
        **more,
    )
    return audit_signals(signals, plan=plan)


def write_release(folder: Path, shift: float, **more) -> Path:
    """The folder of the audit of a release."""
    write_all(audit_release(shift, **more), folder)
    return folder
