"""`memberscope plan`: a dry run; what would run, what it would cost, and what it could see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memberscope.cli.endpoint import requests_planned, with_endpoint_flags
from memberscope.cli.options import (
    Address,
    Backend,
    Design,
    Device,
    Jobs,
    KeepWeights,
    Members,
    Model,
    ModelTimeout,
    NonMembers,
    Outputs,
    Population,
    Precision,
    Recipe,
    References,
    ReferenceSize,
    Restrict,
    Restrictions,
    SearchQueries,
    Signals,
    Targets,
    TrustCode,
    TrustTypes,
    Unit,
    Views,
    merged,
    rates,
    words,
)

if TYPE_CHECKING:
    from memberscope.auditing import Plan, Subject, Training


@with_endpoint_flags
def plan(
    config: Annotated[Path | None, typer.Argument(help="audit.toml; flags override it.")] = None,
    model: Model = None,
    factory: Annotated[str | None, typer.Option(help="module:function that builds the torch module.")] = None,
    device: Device = None,
    outputs: Outputs = None,
    signals: Signals = None,
    members: Members = None,
    non_members: NonMembers = None,
    label: Annotated[str | None, typer.Option(help="Label column (y).")] = None,
    id: Annotated[str | None, typer.Option(help="Id column.")] = None,
    groups: Annotated[str | None, typer.Option(help="Comma-separated columns to report by.")] = None,
    unit: Unit = None,
    features: Annotated[str | None, typer.Option(help="Feature columns (all).")] = None,
    drop: Annotated[str | None, typer.Option(help="Columns that the model does not get.")] = None,
    recipe: Recipe = None,
    references: References = None,
    targets: Targets = None,
    reference_size: ReferenceSize = None,
    design: Design = None,
    keep_weights: KeepWeights = None,
    precision: Precision = None,
    views: Views = None,
    population: Population = None,
    backend: Backend = None,
    address: Address = None,
    jobs: Jobs = None,
    model_timeout: ModelTimeout = None,
    measure: Annotated[bool, typer.Option("--measure", help="Train one reference model to see how long it takes.")] = False,
    access: Annotated[str | None, typer.Option(help="label, probabilities, logits or white_box.")] = None,
    restrict: Restrict = None,
    restrictions: Restrictions = None,
    query_budget: Annotated[int | None, typer.Option(help="Queries per record.")] = None,
    search_queries: SearchQueries = None,
    fpr: Annotated[str | None, typer.Option(help="False-positive rates, such as 0.01,0.001.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of an earlier run (memberscope-out).")] = None,
    policy: Annotated[str | None, typer.Option(help="demo, standard, strict or a TOML file.")] = None,
    attacks: Annotated[str | None, typer.Option(help="Comma-separated attacks (all).")] = None,
    confidence: Annotated[float | None, typer.Option(help="Of every interval (0.95).")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice (0).")] = None,
    trust_code: TrustCode = None,
    trust_type: TrustTypes = None,
    **endpoint: Any,
) -> None:
    """Show which attacks will run and which will not and why, queries, minutes, bytes, smallest FPR and detectable TPR."""
    from memberscope.cli.options import plan_of, subject_of, training_of

    given = {
        **{"model": model, "factory": factory, "signals": signals, "members": members, "non_members": non_members},
        **{
            "label": label,
            "groups": words(groups),
            "unit": unit,
            "features": words(features),
            "access": access,
            "policy": policy,
        },
        **{"fprs": rates("fpr", fpr), "attacks": words(attacks)},
        **{"restrict": restrict, "restrictions": words(restrictions), "search_queries": search_queries},
        **{"recipe": recipe, "references": references, "targets": targets, "design": design, "out": out},
        **{
            "device": device,
            "outputs": outputs,
            "id": id,
            "drop": words(drop),
            "query_budget": query_budget,
            "confidence": confidence,
            "seed": seed,
        },
        **{"reference_size": reference_size, "keep_weights": keep_weights, "views": words(views), "jobs": jobs},
        **{"population": population, "backend": backend, "address": address},
        **{
            "model_timeout": model_timeout,
            "precision": precision,
            "trust_code": trust_code,
            "trust_types": tuple(trust_type) if trust_type else None,
        },
    }
    options = merged(config, given | endpoint)
    subject = subject_of(options)
    signals_left = Path(options.out or "memberscope-out") / "signals"
    for line in preview(plan_of(options), subject, training_of(options, subject), measure=measure, left=signals_left):
        typer.echo(line)


def preview(
    plan: Plan, subject: Subject, training: Training | None = None, *, measure: bool = False, left: Path | None = None
) -> list[str]:
    """The dry run in lines; the model is not asked, and one reference model is trained only to `measure` its time.

    `left` is the folder where an earlier run may have left answers and models.

    Raises:
        InputError: The records do not resolve a rate that was asked for.
    """
    from memberscope.auditing.forecast import forecast
    from memberscope.signals import Store

    found = forecast(plan, subject, training, Store(left) if left is not None else None)
    lines = [f"note     {sentence}" for sentence in found.notes]
    lines += [f"runs     {attack} at {access}" for attack, access in found.runs]
    lines += [f"not run  {entry.attack}: {entry.why}" for entry in found.not_run]
    further = f" and {found.targets} further targets" if found.targets else ""
    lines += [
        f"records  {found.n_members} members, {found.n_non_members} non-members",
        f"models   {found.models} references{further}: {found.standing.stored} stored, {found.standing.kept} to ask again from "
        f"kept weights, {found.standing.to_train} to train"
        f"{model_minutes(plan, subject, training, found.standing.to_train, measure=measure)}",
        f"queries  {found.queries} (one a record and view, and up to 32 asked twice)",
        *requests_planned(subject.target, found.queries),
        f"time     about {found.minutes:.1f} minutes on two cores, besides the model's own",
        f"disk     about {found.megabytes:.1f} MB, and {found.model_megabytes:.1f} MB of reference signals",
        f"smallest FPR that the hold-out resolves: {found.smallest_fpr:.4g}",
    ]
    for fpr, limit, tpr in found.detectable:
        seen = "nothing" if tpr is None else f"a TPR of {tpr:.3g} or more"
        lines.append(f"power    at FPR {fpr:g}: against a limit of {limit:g} it would fail, in 80% of audits, on {seen}")
    return lines


def model_minutes(plan: Plan, subject: Subject, training: Training | None, models: int, *, measure: bool) -> str:
    """How long training will take, from one batch of models trained here, as the end of a sentence."""
    import os

    if training is None or not models:
        return ""
    if not measure:
        return " (--measure trains one to see how long they take)"
    from memberscope.auditing.forecast import seconds_a_model

    seconds, jobs = seconds_a_model(plan, subject, training), training.execution.n_jobs
    at_once = (os.cpu_count() or 1) if jobs < 0 else max(jobs, 1)
    return f"; {seconds:.1f} s a model on one core, about {seconds * models / at_once / 60:.1f} minutes on {at_once} cores here"
