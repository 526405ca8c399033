"""Attack answers whose noise an adversary can undo, beside the answers with the noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.effort import SearchBudget
from memberscope.auditing.documents.result import Control
from memberscope.auditing.documents.schedule import Job, Schedule
from memberscope.outputs import (
    INVERTED,
    can_try_recovery,
    explain_unrecovered,
    find_recovery,
    list_randomised_parts,
)
from memberscope.types import Evidence

TriedLevels = tuple[Schedule, dict[Level, Evidence], Control | None]


def add_inverted_levels(
    schedule: Schedule, evidence: dict[Level, Evidence], budget: SearchBudget
) -> TriedLevels:
    """Try to undo the noise at every level that has some, and attack what that recovers.

    The adversary knows how the noise is made, and not its key. Each level that is undone gets one
    beside it, whose name ends in `inverted`, with the same attacks. The control says what was
    tried; there is none where no level has noise.
    """
    levels, jobs, found, said = [], [], dict(evidence), {}
    is_whole = True
    for level in schedule.levels:
        own = [job for job in schedule.jobs if job.level == level]
        defence = level.defence
        if defence is not None and list_randomised_parts(defence):
            answers = np.asarray(evidence[level].target[:, 0, :], dtype=np.float64)
            recovery = find_recovery(answers, defence)
            is_whole = is_whole and can_try_recovery(defence)
            if recovery is None:
                said[level.word] = explain_unrecovered(defence)
            else:
                said[level.word] = f"{defence.name} can be undone {recovery.words}."
                # Weakest first, and what is in force last of its access
                undone = replace(
                    level, restriction=f"{level.restriction}+{INVERTED}", recovery=recovery
                )
                levels.append(undone)
                found[undone] = replace(evidence[level], target=recovery(answers)[:, None, :])
                jobs += [_move_job(job, undone, budget) for job in own]
        levels.append(level)
        jobs += own
    if not said:
        return schedule, evidence, None
    undone_levels = [level.word for level in levels if level.recovery is not None]
    # Where something was not tried, nothing is shown to hold
    passed = False if undone_levels else True if is_whole else None
    control = Control(passed, " ".join(said.values()), details={"levels": undone_levels})
    return replace(schedule, levels=tuple(levels), jobs=tuple(jobs)), found, control


def _move_job(job: Job, level: Level, budget: SearchBudget) -> Job:
    """Move an attack to another level, where it reads its signal as that level shows it."""
    spec = job.attack.needs.spec
    return Job(job.attack, level, level.wanted(spec, budget.count(spec)))
