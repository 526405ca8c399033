"""`memberscope audit --canaries`.

One training run with canaries that coins put in or left out, and what it proves about epsilon.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from memberscope.cli.commands.canaries import format_bound, report_refutation
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import EpsilonBound
    from memberscope.cli.options.keys import Options
    from memberscope.types import Bools, Floats, Recipe, Records

LEAST = 20
ATTACKS = (
    "logit",
    "boundary",
    "gap",
)  # the one whose scores bound epsilon, fixed beforehand: the first that ran
DELTA = 1e-5


def run_canaries(
    options: Options, m: int, kind: Any, claimed: float | None, *, overwrite: bool = False
) -> bool:
    """Train on the members and on the canaries that coins put in, audit in against out.

    And say what is proven; whether a claim fell.

    The canaries are drawn from the non-members. Where the recipe is private and its network fully
    connected, they are also scored on the updates of the training, as an adversary who sees all of
    them could.

    Raises:
        InputError: There is no recipe, or there are too few non-members.
    """
    from memberscope._files import write_bytes
    from memberscope.auditing import make_subject
    from memberscope.cli.options.build import build_plan, build_subject
    from memberscope.cli.run_audit import audit_into_folder
    from memberscope.recipes import draw_canaries, load_recipe, with_precision
    from memberscope.recipes.fleet import select_records

    if options.recipe is None:
        raise InputError(
            "Expected a recipe to train with canaries, got none. Add --recipe, or plant them: "
            "`memberscope canaries export`."
        )
    recipe = with_precision(load_recipe(options.recipe), options.precision)
    plan, subject = build_plan(options), build_subject(options)
    if m < LEAST or not set(ATTACKS) & set(plan.attacks):
        raise InputError(
            f"Expected at least {LEAST} canaries and an attack among {', '.join(ATTACKS)}, got {m} "
            f"and {', '.join(plan.attacks)}. Repair both."
        )
    proof = getattr(recipe, "proof", None)
    members, others = (
        select_records(subject.records, subject.member),
        select_records(subject.records, ~subject.member),
    )
    planted, inside = draw_canaries(others, m, kind, plan.seed, subject.target.n_classes)
    typer.echo(f"Training on {len(members)} members and {int(inside.sum())} of {m} canaries.")
    proven = None if proof is None else proof(len(members) + int(inside.sum()))
    target, watched = _train_with_canaries(recipe, members, planted, inside, plan.seed)
    plan = replace(
        plan,
        assignment="independent_coins",
        assume_class_order=True,
        title=options.title or f"{m} canaries",
    )
    plan = replace(plan, unit=None)  # each canary has a coin of its own, whomever it belongs to
    tested = make_subject(
        target,
        select_records(planted, inside),
        select_records(planted, ~inside),
        class_names=subject.class_names,
    )
    out = Path(options.out or "memberscope-canaries")
    result = audit_into_folder(plan, tested, out, overwrite=overwrite)
    bounds = _collect_bounds(
        result, watched, inside, DELTA if proven is None else proven.delta, plan.confidence
    )
    document = {
        "format": "memberscope-canaries/1",
        "proven": None if proven is None else asdict(proven),
        "bounds": {who: [asdict(bound) for bound in found] for who, found in bounds.items()},
    }
    write_bytes(out / "canaries.json", (json.dumps(document, indent=1) + "\n").encode())
    for who, found in bounds.items():
        for bound in found:
            typer.echo(f"{who}: {format_bound(bound)}")
    if proven is not None:
        typer.echo(f"Proven by accounting: epsilon {proven.epsilon:.3g} at delta {proven.delta:g}.")
    claim = claimed if claimed is not None else None if proven is None else proven.epsilon
    return claim is not None and report_refutation(
        [bound for found in bounds.values() for bound in found], claim
    )


def _train_with_canaries(
    recipe: Recipe, members: Records, planted: Records, inside: Bools, seed: int
) -> tuple[Any, Floats | None]:
    """The model, and scores (m,) of the canaries on its updates where those can be watched."""
    import numpy as np

    from memberscope.recipes import TorchRecipe
    from memberscope.recipes.fleet import select_records, train_models
    from memberscope.recipes.torch import find_linear_layers, train_and_score_canaries
    from memberscope.targets import wrap

    if (
        isinstance(recipe, TorchRecipe)
        and recipe.privacy is not None
        and find_linear_layers(recipe.built()) is not None
    ):
        model, scores = train_and_score_canaries(
            replace(recipe, engine="matrices"), members, planted, inside, seed
        )
        return wrap(model), scores
    union = _concatenate_records(members, select_records(planted, inside))
    return train_models(recipe, union, np.ones((1, len(union)), dtype=bool), [seed])[0], None


def _concatenate_records(first: Records, second: Records) -> Records:
    """Both, one after the other."""
    import numpy as np

    from memberscope.frames import stack_sides
    from memberscope.types import Records

    ids = np.concatenate([first.ids, second.ids])
    return Records(stack_sides(first.x, second.x), np.concatenate([first.y, second.y]), ids)


def _collect_bounds(
    result: Any, watched: Floats | None, inside: Bools, delta: float, confidence: float
) -> dict[str, list[EpsilonBound]]:
    """The bounds by who could have found them, each at its share of the significance."""
    from memberscope.auditing import compute_privacy_bounds

    confidence = confidence if watched is None else 1 - (1 - confidence) / 2

    usable = {
        entry.attack: entry
        for entry in result.arrays.scored
        if not entry.learned and entry.declared
    }
    attack = next(name for name in ATTACKS if name in usable)
    found = {
        f"black box ({attack})": compute_privacy_bounds(
            usable[attack].scores, result.arrays.member, delta, confidence
        )
    }
    if watched is not None:
        found["white box (all updates)"] = compute_privacy_bounds(
            watched, inside, delta, confidence
        )
    return found
