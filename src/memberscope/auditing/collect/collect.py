"""Collect what an audit needs before it scores.

Duplicates across the sides, one answer a record, evidence at each level.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from memberscope.auditing.collect.inverted_levels import TriedLevels, add_inverted_levels
from memberscope.auditing.collect.measured_signals import (
    Measurements,
    add_token_features,
    add_token_parts,
    add_transfer_signal,
    measure_target,
)
from memberscope.auditing.collect.reference_evidence import build_references
from memberscope.auditing.collect.reference_models import (
    References,
    Training,
    build_training_job,
    cut_design,
    describe_unused_seed,
    fit_training,
)
from memberscope.auditing.collect.reference_rules import select_reference_rules
from memberscope.auditing.collect.schedule import build_schedule
from memberscope.auditing.collect.stored_references import build_stored_references
from memberscope.auditing.collect.target_models import Procedure, train_target_models
from memberscope.auditing.controls.fitted import describe_unfitted_answers
from memberscope.auditing.controls.overlap import describe_duplicates
from memberscope.auditing.documents.access_levels import Level, build_evidence
from memberscope.auditing.documents.diagnostics import DuplicatePair
from memberscope.auditing.documents.effort import SearchBudget
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.result import Control
from memberscope.auditing.documents.schedule import Schedule
from memberscope.auditing.subject.class_order import require_order
from memberscope.auditing.subject.duplicates import (
    EXAMPLES,
    Overlap,
    find_equal_answers,
    find_overlap,
)
from memberscope.auditing.subject.feature_matrix import reduce_features
from memberscope.auditing.subject.shared_units import describe_unit_sizes, settle_units
from memberscope.auditing.subject.subject import (
    Subject,
    hash_ids,
    require_named_units,
    take_records,
)
from memberscope.auditing.subject.text_duplicates import find_text_overlap
from memberscope.errors import InputError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.recipes import ReferenceFleet, TrainingJob
from memberscope.recipes.fleet import Failure, try_train_fleet
from memberscope.signals import (
    COPIED,
    Observed,
    SignalRequest,
    Store,
    collect_generation_answers,
    collect_outputs,
    collect_token_answers,
    explain_missing_part,
    hide_vocabulary,
    is_measured,
)
from memberscope.targets.wrappers import find_metered_target
from memberscope.texts import TokenSignals
from memberscope.types import Access, Attack, Evidence, SignalSpec, Target

Progress = Callable[[str, int, int], None]
# The order decides each stream, so new ones go last: older seeds must give the same audits
STREAMS = (
    "folds",
    "scores",
    "features",
    "overlap",
    "null",
    "blind",
    "guesses",
    "references",
    "targets",
    "transfer",
)


@dataclass(frozen=True, eq=False)
class Collected:
    """The subject after overlap was dealt with, the model's answers, and the plan's random streams.

    `inversion` says what came of undoing randomised restrictions, None where there are none.
    `broken_recipe` says why no reference model at all could be trained, and is empty where some
    could or none were wanted; `broken_targets` says the same of further target models.
    """

    subject: Subject
    observed: Observed
    overlap: Overlap | None
    overlap_examples: list[DuplicatePair]
    schedule: Schedule
    evidence: dict[Level, Evidence]
    streams: dict[str, np.random.SeedSequence]
    measured: Measurements = field(default_factory=Measurements)
    search_budget: SearchBudget = field(default_factory=SearchBudget)
    references: References | None = None
    procedure: Procedure | None = None
    training_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    inversion: Control | None = None
    broken_recipe: str = ""
    broken_targets: str = ""
    tokens: TokenSignals | None = None

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of the audit, weakest first."""
        return self.schedule.levels

    def wanted(self, attack: Attack, level: Level) -> SignalRequest:
        """Give the signal of an attack at a level."""
        return level.wanted(attack.needs.spec, self.search_budget.count(attack.needs.spec))

    def evidence_for(self, attack: Attack, level: Level) -> Evidence:
        """Give what an attack sees at a level.

        The answers alone, or one signal of the target and of the reference models.

        Raises:
            UnmetNeedError: The signal could not be measured.
        """
        wanted = self.wanted(attack, level)
        # Attacks with reference models say why there are none, before what else is lacking
        if any(attack.needs.references):
            if self.broken_recipe:
                raise UnmetNeedError(f"No reference model could be trained. {self.broken_recipe}")
            if self.references is not None and wanted.spec in self.references.refused:
                raise UnmetNeedError(self.references.refused[wanted.spec])
        # Reference evidence has the target's signal too, so it comes first
        if (
            self.references is not None
            and any(attack.needs.references)
            and wanted in self.references.evidence
        ):
            return self.references.evidence[wanted]
        if wanted.spec.name == "tokens":
            return self._build_token_evidence(attack, level)
        # A server that only generates was asked for texts once for each record
        if is_measured(wanted.spec) and wanted.spec.name != self.observed.signal:
            return self.measured.evidence(wanted.spec, self.subject.records)
        return self.evidence[level]

    def _build_token_evidence(self, attack: Attack, level: Level) -> Evidence:
        """Give the token signals to an attack that reads them.

        Raises:
            UnmetNeedError: A part that it reads is missing.
        """
        tokens = self.tokens
        if tokens is None:
            raise UnmetNeedError(
                "Expected token log-probabilities of this model, got none: they are kept of the "
                "audited model alone."
            )
        for part in attack.needs.tokens:
            if not tokens.has_part(part):
                raise UnmetNeedError(
                    self.measured.refused.get(
                        SignalSpec("tokens", views=(part,)), explain_missing_part(part)
                    )
                )
        if level.access < Access.VOCABULARY:
            tokens = hide_vocabulary(tokens)
        return replace(self.evidence[level], signal="tokens", tokens=tokens)

    @property
    def queries(self) -> int:
        """Records that the target was asked about.

        An endpoint's ledger counts what was sent again too.
        """
        return (
            self.observed.queries
            + self.measured.queries
            + self._count_copies()
            + (self.references.extra_queries if self.references else 0)
        )

    def _count_copies(self) -> int:
        """Count the changed copies of texts that the target was asked about."""
        if self.tokens is None or read_target_facts(self.subject.target).stored:
            return 0
        return len(self.tokens) * sum(part in self.tokens.copies for part in COPIED)


