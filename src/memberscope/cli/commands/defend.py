"""`memberscope defend`: train with each defence, attack with an adversary who does the same.

And show what each buys and costs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memberscope.cli.options.build import merge_options
from memberscope.cli.options.flags import (
    add_flags,
    declare_judging_flags,
    declare_record_flags,
    declare_training_flags,
)
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing.defend import Frontier
    from memberscope.cli.options.keys import Options

USUAL = (
    "l2:0.001",
    "dropout:0.5",
    "early_stopping",
    "relaxloss:1",
    "hamp:0.5:0.001+hamp_output",
    "memguard:1",
    "top:1",
    "label",
)
OWN = ("depth:2|4|8", "leaf_size:10|50", "top:1", "label")
# Records for each canary of a kind, where their number is not given: about an eighth of the
# training data
SHARED = 30
Defences = Annotated[
    str | None,
    typer.Option(help="Comma-separated: l2:0.001,dropout:0.5,dpsgd:eps=8,memguard:1,depth:2|4."),
]
Canaries = Annotated[
    int | None,
    typer.Option(help="Worst-case records of each kind to insert (up to 240; 0 for none)."),
]


@add_flags(declare_record_flags, declare_training_flags, declare_judging_flags)
def compare_defences(
    config: Annotated[Path | None, typer.Argument(help="audit.toml; flags override it.")] = None,
    defences: Defences = None,
    canaries: Canaries = None,
    prior: Annotated[
        float | None, typer.Option(help="Share of members among the records tried (0.01).")
    ] = None,
    attacks: Annotated[
        str | None,
        typer.Option(help="Comma-separated attacks (those that seldom win are left out)."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Output folder (memberscope-defend).")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another sweep's frontier.")
    ] = False,
    **given: Any,
) -> None:
    """Compare defences: exit 0 if some choice meets the policy (or there is none), 1 if none does.

    3 if that is open.
    """
    own = {
        "defences": defences,
        "canaries": canaries,
        "prior": prior,
        "attacks": attacks,
        "out": out,
    }
    frontier = _run_defend(merge_options(config, given | own), overwrite=overwrite)
    raise typer.Exit(_exit_of_frontier(frontier))


def _run_defend(options: Options, *, overwrite: bool = False) -> Frontier:
    """Run the sweep that the options describe, write its folder and print the summary.

    Raises:
        InputError: There is no recipe, the options or the data are not usable, or the folder holds
    another sweep.
    """
    from dataclasses import replace

    from rich.console import Console

    from memberscope._files import write_bytes
    from memberscope.auditing import name_audit_folder
    from memberscope.auditing.defend import SEARCHED, SweepOptions, list_sweep_attacks
    from memberscope.auditing.defend import sweep_defences as swept
    from memberscope.cli.options.build import build_plan, build_subject, build_training
    from memberscope.cli.run_audit import build_audit_identity, refuse_other_result, show_progress
    from memberscope.outputs import name_fitted_file, save_fitted
    from memberscope.reports import print_frontier, write_all, write_frontier
    from memberscope.signals import Store

    if options.recipe is None:
        raise InputError(
            "Expected a recipe to train defended models, got none. Add --recipe module:function."
        )
    named = options.attacks
    options = replace(
        options,
        search_queries=SEARCHED if options.search_queries is None else options.search_queries,
    )
    plan, subject = build_plan(options), build_subject(options)
    if named is None:
        plan = replace(plan, attacks=list_sweep_attacks(plan.threat.access, plan.policy))
    training = build_training(options, subject)
    assert training is not None
    names = options.defences or _choose_defences(training.recipe)
    some = min(240, len(subject.records) // SHARED)
    wish = SweepOptions(names, some if options.canaries is None else options.canaries)
    out, console = Path(options.out or "memberscope-defend"), Console()
    mark = build_audit_identity(plan, subject, training) | {
        "defences": list(names),
        "canaries": wish.canaries,
    }
    refuse_other_result(out, mark, overwrite=overwrite, file="frontier.json")

    def kept(name: str, result: Any) -> None:
        write_all(result, out / name_audit_folder(name))
        console.print(
            f"{name}: {result.cost.models_trained} models, report in "
            f"{out / name_audit_folder(name)}/",
            soft_wrap=True,
        )

    def fitted(name: str, defence: Any) -> None:
        save_fitted([defence], out / name_fitted_file(name))
        console.print(
            f"{name}: what it fitted to its own model in {out / name_fitted_file(name)}",
            soft_wrap=True,
        )

    wish = replace(wish, kept=kept, fitted=fitted)
    with show_progress(console) as report:
        frontier = swept(
            plan, subject, training, wish, store=Store(out / "signals"), progress=report
        )
    write_bytes(out / "plan.json", (json.dumps(mark, indent=1, sort_keys=True) + "\n").encode())
    write_frontier(frontier, out)
    print_frontier(frontier, console, out)
    return frontier


def _choose_defences(recipe: Any) -> tuple[str, ...]:
    """Defences to try where none are named: those that the recipe can have."""
    from memberscope.recipes import SklearnRecipe, TorchRecipe

    if isinstance(recipe, TorchRecipe):
        return USUAL
    if isinstance(recipe, SklearnRecipe):
        return tuple(name for name in OWN if _is_applicable(name, recipe)) or ("top:1", "label")
    return ("memguard:1", "top:1", "label")


def _is_applicable(name: str, recipe: Any) -> bool:
    """Whether the recipe has what a defence of this name changes."""
    from memberscope.defences import expand_sweep, parse_defence

    try:
        for single in expand_sweep((name,)):
            parse_defence(single).recipe(recipe)
    except InputError:
        return False
    return True


def _exit_of_frontier(frontier: Frontier) -> int:
    """0 if a choice meets the policy or there is none, 1 if every choice breaks it.

    3 if that is open or something did not run.
    """
    if any(row.meets == "meets" for row in frontier.rows):
        return 0
    missing = any(row.why_not is not None for row in frontier.rows)
    if frontier.policy is None:
        return 3 if missing else 0
    return (
        3
        if missing or any(row.meets in ("undecided", "not measured") for row in frontier.rows)
        else 1
    )
