"""Attack answers whose noise an adversary can undo, beside the answers with the noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from memberscope.auditing.documents.access_levels import Level, find_active_restriction
from memberscope.auditing.documents.effort import SearchBudget
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.result import Control, NotRun
from memberscope.auditing.documents.schedule import Job, Schedule
from memberscope.outputs import (
    INVERTED,
    InversionAttempt,
    flatten_chain,
    join_parts,
    list_randomised_parts,
    parse_restriction,
    try_inversion,
    without_noise_keys,
)
from memberscope.signals import SignalRequest
from memberscope.targets import RestrictedTarget
from memberscope.types import Evidence, OutputDefence, Target

TriedLevels = tuple[Schedule, dict[Level, Evidence], Control | None]


@dataclass
class _Tries:
    """What came of each try: sentences by what was tried, levels added, and shares undone."""

    said: dict[str, str] = field(default_factory=dict)
    levels: list[str] = field(default_factory=list)
    is_undone: bool = False
    shares: dict[str, float] = field(default_factory=dict)
    is_whole: bool = True

    def add(self, word: str, attempt: InversionAttempt) -> None:
        """Add what came of one try."""
        self.said[word] = attempt.why
        self.is_whole = self.is_whole and attempt.is_whole
        self.is_undone = self.is_undone or attempt.is_undone
        if attempt.share:
            self.shares[word] = attempt.share

    def conclude(self) -> Control | None:
        """Give the control; None where nothing draws by a key."""
        if not self.said:
            return None
        # Where something was not tried, nothing is shown to hold
        passed = False if self.is_undone else True if self.is_whole else None
        details = {"levels": self.levels, "shares": self.shares}
        return Control(passed, " ".join(dict.fromkeys(self.said.values())), details=details)


def add_inverted_levels(
    schedule: Schedule, evidence: dict[Level, Evidence], plan: Plan, target: Target
) -> TriedLevels:
    """Try to undo the noise at every level that has some, and attack what that recovers.

    The adversary knows how the noise is made and what it is fitted to, and not its key. Each level
    that is undone gets one beside it, whose name ends in `inverted`, with the same attacks. The
    control says what was tried, of every restriction that draws by a key; there is none where
    none does.
    """
    levels, jobs, blocked, found = [], [], [], dict(evidence)
    tries = _Tries()
    for level in schedule.levels:
        own = [job for job in schedule.jobs if job.level == level]
        defence = level.defence
        if defence is not None and list_randomised_parts(defence):
            answers = np.asarray(evidence[level].target[:, 0, :], dtype=np.float64)
            attempt = try_inversion(answers, defence, _find_fitted_restriction(defence, target))
            tries.add(level.word, attempt)
            if attempt.recovery is not None:
                # Weakest first, and what is in force last of its access
                undone = replace(
                    level, restriction=f"{level.restriction}+{INVERTED}", recovery=attempt.recovery
                )
                levels.append(undone)
                tries.levels.append(undone.word)
                found[undone] = replace(
                    evidence[level], target=attempt.recovery(answers)[:, None, :]
                )
                jobs += _repeat_jobs(own, undone, plan.search_budget)
                blocked += _block_jobs(own, undone)
        levels.append(level)
        jobs += own
    _try_unnamed(tries, schedule, evidence, plan, target)
    changed = replace(
        schedule,
        levels=tuple(levels),
        jobs=tuple(jobs),
        not_run=(*schedule.not_run, *blocked),
    )
    return changed, found, tries.conclude()


def _repeat_jobs(own: list[Job], undone: Level, budget: SearchBudget) -> list[Job]:
    """Repeat the jobs of a level at the one where it is undone, where reference models compare."""
    assert undone.recovery is not None
    return [
        Job(job.attack, undone, _request_signal(job, undone, budget))
        for job in own
        if undone.recovery.is_comparable or not job.needs_references
    ]


def _request_signal(job: Job, level: Level, budget: SearchBudget) -> SignalRequest:
    """Request the signal of an attack as another level shows it."""
    spec = job.attack.needs.spec
    return level.wanted(spec, budget.count(spec))


def _block_jobs(own: list[Job], undone: Level) -> list[NotRun]:
    """Say which attacks are not repeated where a level is undone, and why."""
    assert undone.recovery is not None
    why = (
        "Reference models answer behind a restriction of their own, which is not what comes back "
        "of the model's answers here."
    )
    return [
        NotRun(job.attack.name, undone.word, why)
        for job in own
        if job.needs_references and not undone.recovery.is_comparable
    ]


def _find_fitted_restriction(defence: OutputDefence, target: Target) -> OutputDefence:
    """Put in what parts of a restriction are fitted to, where the target holds them."""
    if not isinstance(target, RestrictedTarget):
        return defence
    parts = flatten_chain(without_noise_keys(defence))
    own = flatten_chain(without_noise_keys(target.defence))
    if [part.name for part in parts[: len(own)]] != [part.name for part in own]:
        return defence
    return join_parts([*own, *parts[len(own) :]])


def _try_unnamed(
    tries: _Tries,
    schedule: Schedule,
    evidence: dict[Level, Evidence],
    plan: Plan,
    target: Target,
) -> None:
    """Try what draws by a key and is no level's restriction, and say what came of it."""
    active = find_active_restriction(plan.threat, target)
    # Behind labels alone there are no levels but those of labels
    if active is not None and (defence := parse_restriction(active)).signal == "labels":
        if list_randomised_parts(defence):
            tries.add(active, try_inversion(np.zeros((0, 1)), defence))
        return
    if active is not None or not isinstance(target, RestrictedTarget):
        return
    # A recipe that fits a defence to each of its models does not name it as a restriction
    behind, seen = target.defence, [level for level in schedule.levels if level.restriction is None]
    if not list_randomised_parts(behind) or not seen:
        return
    answers = np.asarray(evidence[seen[-1]].target[:, 0, :], dtype=np.float64)
    attempt = try_inversion(answers, behind, behind)
    why = (
        f"{attempt.why} It belongs to the training, so that reference models stand behind one of "
        "their own, and answers without it are not attacked apart."
    )
    tries.add(behind.name, replace(attempt, why=why, is_whole=False))
