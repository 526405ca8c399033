"""The audit itself: collect, score, estimate, control, judge; each step a function on frozen values."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from memberscope.auditing import crossfit as fitting
from memberscope.auditing import diagnostics
from memberscope.auditing.again import digest_arrays, recompute
from memberscope.auditing.blind import blind_control
from memberscope.auditing.epsilon import one_run_estimates
from memberscope.auditing.estimate import Settings, comparable, key, small_groups
from memberscope.auditing.features import narrowed
from memberscope.auditing.judge import judge, power
from memberscope.auditing.levels import evidence_at, levels_of, runs_at
from memberscope.auditing.null import null_control, of_non_members
from memberscope.auditing.overlap import EXAMPLES, Overlap, find_overlap
from memberscope.auditing.parallel import each
from memberscope.auditing.plan import Plan
from memberscope.auditing.result import Arrays, Control, Cost, NotRun, Result, Scored, Tool
from memberscope.auditing.strongest import candidates, judged_access
from memberscope.auditing.subject import Subject, coded_groups, keyed_hashes, take
from memberscope.errors import InputError, UnmetNeedError
from memberscope.signals import Observed, Store, collect, digest_array, digest_records
from memberscope.statistics import smallest_fpr
from memberscope.types import Access, Attack, Estimate, Evidence, Floats

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Collected:
    """The subject after overlap was dealt with, the model's answers about it, and the random streams of the plan."""

    subject: Subject
    observed: Observed
    overlap: Overlap | None
    overlap_examples: list[dict[str, str]]
    levels: tuple[Access, ...]
    evidence: dict[Access, Evidence]
    streams: dict[str, np.random.SeedSequence]


STREAMS = ("folds", "scores", "features", "overlap", "null", "blind", "guesses")


def run(plan: Plan, subject: Subject, *, store: Store | None = None, progress: Progress | None = None) -> Result:
    """Audit `subject` as `plan` says; `store` keeps the model's answers so that a killed run goes on where it stopped.

    Raises:
        InputError: The data do not allow what the plan asks for.
        TargetError: The model failed.
    """
    started = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    plan.resolvable_fprs(int((~subject.member).sum()))
    got = gather(plan, subject, store, report)
    member = got.subject.member
    fprs = plan.resolvable_fprs(int((~member).sum()))
    settings = Settings(fprs, plan.all_priors(), plan.confidence)
    arrays, not_run = score(plan, got, settings, report)
    estimates = estimate(plan, got, arrays, settings, report)
    controls = control(plan, got, arrays, report)
    judgement = judge(plan, arrays, estimates, controls, not_run)
    claimed = [finding.estimate for finding in judgement.findings if finding.estimate is not None]
    estimates = [next((c for c in claimed if replace(c, exploratory=True) == entry), entry) for entry in estimates]
    return Result(
        tool=Tool(version=tool_version()),
        verdict=judgement.verdict,  # type: ignore[arg-type]
        reason=judgement.reason,
        title=plan.title,
        plan=plan.document(),
        threat_models=[replace(plan.threat, access=level) for level in got.levels],
        findings=judgement.findings,
        estimates=estimates,
        controls=controls,
        not_run=not_run,
        diagnostics=diagnose(plan, got, arrays, settings),
        exposed=most_exposed(plan, got, arrays),
        cost=Cost(seconds=round(time.perf_counter() - started, 3), queries=got.observed.queries),
        environment=environment(),
        digests=digests(plan, got) | {"arrays": digest_arrays(arrays)},
        arrays=arrays,
    )