@dataclass(frozen=True, eq=False)
class FirstAnswers:
    """What the target answered about every record, before anything else is paid for.

    The subject and the training are those of the audit, without the duplicates that the plan
    drops. `notes` say what was found on the way, and `new_notes` what the target learned about the
    records themselves while it was asked.
    """

    subject: Subject
    training: Training | None
    observed: Observed
    overlap: Overlap | None
    overlap_examples: list[DuplicatePair]
    notes: list[str]
    tokens: TokenSignals | None = None
    new_notes: tuple[str, ...] = ()


def ask_first_answers(
    plan: Plan,
    subject: Subject,
    store: Store | None,
    report: Progress,
    training: Training | None = None,
) -> FirstAnswers:
    """Find duplicates, drop them if the plan says so, and ask the model about every record once.

    Raises:
        InputError: The records do not allow what the plan asks for, or further targets are wanted
            and there is no recipe.
        TargetError: The model fails.
    """
    # What the plan and the records do not allow is refused before anything is paid for
    require_named_units(plan.unit, subject)
    n = len(subject.member)
    subject, kept = settle_units(subject, drop=plan.drop_overlap)
    training = fit_training(plan, subject, cut_design(training, kept, n))
    overlap, examples = find_duplicates(subject)
    duplicated = describe_duplicates(
        overlap, subject.member, by_unit=subject.records.unit is not None
    )
    # Dropped before the model is asked, so that no query is spent on them
    if overlap is not None and plan.drop_overlap and len(overlap.non_members()):
        subject, training = remove_duplicates(subject, training, overlap)
    observed, tokens = _ask_target(plan, subject, training, store, report)
    notes = [*duplicated, *describe_unit_sizes(subject)]
    found = _list_new_notes(subject)
    return FirstAnswers(subject, training, observed, overlap, examples, notes, tokens, found)


def _list_new_notes(subject: Subject) -> tuple[str, ...]:
    """List the notes of a target that the subject does not have."""
    notes = read_target_facts(subject.target).notes
    return tuple(note for note in notes if note not in subject.notes)


