"""What an audit would do and could see, before anything is asked or paid for."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.auditing.levels import levels_of, runs_at
from memberscope.auditing.plan import Plan
from memberscope.auditing.result import NotRun
from memberscope.auditing.subject import Subject
from memberscope.signals.outputs import PROBE
from memberscope.statistics import minimum_detectable_tpr, smallest_fpr

SECONDS = (4.0, 1.2e-4)  # per audit, and per record: measured by benchmarks/scale.py with every attack and 20 groups


@dataclass(frozen=True)
class Forecast:
    """Attacks that run and at which level, those that do not, costs, and (fpr, limit, detectable TPR) rows."""

    runs: list[tuple[str, str]]
    not_run: list[NotRun]
    n_members: int
    n_non_members: int
    queries: int
    minutes: float
    megabytes: float
    smallest_fpr: float
    detectable: list[tuple[float, float, float | None]]


def forecast(plan: Plan, subject: Subject) -> Forecast:
    """Dry run of `plan` on `subject`; the model is not asked.

    Raises:
        InputError: The records do not resolve a rate that was asked for.
    """
    n_members, n_others = int(subject.member.sum()), int((~subject.member).sum())
    n, signal = n_members + n_others, subject.target.signal
    levels = levels_of(signal, plan.threat.access)
    runs, not_run = [], []
    for attack in plan.chosen():
        at = [level for level in levels if runs_at(attack, level)]
        if not at:
            not_run.append(
                NotRun(attack.name, plan.threat.access.word, f"needs {attack.needs.access.word}; the model returns {signal}")
            )
        elif signal == "loss" and "loss" not in attack.needs.signals:
            not_run.append(NotRun(attack.name, at[-1].word, "needs probabilities or logits; only losses are given"))
        elif attack.needs.features and subject.features is None:
            not_run.append(NotRun(attack.name, at[-1].word, "needs the records' features"))
        else:
            runs += [(attack.name, level.word) for level in at]
    limits = {claim.fpr: claim.tpr for claim in plan.policy.max_tpr} if plan.policy else {}
    rows = []
    for fpr in plan.resolvable_fprs(n_others):
        if limits and fpr not in limits:
            continue
        limit = limits.get(fpr, fpr)
        tpr = minimum_detectable_tpr(
            n_members, n_others, fpr, limit, confidence=plan.confidence, n_candidates=max(len({name for name, _ in runs}), 1)
        )
        rows.append((fpr, limit, tpr))
    stored = n * (2 * len(runs) + 5) * 8 + n * max(len(runs), 1) * 40
    seconds = SECONDS[0] + SECONDS[1] * n * max(len(runs), 1) / 16
    return Forecast(
        runs,
        not_run,
        n_members,
        n_others,
        n + (0 if plan.threat.query_budget == 1 else min(PROBE, n)),
        seconds / 60,
        stored / 1e6,
        smallest_fpr(n_others),
        rows,
    )