def gather(plan: Plan, subject: Subject, store: Store | None, report: Progress) -> Collected:
    """Find duplicates across the sides, drop them if the plan says so, and ask the model about every record once."""
    streams = dict(zip(STREAMS, np.random.SeedSequence(plan.seed).spawn(len(STREAMS)), strict=True))
    overlap, examples = None, []
    if subject.features is not None:
        overlap = find_overlap(subject.features, subject.member, np.random.default_rng(streams["overlap"]))
        examples = named_pairs(overlap, subject)
        if plan.drop_overlap and len(overlap.non_members()):
            keep = np.setdiff1d(np.arange(len(subject.member)), overlap.non_members())
            subject = take(subject, keep)
            if subject.member.all():
                raise InputError("Expected non-members that are not duplicates of members, got none. Give other non-members.")
    observed = collect(
        subject.target,
        subject.records,
        store=store,
        probe=plan.threat.query_budget != 1,
        progress=lambda done, n: report("query", done, n),
    )
    levels = levels_of(observed.signal, plan.threat.access)
    if not levels:
        raise InputError(
            f"Expected signals that access {plan.threat.access.word!r} returns, got {observed.signal}. "
            f"Declare --access probabilities."
        )
    features = subject.features
    if features is not None:
        features = narrowed(features, np.random.default_rng(streams["features"]))
    evidence = {level: evidence_at(level, observed.signal, observed.outputs, subject.records.y, features) for level in levels}
    return Collected(subject, observed, overlap, examples, levels, evidence, streams)


def named_pairs(overlap: Overlap, subject: Subject) -> list[dict[str, str]]:
    """The first pairs of duplicates by the keyed hashes of their ids."""
    pairs = [("exact", pair) for pair in overlap.exact] + [("near", pair) for pair in overlap.near]
    if not pairs:
        return []
    hashes = keyed_hashes(subject.records.ids)
    return [{"kind": kind, "non_member": hashes[a], "member": hashes[b]} for kind, (a, b) in pairs[:EXAMPLES]]


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
            fit = fitting.crossfit(attack, got.evidence[level], member, fold, got.streams["scores"])
        except UnmetNeedError as error:
            return NotRun(attack.name, level.word, str(error))
        cuts = fitting.transferred_thresholds(fit, member, fold, settings.fprs)
        risk = fitting.posteriors(fit, member, fold, plan.threat.prior)
        return Scored(attack.name, level.word, fit.elsewhere is not None, fit.scores, cuts), risk

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


def estimate(plan: Plan, got: Collected, arrays: Arrays, settings: Settings, report: Progress) -> list[Estimate]:
    """Every estimate: the strongest attack at each level first, then each attack."""
    found = recompute(arrays, settings, lambda done, n: report("estimate", done, n))
    return found + one_run_estimates(plan, arrays, np.random.default_rng(got.streams["guesses"]))


def control(plan: Plan, got: Collected, arrays: Arrays, report: Progress) -> dict[str, Control]:
    """The null and blind controls, which bear on the verdict, and the determinism probe, which informs."""
    report("control", 0, 2)
    top = got.levels[-1]
    outside = ~got.subject.member
    attacks = tuple(attack for attack in plan.chosen() if attack.needs.access <= top)
    null = null_control(
        attacks,
        of_non_members(got.evidence[top], got.subject.member),
        got.subject.records.ids[outside],
        plan.folds,
        got.streams["null"],
    )
    report("control", 1, 2)
    best = best_scores(arrays, plan)
    rng = np.random.default_rng(got.streams["blind"])
    blind = blind_control(got.subject.features, got.subject.records.y, got.subject.member, best, rng)
    report("control", 2, 2)
    return {"null": null, "blind": blind, "determinism": determinism(got.observed)}


def determinism(observed: Observed) -> Control:
    """Whether asking the same records twice gave the same answers."""
    if observed.deterministic is None:
        return Control(None, "Nothing was asked twice: the answers were stored already, or the budget is one query a record.")
    if observed.deterministic:
        return Control(True, "Asked twice, the model answered the same.", observed.largest_change)
    why = (
        f"Asked twice, the model answered differently (by up to {observed.largest_change:.3g}): outputs are random, and "
        f"these numbers hold for one answer a record; an adversary who averages many may learn more."
    )
    return Control(False, why, observed.largest_change)