def collect_audit_data(
    plan: Plan, first: FirstAnswers, store: Store | None, report: Progress
) -> Collected:
    """Collect what the plan needs besides the first answers: searches, and other models.

    Raises:
        InputError: The records do not allow what the plan asks for.
        TargetError: The model or the recipe fails.
    """
    subject, training, observed = first.subject, first.training, first.observed
    streams = derive_streams(plan)
    schedule, evidence, inversion = schedule_attacks(plan, first)
    # Told at once: hours of training are lost on a model that answers at random
    unfitted = describe_unfitted_answers(evidence, subject.class_codes, subject.member)
    for note in unfitted:
        report(f"note: {note}", 1, 1)
    # Models are trained before searches, which take long: what the first model shows of the recipe
    # is known at once.
    started = time.perf_counter()
    order, fleet = train_references(
        plan, subject, training, schedule, streams["references"], store=store, report=report
    )
    trained = time.perf_counter() - started
    measured = measure_target(schedule, subject, store, report, known=observed.signal)
    tokens, refused = add_token_parts(schedule, subject, first.tokens, store, report)
    measured = replace(measured, refused=measured.refused | refused)
    measured = add_token_features(measured, schedule, tokens)
    if training is not None:
        measured = add_transfer_signal(
            measured,
            schedule,
            subject,
            training.recipe,
            training.population,
            seed=streams["transfer"],
        )
    # The time of further targets is added to that of the reference models
    started = time.perf_counter() - trained
    references = None
    if order is not None and isinstance(fleet, ReferenceFleet):
        references = build_references(plan, subject, order, fleet, observed, measured, store=store)
    elif training is None:
        references = build_stored_references(subject, schedule, observed)
    # A recipe that failed for reference models fails for targets as well, so it is not tried again
    broken = fleet.why if isinstance(fleet, Failure) else ""
    further: Procedure | Failure | None = Failure(broken) if broken and plan.targets else None
    if training is not None and plan.targets and not broken:
        further = train_target_models(
            plan,
            subject,
            training,
            schedule.list_target_requests(),
            select_reference_rules(subject.target).measure_accuracy(subject, observed),
            seed=streams["targets"],
            store=store,
            progress=lambda done, n: report("train targets", done, n),
        )
    procedure = further if isinstance(further, Procedure) else None
    seedless = describe_unused_seed(training) if references or procedure else []
    # A target may have learned something about the records while it was asked; changed copies of
    # texts, which were asked about since, are no records
    later = first.new_notes if plan.task == "text" else _list_new_notes(subject)
    return Collected(
        subject=subject,
        observed=observed,
        overlap=first.overlap,
        overlap_examples=first.overlap_examples,
        schedule=schedule,
        evidence=evidence,
        streams=streams,
        measured=measured,
        search_budget=plan.search_budget,
        references=references,
        procedure=procedure,
        training_seconds=time.perf_counter() - started if training is not None else 0.0,
        notes=(*first.notes, *unfitted, *seedless, *later),
        inversion=inversion,
        broken_recipe=broken,
        broken_targets=further.why if isinstance(further, Failure) else "",
        tokens=tokens,
    )


def schedule_attacks(plan: Plan, first: FirstAnswers) -> TriedLevels:
    """Schedule the attacks on the first answers, with the evidence at each level.

    Levels whose noise can be undone are added, with what came of trying.

    Raises:
        InputError: The classes seem to stand in another order than the model's.
    """
    observed, seed = first.observed, derive_streams(plan)["features"]
    schedule = build_schedule(plan, first.subject, observed.signal, first.training)
    evidence = _build_level_evidence(plan, first.subject, observed, schedule.levels, seed)
    return add_inverted_levels(schedule, evidence, plan, first.subject.target)


def _ask_target(
    plan: Plan, subject: Subject, training: Training | None, store: Store | None, report: Progress
) -> tuple[Observed, TokenSignals | None]:
    """Ask the target about every record once, within the query budget.

    A language model says something of each token as well.
    """
    _grant_query_budget(subject.target, plan.threat.query_budget)
    probe = can_ask_twice(plan, training)

    def query(done: int, n: int) -> None:
        report("query", done, n)

    # A server that shows nothing of given tokens is asked to write instead
    if is_only_generating(subject.target):
        answers = collect_generation_answers(
            subject.target,
            subject.records,
            budget=plan.threat.query_budget,
            store=store,
            progress=query,
        )
        return answers, None
    if plan.task == "text":
        return collect_token_answers(
            subject.target, subject.records, store=store, probe=probe, progress=query
        )
    observed = collect_outputs(
        subject.target, subject.records, store=store, probe=probe, progress=query
    )
    return observed, None


def is_only_generating(target: Target) -> bool:
    """Tell whether a target writes texts and shows no log-probabilities of given tokens.

    >>> from memberscope.targets import FunctionTarget
    >>> is_only_generating(FunctionTarget(len, n_classes=2))
    False
    """
    return Access.GENERATIONS <= target.access < Access.TOKEN_PROBABILITIES


