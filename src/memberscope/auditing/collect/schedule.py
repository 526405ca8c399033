"""Build the schedule of an audit from what is known before anything is asked.

`plan` prints it, collection pays for its signals, scoring runs its jobs, and the report lists what
does not run with the same reasons.
"""

from __future__ import annotations

from memberscope.attacks import list_attacks
from memberscope.auditing.collect.measured_signals import explain_no_custom, explain_no_search
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.collect.stored_references import explain_unstored
from memberscope.auditing.documents.access_levels import (
    Level,
    derive_audit_key,
    is_worth_running,
    list_audit_levels,
)
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.result import NotRun
from memberscope.auditing.documents.schedule import Job, Schedule
from memberscope.auditing.subject.subject import Subject
from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.signals import COPIED, SAMPLES, explain_missing_part
from memberscope.targets import ReleasedTable
from memberscope.types import Attack, Needs, Signal, Target, Task, list_access_levels

LIRA_MODELS = 4  # reference models from which LiRA is run unasked; RMIA needs two


# Why attacks on models of another task do not run
FOREIGN: dict[Task, str] = {
    "text": "It reads the probabilities of classes, and a language model's texts have no classes.",
    "classification": "It attacks models of another task; this one gives classes.",
    "regression": "It reads classes or texts, and this model predicts numbers.",
    "forecast": "It reads classes or texts, and this model predicts numbers.",
    "table": "It asks a model, and a released table answers nothing.",
    "multilabel": "It reads one class a record or texts, and this model gives several labels.",
}


def build_schedule(
    plan: Plan, subject: Subject, signal: Signal, training: Training | None
) -> Schedule:
    """Decide which attack runs at which level on which signal, and say why others do not.

    Args:
        plan: The plan, with its search queries settled by `plan_searches`.
        subject: The records and the model.
        signal: What the model answers.
        training: How to train models like the target, with what the threat model grants
            (`fit_training`); None where nobody can.

    Raises:
        InputError: The signal allows no level that the threat model grants.
    """
    key = derive_audit_key(plan.seed)
    levels = list_audit_levels(subject.target, signal, plan.threat, plan.restrictions, key)
    if not levels:
        raise InputError(
            f"Expected signals that access {plan.threat.access.word!r} returns, got {signal}. "
            "Declare --access probabilities."
        )
    jobs: list[Job] = []
    blocked: list[tuple[NotRun, Level]] = []
    for level in levels:
        for attack in plan.chosen():
            if not is_worth_running(attack, level):
                # What an attack would see no better here than at another level is not a refusal
                continue
            why = _explain_blocked(attack, level, plan, subject, signal, training=training)
            if why is None:
                queries = plan.search_budget.count(attack.needs.spec)
                request = level.wanted(attack.needs.spec, queries)
                jobs.append(Job(attack, level, request))
            else:
                blocked.append((NotRun(attack.name, level.word, why), level))
    # Withheld by the threat model, wherever the attack would have run
    asked = plan.threat.access.word
    withheld = [NotRun(attack.name, asked, why) for attack, why in plan.withheld()]
    withheld += [
        NotRun(attack.name, asked, FOREIGN[plan.task]) for attack in plan.list_foreign_attacks()
    ]
    placeless = [
        NotRun(attack.name, asked, _explain_no_level(attack, plan, signal))
        for attack in plan.chosen()
        if not any(is_worth_running(attack, level) for level in levels)
    ]
    unoffered = _note_unoffered_access(plan, levels[-1], signal)
    not_run = (*withheld, *unoffered, *drop_repeated_reasons(blocked), *placeless)
    return Schedule(levels, tuple(jobs), not_run)


def drop_repeated_reasons(refused: list[tuple[NotRun, Level]]) -> list[NotRun]:
    """Leave out reasons, at levels tried beside the declared one, that hold at that one too."""
    said = {(entry.attack, entry.why) for entry, level in refused if level.declared}
    return [
        entry for entry, level in refused if level.declared or (entry.attack, entry.why) not in said
    ]


def _note_unoffered_access(plan: Plan, highest: Level, signal: Signal) -> list[NotRun]:
    """Note each declared access level that the target does not offer."""
    limits = "" if highest.restriction is None else f", restricted to {highest.restriction}"
    return [
        NotRun("all", access.word, f"The model returns {signal} only{limits}.")
        for access in list_access_levels(plan.task)
        if highest.access < access <= plan.threat.access
    ]


def _explain_no_level(attack: Attack, plan: Plan, signal: Signal) -> str:
    """Say why an attack has no level to run at."""
    needed = attack.needs.access.at(plan.task)
    limits = plan.threat.restriction
    if attack.needs.spec.source == "generations" and needed <= plan.threat.access:
        return "Expected a model that writes texts, got none. Give one with generate()."
    if attack.needs.spec.source == "custom" and limits is not None:
        return f"It measures whole answers; the threat model grants them restricted to {limits}."
    if needed > plan.threat.access:
        granted = plan.threat.access.word
        return f"It needs access {needed.word!r}; the threat model grants {granted!r}."
    return f"It needs access {needed.word!r}; the model returns {signal}."


