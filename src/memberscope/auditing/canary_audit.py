"""Train once with canaries that coins put in or left out, and bound epsilon by their scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.attacks import find_attacks
from memberscope.auditing.collect.collect import Progress
from memberscope.auditing.documents.plan import Plan, fit_plan_to_task
from memberscope.auditing.documents.result import Result
from memberscope.auditing.estimates.epsilon_bounds import EpsilonBound, compute_privacy_bounds
from memberscope.auditing.resume import resume_audit
from memberscope.auditing.subject.outputs import make_subject_by_task
from memberscope.auditing.subject.subject import Subject
from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts, read_target_facts
from memberscope.frames import stack_sides
from memberscope.recipes import Proof, TorchRecipe, draw_canaries
from memberscope.recipes.fleet import select_records, train_models
from memberscope.recipes.torch import find_linear_layers, train_and_score_canaries
from memberscope.targets import wrap
from memberscope.types import Bools, Floats, Recipe, Records, Target

FEWEST_CANARIES = 20
# The attack whose scores bound epsilon is fixed beforehand: the first of these that ran.
BOUNDING_ATTACKS = ("logit", "boundary", "gap", "prediction_error", "label_loss")
DEFAULT_DELTA = 1e-5
FORMAT = "memberscope-canaries/1"


@dataclass(frozen=True, eq=False)
class CanaryDesign:
    """One training run with canaries, before it is made.

    `planted` are the canaries (n) and `inside` (n,) those that a coin put into the training data,
    beside `members`. `proof` is what accounting proves of a recipe that is private.
    """

    plan: Plan
    recipe: Recipe
    members: Records
    planted: Records
    inside: Bools
    class_names: tuple[str, ...]
    proof: Proof | None = None

    def build_subject(self, target: Target) -> Subject:
        """Build what is audited: `target`, with canaries that are in against those that are out."""
        return make_subject_by_task(
            target,
            select_records(self.planted, self.inside),
            select_records(self.planted, ~self.inside),
            class_names=self.class_names,
        )


@dataclass(frozen=True, eq=False)
class CanaryOutcome:
    """What an audit with canaries found: its result, and bounds on epsilon by who could find them.

    `proof` is what accounting proves of the recipe, None where it is not private.
    """

    result: Result
    bounds: dict[str, list[EpsilonBound]]
    proof: Proof | None

    def list_bounds(self) -> list[EpsilonBound]:
        """List the bounds of every adversary."""
        return [bound for found in self.bounds.values() for bound in found]

    def build_document(self) -> dict[str, object]:
        """Build the content of canaries.json."""
        return {
            "format": FORMAT,
            "proven": None if self.proof is None else asdict(self.proof),
            "bounds": {
                who: [asdict(bound) for bound in found] for who, found in self.bounds.items()
            },
        }


def design_canary_audit(
    plan: Plan, subject: Subject, recipe: Recipe, n: int, kind: Any = "mislabelled"
) -> CanaryDesign:
    """Draw `n` canaries among the non-members of `subject` and flip their coins.

    Args:
        plan: What is run; its attacks must include one that can bound epsilon.
        subject: The members to train on, and the non-members to draw from.
        recipe: How the model is trained.
        n: Canaries to draw, at least 20.
        kind: `natural`, or `mislabelled` for the worst case.

    Raises:
        InputError: There are too few canaries or non-members, or no attack can bound epsilon.
    """
    plan = fit_plan_to_task(plan, read_target_facts(subject.target).task)
    able = [one.name for one in find_attacks(BOUNDING_ATTACKS) if plan.task in one.needs.tasks]
    if n < FEWEST_CANARIES or not set(able) & set(plan.attacks):
        raise InputError(
            f"Expected at least {FEWEST_CANARIES} canaries and an attack among "
            f"{', '.join(able)}, got {n} and {', '.join(plan.attacks)}. Change "
            "--canaries or --attacks."
        )
    members = select_records(subject.records, subject.member)
    others = select_records(subject.records, ~subject.member)
    planted, inside = draw_canaries(others, n, kind, plan.seed, subject.target.n_classes)
    prove = read_recipe_facts(recipe).proof
    # Each canary has a coin of its own, whomever it belongs to: units do not count here.
    coins = replace(plan, assignment="independent_coins", assume_class_order=True, unit=None)
    return CanaryDesign(
        coins,
        recipe,
        members,
        planted,
        inside,
        subject.class_names,
        None if prove is None else prove(len(members) + int(inside.sum())),
    )


def run_canary_audit(
    design: CanaryDesign, out: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> CanaryOutcome:
    """Train on the members and the canaries that are in, and audit canaries in against out.

    Where the recipe is private and its network fully connected, the canaries are also scored on the
    updates of the training, as an adversary who sees all of them could.

    Raises:
        InputError: The folder `out` holds the result of another audit.
    """
    target, watched = _train_with_canaries(design)
    subject = design.build_subject(target)
    # The same path as any audit, so that the result can be read and verified like one
    result = resume_audit(design.plan, subject, out, overwrite=overwrite, progress=progress)
    delta = DEFAULT_DELTA if design.proof is None else design.proof.delta
    bounds = _collect_bounds(result, watched, design.inside, delta, design.plan.confidence)
    return CanaryOutcome(result, bounds, design.proof)


def is_refuted(bounds: list[EpsilonBound], claimed: float) -> bool:
    """Tell whether a bound that assumes nothing but privacy exceeds the claimed epsilon.

    The f-DP form holds for mechanisms like the Gaussian one alone, so it does not count here.
    """
    return any(bound.epsilon > claimed for bound in bounds if bound.form == "one_run")


def _train_with_canaries(design: CanaryDesign) -> tuple[Any, Floats | None]:
    """Train the model; score the canaries (n,) on its updates where those can be watched."""
    recipe, inside = design.recipe, design.inside
    seed = design.plan.seed
    # Updates can be watched of fully connected networks alone
    if (
        isinstance(recipe, TorchRecipe)
        and recipe.privacy is not None
        and find_linear_layers(recipe.built()) is not None
    ):
        model, scores = train_and_score_canaries(
            replace(recipe, engine="matrices"), design.members, design.planted, inside, seed
        )
        return wrap(model), scores
    union = _concatenate_records(design.members, select_records(design.planted, inside))
    everything = np.ones((1, len(union)), dtype=bool)
    return train_models(recipe, union, everything, [seed], design.plan.task)[0], None


def _concatenate_records(first: Records, second: Records) -> Records:
    """Put the records of both one after the other."""
    ids = np.concatenate([first.ids, second.ids])
    return Records(stack_sides(first.x, second.x), np.concatenate([first.y, second.y]), ids)


def _collect_bounds(
    result: Result, watched: Floats | None, inside: Bools, delta: float, confidence: float
) -> dict[str, list[EpsilonBound]]:
    """Compute the bounds by who could have found them, each at its share of the significance."""
    assert result.arrays is not None
    # Two adversaries are told together, so each gets half of the significance
    confidence = confidence if watched is None else 1 - (1 - confidence) / 2
    # The highest level of each attack comes last; learned attacks saw memberships of others
    usable = {
        entry.attack: entry
        for entry in result.arrays.scored
        if not entry.learned and entry.declared
    }
    attack = next(name for name in BOUNDING_ATTACKS if name in usable)
    scores, member = usable[attack].scores, result.arrays.member
    found = {f"black box ({attack})": compute_privacy_bounds(scores, member, delta, confidence)}
    if watched is not None:
        found["white box (all updates)"] = compute_privacy_bounds(
            watched, inside, delta, confidence
        )
    return found