def train_references(
    plan: Plan,
    subject: Subject,
    training: Training | None,
    schedule: Schedule,
    seed: np.random.SeedSequence,
    *,
    store: Store | None,
    report: Progress,
) -> tuple[TrainingJob | None, ReferenceFleet | Failure | None]:
    """Train the reference models that the plan's attacks need, or say why none could be.

    Nothing where none are wanted.

    Raises:
        InputError: The records do not allow the design.
        TargetError: A model takes too long, or the workers are lost.
    """
    wanted = schedule.list_reference_requests()
    if training is None or not wanted:
        return None, None
    order = build_training_job(plan, subject, training, wanted, seed)
    return order, try_train_fleet(
        order, store, training.execution, lambda done, n: report("train", done, n)
    )


def find_duplicates(subject: Subject) -> tuple[Overlap | None, list[DuplicatePair]]:
    """Find records that stand on both sides, with the keyed hashes of the first pairs.

    None where that cannot be known. Without the records, stored answers are compared.
    """
    overlap = None
    if read_target_facts(subject.target).task == "text":
        if (texts := subject.list_texts()) is not None:
            overlap = find_text_overlap(
                texts, subject.member, unit=subject.unit_codes, apart=subject.copies
            )
    elif subject.features is not None:
        overlap = find_overlap(subject.features, subject.member, apart=subject.copies)
    elif subject.answers is not None:
        overlap = find_equal_answers(subject.answers, subject.class_codes, subject.member)
    if overlap is None:
        return None, []
    return overlap, _hash_duplicate_pairs(overlap, subject)


def remove_duplicates(
    subject: Subject, training: Training | None, overlap: Overlap
) -> tuple[Subject, Training | None]:
    """Remove the records that stand on both sides, all copies included.

    A fixed design is cut to the rest.

    Raises:
        InputError: No member or no non-member is left.
    """
    keep = np.flatnonzero(~overlap.involved)
    for side, kind, other in ((False, "non-members", "members"), (True, "members", "non-members")):
        if not (subject.member[keep] == side).any():
            raise InputError(
                f"Expected {kind} that are not duplicates of {other}, got none. Give other {kind}."
            )
    return take_records(subject, keep), cut_design(training, keep, len(subject.member))


def _grant_query_budget(target: Target, budget: int | None) -> None:
    """Tell a target that counts what is sent of each record how often that may be."""
    if budget is not None and (counted := find_metered_target(target)) is not None:
        counted.query_budget = budget


def can_ask_twice(plan: Plan, training: Training | None) -> bool:
    """Tell whether the budget leaves room for the determinism probe.

    The plan's own queries of a record come first.
    """
    budget = plan.threat.query_budget
    # Views beyond the first are asked only for reference models
    return budget is None or budget > (1 if training is None else len(plan.views))


def _build_level_evidence(
    plan: Plan,
    subject: Subject,
    observed: Observed,
    levels: tuple[Level, ...],
    seed: np.random.SeedSequence,
) -> dict[Level, Evidence]:
    """Reduce the target's answers to what each level shows of them.

    A target behind a defence went through that already. `seed` draws the projection of the
    features.

    Raises:
        InputError: The classes seem to stand in another order than the model's.
    """
    # Outputs that went through a defence must not go through it twice
    done = read_target_facts(subject.target).restriction
    features = subject.features
    if features is not None:
        features = reduce_features(features, np.random.default_rng(seed))
    evidence = {
        level: build_evidence(
            level,
            observed.signal,
            observed.outputs,
            subject.records.y,
            features,
            done=done,
            decided=observed.labels,
        )
        for level in levels
    }
    # Labels show a wrong order of classes, unless they are meant to be wrong
    if (labels := evidence.get(Level(Access.LABEL))) is not None and not plan.assume_class_order:
        require_order(
            labels.target[:, 0, 0].astype(np.int64), subject.records.y, subject.target.n_classes
        )
    return evidence


def derive_streams(plan: Plan) -> dict[str, np.random.SeedSequence]:
    """Derive one random stream for each purpose."""
    return dict(zip(STREAMS, np.random.SeedSequence(plan.seed).spawn(len(STREAMS)), strict=True))


def _hash_duplicate_pairs(overlap: Overlap, subject: Subject) -> list[DuplicatePair]:
    """Hash the first pairs of duplicates by the ids of their records."""
    pairs = [("exact", pair) for pair in overlap.exact] + [("near", pair) for pair in overlap.near]
    if not pairs:
        return []
    shown = pairs[:EXAMPLES]
    hashes = hash_ids(subject.records.ids, np.array([pair for _, pair in shown]).ravel())
    both = zip(shown, hashes[::2], hashes[1::2], strict=True)
    return [DuplicatePair(kind, first, second) for (kind, _), first, second in both]