def best_scores(arrays: Arrays, plan: Plan) -> Floats | None:
    """Comparable scores (n,) of the attack with the highest AUC at the declared access."""
    name = leading(arrays, plan)
    return None if name is None else arrays.comparable[key(*name)]


def leading(arrays: Arrays, plan: Plan) -> tuple[str, str] | None:
    """Attack and access with the highest AUC among the candidates; None if nothing ran."""
    from memberscope.statistics import auc_value, roc

    if not arrays.scored:
        return None
    parts = candidates(arrays, judged_access(arrays, plan.threat.access))
    best = max(parts, key=lambda part: auc_value(roc(part.scores, part.member)))
    return best.scored.attack, best.scored.access


def diagnose(plan: Plan, got: Collected, arrays: Arrays, settings: Settings) -> dict[str, Any]:
    """Everything beside the estimates that a reader expects; keys are left out where they cannot be had."""
    subject, member = got.subject, got.subject.member
    found: dict[str, Any] = {
        "n_members": int(member.sum()),
        "n_non_members": int((~member).sum()),
        "smallest_fpr": smallest_fpr(int((~member).sum())),
        "class_sizes": diagnostics.class_sizes(subject.records.y, arrays.group_values["class"]),
        "groups_too_small": small_groups(arrays),
        "minimum_detectable_tpr": power(plan, arrays, settings.fprs),
        "notes": list(subject.notes),
    }
    if Access.LABEL in got.levels:
        hits = got.evidence[Access.LABEL].target[:, 0, 0] == subject.records.y
        found |= diagnostics.generalisation(hits, member, plan.confidence)
    if Access.PROBABILITIES in got.levels and got.observed.signal in ("probabilities", "logits"):
        found["calibration"] = diagnostics.calibration(got.evidence[Access.PROBABILITIES], member, plan.confidence)
    count = subject.target.n_parameters
    found["records_per_parameter"] = {
        "n_members": int(member.sum()),
        "n_parameters": count,
        "ratio": int(member.sum()) / count if count else None,
    }
    best = leading(arrays, plan)
    if best:
        found["reliability"] = diagnostics.reliability_of(arrays, *best, plan.threat.prior)
        found["leading"] = {"attack": best[0], "access": best[1]}
    found["overlap"] = overlap_summary(got, plan)
    return found


def overlap_summary(got: Collected, plan: Plan) -> dict[str, Any] | None:
    """How many non-members duplicate members, with keyed hashes of the first pairs; None without records."""
    if got.overlap is None:
        return None
    return {
        "exact": len(got.overlap.exact),
        "near": len(got.overlap.near),
        "compared_near": list(got.overlap.compared_near),
        "dropped": len(got.overlap.non_members()) if plan.drop_overlap else 0,
        "examples": got.overlap_examples,
    }


def most_exposed(plan: Plan, got: Collected, arrays: Arrays) -> list[Any]:
    """The thirty most exposed members under the leading attack."""
    best = leading(arrays, plan)
    if best is None:
        return []
    return list(diagnostics.exposed(arrays, keyed_hashes(arrays.ids), *best))


def digests(plan: Plan, got: Collected) -> dict[str, str]:
    """Content hashes that tie the result to its inputs."""
    found = {
        "plan": plan.digest(),
        "records": digest_records(got.subject.records),
        "outputs": digest_array(got.observed.outputs),
    }
    if got.subject.target.digest:
        found["target"] = got.subject.target.digest
    return found


def tool_version() -> str:
    """Version of this package."""
    try:
        return version("memberscope")
    except PackageNotFoundError:
        return "unknown"


def environment() -> dict[str, str]:
    """Versions that the numbers may depend on in their last digits."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in ("numpy", "scipy", "scikit-learn"):
        found[name] = version(name)
    return found
