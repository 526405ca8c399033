"""Every attack of the plan at every level it applies to, cross-fitted; what cannot run is listed with the reason."""

from __future__ import annotations

import numpy as np

from memberscope.auditing import crossfit as fitting
from memberscope.auditing.estimate import Settings, comparable, key
from memberscope.auditing.gather import Collected, Progress
from memberscope.auditing.levels import runs_at
from memberscope.auditing.parallel import each
from memberscope.auditing.plan import Plan
from memberscope.auditing.result import Arrays, NotRun, Scored
from memberscope.auditing.subject import coded_groups
from memberscope.errors import InputError, UnmetNeedError
from memberscope.statistics import smallest_fpr
from memberscope.types import Access, Attack, Floats


def score(plan: Plan, got: Collected, settings: Settings, report: Progress) -> tuple[Arrays, list[NotRun]]:
    """Run every attack at every level it applies to, cross-fitted; those that cannot run are listed with the reason."""
    member = got.subject.member
    if min(int(member.sum()), int((~member).sum())) < 2 * plan.folds:
        raise InputError(
            f"Expected at least {2 * plan.folds} members and non-members, got {int(member.sum())} and "
            f"{int((~member).sum())}. Give more records."
        )
    fold = fitting.assign_folds(member, plan.folds, np.random.default_rng(got.streams["folds"]))
    jobs = [(attack, level) for level in got.levels for attack in plan.chosen() if runs_at(attack, level)]

    def attempt(job: tuple[Attack, Access]) -> tuple[Scored, Floats] | NotRun:
        attack, level = job
        try:
            seen = got.evidence_for(attack, level)
            fit = fitting.crossfit(attack, seen, member, fold, got.streams["scores"])
        except UnmetNeedError as error:
            return NotRun(attack.name, level.word, str(error))
        cuts = fitting.transferred_thresholds(fit, member, fold, settings.fprs)
        risk = fitting.posteriors(fit, member, fold, plan.threat.prior)
        queries = seen.target.shape[1]
        return Scored(attack.name, level.word, fit.elsewhere is not None, fit.scores, cuts, queries), risk

    answers = each(attempt, jobs, lambda done, n: report("attack", done, n), long=lambda job: job[0].needs.features)
    ran_well = [answer for answer in answers if isinstance(answer, tuple)]
    scored = [entry for entry, _ in ran_well]
    posterior = {key(entry.attack, entry.access): risk for entry, risk in ran_well}
    not_run = declared_too_high(plan, got) + [answer for answer in answers if isinstance(answer, NotRun)]
    if not scored:
        raise InputError(f"Expected an attack that can run on {got.observed.signal}, got none. {not_run[-1].why}")
    ran = {entry.attack for entry in scored} | {entry.attack for entry in not_run}
    for attack in plan.chosen():
        if attack.name not in ran:
            why = f"It needs access {attack.needs.access.word!r}; the model returns {got.observed.signal}."
            not_run.append(NotRun(attack.name, plan.threat.access.word, why))
    groups, values = coded_groups(got.subject)
    arrays = Arrays(got.subject.records.ids, member, got.subject.records.y, fold, tuple(scored), groups, values, posterior)
    arrays.comparable.update({key(entry.attack, entry.access): comparable(entry, arrays) for entry in scored})
    return arrays, not_run + unresolved(plan, arrays, settings)


def declared_too_high(plan: Plan, got: Collected) -> list[NotRun]:
    """A note for each declared access level that the target does not offer."""
    missing = [level for level in Access if got.levels[-1] < level <= plan.threat.access]
    return [NotRun("all", level.word, f"The model returns {got.observed.signal} only.") for level in missing]


def unresolved(plan: Plan, arrays: Arrays, settings: Settings) -> list[NotRun]:
    """A note for each rate that attacks fitted fold by fold cannot resolve though the whole hold-out does."""
    learned = sorted({entry.attack for entry in arrays.scored if entry.learned})
    smallest = int(np.bincount(arrays.fold[~arrays.member]).min())
    return [
        NotRun(
            ", ".join(learned),
            plan.threat.access.word,
            f"At an FPR of {fpr:g}: fitted once a fold, and {smallest} non-members a fold resolve {smallest_fpr(smallest):.2g}.",
        )
        for fpr in settings.fprs
        if learned and fpr * smallest < 1 - 1e-9
    ]
