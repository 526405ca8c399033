"""Try defences side by side: each trains a target and its reference models.

Each is attacked by an adversary who does the same.

References:
    [1] M. Aerni, J. Zhang, F. Tramèr, "Evaluations of Machine Learning Privacy Defenses are
        Misleading", CCS 2024, arXiv:2404.17399.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np

from memberscope.attacks import find_attacks, list_attacks
from memberscope.auditing.collect.collect import (
    Progress,
    ask_first_answers,
    collect_audit_data,
    find_duplicates,
    remove_duplicates,
)
from memberscope.auditing.collect.measured_signals import plan_searches
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.defend.frontier import (
    Frontier,
    FrontierRow,
    FrontierView,
    build_frontier,
    build_frontier_row,
    decide_policy_outcome,
)
from memberscope.auditing.documents.plan import EstimateSettings, Plan, fit_plan_to_task
from memberscope.auditing.documents.policy import Policy
from memberscope.auditing.documents.result import AuditArrays, Result
from memberscope.auditing.estimates.ranking import Ranking, build_ranking
from memberscope.auditing.run import audit_subject
from memberscope.auditing.scoring.score import score_attacks
from memberscope.auditing.subject.outputs import make_subject_by_task
from memberscope.auditing.subject.shared_units import settle_units
from memberscope.auditing.subject.subject import Subject
from memberscope.auditing.verdict.full_attack_set import (
    AdversaryView,
    AttackCoverage,
    build_adversary_view,
    list_full_set,
)
from memberscope.defences import BehindOutputs, Defended, expand_sweep, parse_defence
from memberscope.errors import InputError, MemberscopeError
from memberscope.facts import read_recipe_facts, read_target_facts
from memberscope.frames import choose_rows
from memberscope.outputs import Chain, check_restriction, parse_restriction
from memberscope.recipes import (
    COPY,
    GROUP,
    NATURAL,
    TorchRecipe,
    build_balanced_design,
    plant_canaries,
)
from memberscope.recipes.fleet import limit_threads, select_records, train_models, tune_recipe
from memberscope.signals import Store, measure_output_quality
from memberscope.targets import RestrictedTarget
from memberscope.types import (
    OUTPUT_SIGNALS,
    Access,
    Bools,
    Floats,
    OutputDefence,
    Recipe,
    Records,
    Target,
    Task,
)

# Attacks that learn from known records, or that search with new queries under each reference model,
# take most of the time. They run
# if they are named, and in the second pass over each way of training of which a choice would meet
# the policy without them.
SWEPT = (
    *(
        "gap",
        "boundary",
        "loss",
        "modified_entropy",
        "logit",
        "lira",
        "lira_offline",
        "lira_robust",
    ),
    *("rmia", "base", "calibrated", "attack_r"),
)
# Beside the swept ones where the model itself is open
OPEN = (
    "gradient_norm",
    "self_influence",
    "lira_gradient_norm",
)
SEARCHED = 64  # queries a record for each label-only search of the target
# Share of the non-members set apart for defences that are fitted, where no population is given
RESERVED = 0.2
Kept = Callable[[str, Result], None]


@dataclass(frozen=True, eq=False)
class SweepSetting:
    """What every defence is tried on.

    `records` (n), `member` (n,) of the target, and `design` (m, n) of the reference models.

    Members come first. The natural records are members or not as the user gave them; a coin decides
    about each canary.
    """

    records: Records
    member: Bools
    design: Bools
    class_names: tuple[str, ...]
    seed: int

    def sides(self) -> tuple[Records, Records]:
        """Split the records into members and non-members."""
        return select_records(self.records, self.member), select_records(self.records, ~self.member)


@dataclass(frozen=True, eq=False)
class SweepOutcome:
    """One way of training as it was attacked.

    One adversary trains the same way, the other trains undefended models.

    `ranking` is that of the attacks of `result`, and `unaware` that of the adversary who trains
    undefended models; the same one where nothing is defended. `subject` is the target that was
    trained once, with its records.
    """

    result: Result
    ranking: Ranking
    unaware: Ranking | None
    seconds: float
    subject: Subject
    proof: Any = None
    fitted: OutputDefence | None = None


@dataclass(frozen=True)
class SweepOptions:
    """Names of the defences to try (`none` is always tried, first), and canaries of each kind.

    `kept` gets the audit of each way of training, and `fitted` the output defence that was fitted
    to its target, where there is one.
    """

    names: tuple[str, ...]
    canaries: int = 240
    kept: Kept = field(default=lambda name, result: None)
    fitted: Callable[[str, OutputDefence], None] = field(default=lambda name, defence: None)


def sweep_defences(
    plan: Plan,
    subject: Subject,
    training: Training,
    wish: SweepOptions,
    *,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Frontier:
    """Train a target and reference models with each defence, attack and compare them.

    Accuracy is put beside leakage.

    The policy is not judged by a single audit here: each row says whether the natural records meet
    it. A way of training of which a row would meet it by the plan's attacks is attacked again with
    the full set, and its rows are those of that audit.

    Raises:
        InputError: A defence is unknown or cannot be applied to the recipe, or the records do not
    allow the canaries.
    """
    report = progress or (lambda stage, done, total: None)
    plan = _fit_sweep_plan(plan, subject.target)
    # Duplicates go before canaries are planted, whose copies are wanted
    subject, _ = settle_units(subject, drop=plan.drop_overlap)
    if plan.drop_overlap:
        subject = _remove_overlap(plan, subject)
    subject, reserve = _reserve_records(subject, training, wish, plan.seed)
    every = [
        parse_defence(name, training.population, reserve)
        for name in expand_sweep(("none", *wish.names))
    ]
    choices = list({choice.name: choice for choice in every}.values())
    # Before anything is trained
    for choice in choices:
        if choice.restriction is not None:
            check_restriction(parse_restriction(choice.restriction), plan.task)
    # Choices that differ only in outputs share one training
    recipes = {choice.trains: choice.recipe(training.recipe) for choice in choices}
    training = replace(
        training, population=None
    )  # defences learn from it, so it is no longer what no model saw
    scene = build_sweep_setting(plan, subject, wish.canaries)
    bare, policy = (
        replace(plan, policy=None, targets=0, assume_class_order=True, drop_overlap=False),
        plan.policy,
    )
    shown = FrontierView.of(bare, policy, scene.records, scene.member, len(choices))
    tried: dict[str, SweepOutcome | str] = {}
    for done, (name, recipe) in enumerate(recipes.items()):
        report("defences", done, len(recipes))
        limits = tuple(
            limit
            for limit in (choice.restriction for choice in choices if choice.trains == name)
            if _is_own_level(limit)
        )
        try:
            own = replace(bare, restrictions=limits, title=name)
            found = train_and_audit(own, scene, recipe, training, store, report)
            # The full set is costly, so only what could meet the policy is attacked with it
            if any(
                _can_meet_policy(choice, found, shown, own)
                for choice in choices
                if choice.trains == name
            ):
                own = replace(
                    own,
                    attacks=list_full_set(
                        own.threat.access,
                        (*own.attacks, *(policy.require if policy else ())),
                        plan.task,
                    ),
                )
                again = _attack_twice(
                    own, found.subject, scene, recipe, training, store=store, report=report
                )
                found = replace(found, result=again[0], ranking=again[1], unaware=again[2])
        except Exception as error:  # hours of other choices must not be lost with one
            if name == "none":
                raise
            known = isinstance(error, MemberscopeError)
            tried[name] = (
                str(error)
                if known
                else f"Internal error: {type(error).__name__}: {error}. Please report it."
            )
        else:
            tried[name] = found
            wish.kept(name, found.result)
            if found.fitted is not None:
                wish.fitted(name, found.fitted)
    report("defences", len(recipes), len(recipes))
    rows = [_build_choice_row(choice, tried[choice.trains], shown) for choice in choices]
    return build_frontier(bare, policy, rows, shown)


def _fit_sweep_plan(plan: Plan, target: Target) -> Plan:
    """Fit the plan of a sweep to the task of its target.

    Raises:
        InputError: Defences of this task are not compared, or the attack gap is missing.
    """
    task = read_target_facts(target).task
    if task in ("text", "table"):
        raise InputError(
            "Expected a model of classes or of real outputs to compare defences, got "
            f"{'a language model' if task == 'text' else 'a released table'}. Audit each one by "
            "itself, and compare the results with memberscope compare."
        )
    # The gap attack says which classes are right, and so gives each row its accuracy
    if task == "classification" and "gap" not in plan.attacks:
        raise InputError(
            "Expected the attack gap among those of the sweep, got others. Add it to --attacks."
        )
    return fit_plan_to_task(plan, task)


def _is_own_level(limit: str | None) -> TypeGuard[str]:
    """Tell whether a restriction is a level of its own to try; labels are audited anyway."""
    return limit is not None and parse_restriction(limit).signal != "labels"


def list_sweep_attacks(
    access: Access, policy: Policy | None, task: Task = "classification"
) -> tuple[str, ...]:
    """List the attacks of a sweep where none are named.

    They are those that tend to win at `access`, and what the policy requires. On models with real
    outputs they are all that do not learn from known records.
    """
    if task != "classification":
        every = list_attacks(task).values()
        usual = [one for one in every if task in one.needs.tasks and one.needs.known == "none"]
        required = policy.require if policy else ()
        return tuple(dict.fromkeys((*(one.name for one in usual), *required)))
    found = (
        *SWEPT,
        *(OPEN if access == Access.WHITE_BOX else ()),
        *(policy.require if policy else ()),
    )
    # One attack may stand in several lists
    return tuple(dict.fromkeys(found))


def _can_meet_policy(
    choice: Defended, tried: SweepOutcome, shown: FrontierView, plan: Plan
) -> bool:
    """Tell whether a choice may meet the policy once the attacks have run that it lacks."""
    # Without queries the full set cannot run, so a second pass would change nothing
    if shown.policy is None or not plan.search_queries:
        return False
    seen = _view_adversary(choice, tried)
    if not seen.covered.lacking:
        return False
    # What is required runs in the second pass, so it must not count as missing now
    shown = replace(shown, policy=replace(shown.policy, require=()))
    return decide_policy_outcome(
        replace(seen, covered=AttackCoverage(seen.covered.ran)), shown, tried.result
    ) in (
        "meets",
        "not measured",
    )


def _view_adversary(choice: Defended, tried: SweepOutcome) -> AdversaryView:
    """Build the view of a choice's adversary, and of one who does not know the defence.

    There is none of the latter where outputs alone are restricted.
    """
    unaware = None if choice.trains == "none" and choice.restriction else tried.unaware
    return build_adversary_view(choice.restriction, tried.result, tried.ranking, unaware)


def _build_choice_row(
    choice: Defended, tried: SweepOutcome | str, shown: FrontierView
) -> FrontierRow:
    """Build the row of one choice, or of its failure."""
    if isinstance(tried, str):
        return FrontierRow(choice.name, choice.settings, choice.restriction, why_not=tried)
    seen = _view_adversary(choice, tried)
    quality = _measure_choice_quality(choice, tried.subject)
    row = build_frontier_row(
        seen, choice.restriction, tried.result, shown, tried.proof, quality=quality
    )
    return replace(row, name=choice.name, settings=choice.settings, seconds=round(tried.seconds, 2))


def _measure_choice_quality(choice: Defended, subject: Subject) -> Floats | None:
    """Measure how right real outputs are about each record (n,) behind a choice's restriction.

    None for classes, whose accuracy the gap attack shows.
    """
    target, records = subject.target, subject.records
    if target.signal not in OUTPUT_SIGNALS:
        return None
    outputs = target.query(records.x)
    if choice.restriction is not None:
        outputs = parse_restriction(choice.restriction)(outputs)
    return measure_output_quality(target.signal, outputs, records.y)


def _reserve_records(
    subject: Subject, training: Training, wish: SweepOptions, seed: int
) -> tuple[Subject, Records | None]:
    """Set apart the records that fitted defences need.

    The population serves where there is one, and the subject keeps all its records.
    """
    from memberscope.auditing.subject.subject import take_records

    # What is drawn at random is not fitted, and needs no records
    fitted = [
        part
        for name in expand_sweep(wish.names)
        for part in parse_defence(name, subject.records, subject.records).training
        if isinstance(part, BehindOutputs) and not part.at_random
    ]
    if not fitted or training.population is not None:
        return subject, training.population
    # Only non-members: records of the target's training would teach the defence its members
    outside = np.random.default_rng([seed, 7]).permutation(np.flatnonzero(~subject.member))
    n = max(20, round(RESERVED * len(outside)))
    # More than half would leave too few to measure false positives on
    if n > len(outside) // 2:
        raise InputError(
            f"Expected at least 40 non-members for {fitted[0].name}, got {len(outside)}. Give "
            "more, or --population."
        )
    apart = np.isin(np.arange(len(subject.member)), outside[:n])
    return take_records(subject, np.flatnonzero(~apart)), select_records(subject.records, apart)


def _remove_overlap(plan: Plan, subject: Subject) -> Subject:
    """Remove the non-members that duplicate members."""
    overlap, _ = find_duplicates(subject)
    if overlap is None or not len(overlap.non_members()):
        return subject
    return remove_duplicates(subject, None, overlap)[0]


def build_sweep_setting(plan: Plan, subject: Subject, n_each: int) -> SweepSetting:
    """Plant canaries, and draw the target's members and who is in which reference model.

    Every model of the design has as many records as the others, and as many pairs of
    near-duplicates, so that they train together.

    Raises:
        InputError: There are no records to train on, or too few for the canaries.
    """
    if subject.records.x is None:
        raise InputError(
            "Expected records to train defended models on, got signals alone. Give --members and "
            "--non-members."
        )
    # A stream of its own, so that the draws do not shift with what else used the seed
    rng = np.random.default_rng([plan.seed, 8])
    records, unit = subject.records, np.arange(len(subject.records))
    # A near-duplicate and its copy share a unit, and so move together
    if n_each:
        found = plant_canaries(records, n_each, plan.seed, subject.target.n_classes)
        records, unit = found.records, found.unit
    kinds = np.asarray(records.groups.get(GROUP, np.full(len(records), NATURAL)))
    n = len(subject.records)
    # The user's truth stays for natural records; a coin decides about each canary
    member = np.where(kinds[:n] == NATURAL, subject.member, rng.random(n) < 0.5)
    # Reference models are as large as the target unless the plan says otherwise
    size = plan.reference_size or int(subject.member[kinds[:n] == NATURAL].sum())
    n_models = plan.count_references()
    inside = _draw_unit_membership(kinds[:n], subject, size, n_models, rng)[:, unit]
    member = member[unit]
    # Members come first, as `sides` splits and joins them again
    order = np.concatenate([np.flatnonzero(member), np.flatnonzero(~member)])
    groups = {name: values[order] for name, values in records.groups.items()}
    own = subject.records.unit
    if own is not None:  # each canary, with its copy, is a unit: it moves on a coin of its own
        own = np.where(kinds[:n] == NATURAL, own, np.char.add("canary ", subject.records.ids))[
            unit
        ][order]
    mixed = Records(
        choose_rows(records.x, order), records.y[order], records.ids[order], groups, own
    )
    return SweepSetting(mixed, member[order], inside[:, order], subject.class_names, plan.seed)


def _draw_unit_membership(
    kinds: Any, subject: Subject, size: int, n_models: int, rng: np.random.Generator
) -> Bools:
    """Draw the membership (m, n) of records that move on their own.

    `size` natural ones, and half of the canaries of each kind, in each model.
    """
    records, strata = subject.records, subject.class_codes
    inside = np.zeros((n_models, len(kinds)), dtype=bool)
    # Kind by kind, so that every model has as many of each and models train together
    for kind in dict.fromkeys(kinds.tolist()):
        own = kinds == kind
        n = int(own.sum())
        # Natural records keep the shares of classes and their units; canaries move alone
        natural = kind == NATURAL
        inside[:, own] = build_balanced_design(
            n,
            size if natural else n // 2,
            n_models,
            rng,
            strata=strata[own] if natural else None,
            unit=records.unit[own] if natural and records.unit is not None else None,
        )
    return inside


def train_and_audit(
    plan: Plan,
    scene: SweepSetting,
    recipe: Recipe,
    training: Training,
    store: Store | None,
    report: Progress,
) -> SweepOutcome:
    """Train the target as `recipe` says and audit it twice.

    Once with reference models of that recipe, and once with those of the undefended one.
    """
    proof = read_recipe_facts(recipe).proof
    proven = None if proof is None else proof(int(scene.member.sum()))
    target, seconds = _train_sweep_target(recipe, scene, plan, store)
    subject = make_subject_by_task(target, *scene.sides(), class_names=scene.class_names)
    # The blind control would know a copy from its near-duplicate, so it leaves copies out
    if GROUP in subject.records.groups:
        subject = replace(subject, copies=np.asarray(subject.records.groups[GROUP] == COPY))
    attacked = _attack_twice(plan, subject, scene, recipe, training, store=store, report=report)
    return SweepOutcome(*attacked, seconds, subject, proven, _collect_fitted_defences(target))


def _attack_twice(
    plan: Plan,
    subject: Subject,
    scene: SweepSetting,
    recipe: Recipe,
    training: Training,
    *,
    store: Store | None,
    report: Progress,
) -> tuple[Result, Ranking, Ranking | None]:
    """Audit a trained target with reference models of its own recipe and undefended ones.

    The result comes with the ranking of its attacks, and that of the attacks with undefended ones.
    """
    undefended = recipe is training.recipe
    own = replace(
        training, recipe=recipe, design=scene.design, keep_weights=_is_keeping_models(recipe, store)
    )
    result = audit_subject(plan, subject, training=own, store=store, progress=report)
    ranking = build_ranking(result.arrays, plan.threat.access)
    # Where nothing is defended, both adversaries are the same
    if undefended:
        return result, ranking, ranking
    unaware = _score_unaware_adversary(plan, subject, training, scene, store, report)
    theirs = None if unaware is None else build_ranking(unaware, plan.threat.access)
    return result, ranking, theirs


def _collect_fitted_defences(target: Target) -> OutputDefence | None:
    """Collect the output defences that training put in front of the model, the first one first.

    None where there are none.
    """
    found: list[OutputDefence] = []
    # Wrapped from the inside out, so the innermost answers first
    while isinstance(target, RestrictedTarget):
        found.insert(0, target.defence)
        target = target.target
    return Chain(tuple(found)) if len(found) > 1 else found[0] if found else None


def _is_keeping_models(recipe: Recipe, store: Store | None) -> bool:
    """Tell whether models are kept, to be asked for another defence without training again."""
    return store is not None and isinstance(recipe, TorchRecipe) and recipe.digest is not None


def _train_sweep_target(
    recipe: Recipe, scene: SweepSetting, plan: Plan, store: Store | None
) -> tuple[Target, float]:
    """Train the model on the target's members as the reference models are, and time it."""
    # Settings are tuned as for the reference models, lest they differ from the target
    size, n_models = int(scene.design[0].sum()), plan.count_references()
    decided, _ = tune_recipe(recipe, scene.records, size, n_models, store)
    started = time.perf_counter()
    with limit_threads(read_recipe_facts(decided).threads):
        found = train_models(decided, scene.records, scene.member[None], [scene.seed], plan.task)[0]
    return found, time.perf_counter() - started


def _score_unaware_adversary(
    plan: Plan,
    subject: Subject,
    training: Training,
    scene: SweepSetting,
    store: Store | None,
    report: Progress,
) -> AuditArrays | None:
    """Score an adversary who trains undefended reference models and reads confidences.

    Evaluations used to assume such a one [1].
    """
    # Attacks on labels alone do not read confidences, so they are no part of this adversary
    above = tuple(
        name for name in plan.attacks if find_attacks((name,))[0].needs.access > Access.LABEL
    )
    if not above or plan.threat.access == Access.LABEL:
        return None
    plan = plan_searches(replace(plan, attacks=above, references=len(scene.design)), subject)
    own = replace(
        training, design=scene.design, keep_weights=_is_keeping_models(training.recipe, store)
    )
    first = ask_first_answers(plan, subject, store, report, own)
    got = collect_audit_data(plan, first, store, report)
    settings = EstimateSettings(
        plan.resolvable_fprs(int((~subject.member).sum())), plan.all_priors(), plan.confidence
    )
    return score_attacks(plan, got, settings, report)[0]