def _explain_blocked(
    attack: Attack,
    level: Level,
    plan: Plan,
    subject: Subject,
    signal: Signal,
    *,
    training: Training | None,
) -> str | None:
    """Say why an attack cannot run at a level, as far as that is known before asking.

    The sentences are those of the attacks and signals themselves, which refuse for the same
    reasons. None where nothing is known to be in the way.
    """
    needs = attack.needs
    # Only the first reason found is told
    if needs.spec.source == "student" and (training is None or training.population is None):
        return (
            "Expected a recipe and a population that the target labels, got none. Give --recipe "
            "and --population."
        )
    if needs.spec.source == "search" and not plan.search_budget.count(needs.spec):
        return explain_no_search(plan, subject)
    if needs.spec.source == "custom" and (why := explain_no_custom(needs.spec, plan, subject)):
        return why
    # Writing takes many times as long as reading, so a local model is asked to when there is time
    unasked = plan.effort == "quick" and plan.attacks == tuple(list_attacks(plan.task))
    if needs.spec.source == "generations" and signal != "generations" and unasked:
        return (
            "Expected time for texts that the model writes, got a quick audit. Give --effort "
            f"normal, or name {attack.name} in --attacks."
        )
    if needs.spec.source == "tokens" and (why := _explain_missing_tokens(needs, subject.target)):
        return why
    if (why := _explain_small_budget(attack, plan, subject.target, signal)) is not None:
        return why
    shape = getattr(subject.records.x, "shape", ())
    if needs.spec.name == "augmentation" and len(shape) < 3:
        return (
            "Expected images (n, ..., height, width) to augment, got records of shape "
            f"{tuple(shape[1:])}. Use the attack noise."
        )
    alone = isinstance(subject.target, ReleasedTable) and subject.target.population is None
    if needs.population and alone:
        return (
            f"Expected a population for the attack {attack.name}, got none. Give records of the "
            "same kind that nothing was made of (--population)."
        )
    if any(needs.references) and training is None:
        if subject.stored_references is None:
            return "Expected reference models, got none. Give a recipe that trains them."
        if (why := explain_unstored(needs.spec, signal, plan.task)) is not None:
            return why
    if needs.spec.source != "student" and _is_starved_lira(attack, plan):
        return (
            f"Expected at least {LIRA_MODELS} reference models for {attack.name}, got "
            f"{plan.count_references()}: fewer are too few to fit a spread to, and RMIA is the "
            "attack for them. Give --references 4, or name it in --attacks."
        )
    # Losses are one number, from which other attacks cannot take what they read
    if needs.spec.name == "outputs" and signal == "loss" and "loss" not in needs.signals:
        return (
            f"Expected {' or '.join(needs.signals)} for the attack {attack.name}, got loss. Query "
            "the model at a higher access level."
        )
    if needs.features and subject.features is None:
        return (
            f"Expected features for the attack {attack.name}, got none. Give the records or "
            "--features."
        )
    return None


def _explain_small_budget(attack: Attack, plan: Plan, target: Target, signal: Signal) -> str | None:
    """Say why a query budget is too small for an attack on generated texts or changed copies."""
    budget = plan.threat.query_budget
    if budget is None or read_target_facts(target).stored:
        return None
    # A model that only generates is asked for fewer continuations, as there is nothing else to ask
    samples = attack.needs.spec.source == "generations" and signal != "generations"
    if samples and budget < SAMPLES:
        return (
            f"Expected a budget of at least {SAMPLES} queries a record for {attack.name}, which "
            f"samples so many continuations, got {budget}. Grant more."
        )
    copied = any(part in COPIED for part in attack.needs.tokens)
    if not copied or budget > 1:
        return None
    return (
        f"Expected a budget of at least 2 queries a record for {attack.name}, which asks about a "
        f"changed copy, got {budget}. Grant more."
    )


def _explain_missing_tokens(needs: Needs, target: Target) -> str | None:
    """Say which part of the token signals an attack lacks, as far as the target tells."""
    facts = read_target_facts(target)
    # What is stored is known only when it is read
    if facts.stored:
        return None
    missing = {"base": facts.base is None, "recall": facts.prefix is None}
    return next(
        (explain_missing_part(part) for part in needs.tokens if missing.get(part, False)), None
    )


def _is_starved_lira(attack: Attack, plan: Plan) -> bool:
    """Tell whether an attack that fits spreads has too few models, and nobody asked for it."""
    if not attack.name.startswith("lira") or plan.count_references() >= LIRA_MODELS:
        return False
    required = plan.policy.require if plan.policy else ()
    return plan.attacks == tuple(list_attacks(plan.task)) and attack.name not in required
