"""`memberscope audit`: run or resume an audit and write its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memberscope.cli.exits import PASSED, exit_of_verdict
from memberscope.cli.options.build import merge_options
from memberscope.cli.options.flags import (
    AcceptLimited,
    add_flags,
    declare_audit_flags,
    declare_endpoint_flags,
    declare_judging_flags,
    declare_record_flags,
    declare_training_flags,
)
from memberscope.cli.run_audit import audit_from_options
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.cli.options.keys import Options


@add_flags(
    declare_record_flags,
    declare_training_flags,
    declare_judging_flags,
    declare_audit_flags,
    declare_endpoint_flags,
)
def audit_model(
    config: Annotated[Path | None, typer.Argument(help="audit.toml; flags override it.")] = None,
    prior: Annotated[
        float | None, typer.Option(help="Share of members among the records tried (0.01).")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-fitting folds (5).")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    out: Annotated[str | None, typer.Option(help="Output folder (memberscope-out).")] = None,
    assume_exchangeable: Annotated[
        bool | None, typer.Option("--assume-exchangeable", help="Declare the split random.")
    ] = None,
    assume_class_order: Annotated[
        bool | None, typer.Option("--assume-class-order", help="Declare the classes' order right.")
    ] = None,
    coins: Annotated[
        bool | None, typer.Option("--coins", help="Declare that fair coins decided membership.")
    ] = None,
    drop_overlap: Annotated[
        bool | None, typer.Option("--drop-overlap", help="Leave out duplicates of members.")
    ] = None,
    accept_limited: AcceptLimited = None,
    no_records: Annotated[
        bool, typer.Option("--no-records", help="Write no ids and no records.csv.")
    ] = False,
    show_ids: Annotated[
        bool, typer.Option("--show-ids", help="Show ids in the report instead of hashes.")
    ] = False,
    canaries: Annotated[
        int | None,
        typer.Option(help="Train by the recipe with so many canaries and bound epsilon."),
    ] = None,
    canary_kind: Annotated[
        str, typer.Option(help="natural, or mislabelled: the worst case.")
    ] = "mislabelled",
    claimed: Annotated[
        float | None,
        typer.Option(help="Epsilon claimed (what the recipe proves); exit 1 if refuted."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another plan's result.")
    ] = False,
    **given: Any,
) -> None:
    """Audit a model, or stored signals, and write result.json, report.html.

    Records.csv and arrays.safetensors.
    """
    own = {
        **{
            "prior": prior,
            "folds": folds,
            "title": title,
            "out": out,
            "drop_overlap": drop_overlap,
            "coins": coins,
        },
        **{"assume_exchangeable": assume_exchangeable, "assume_class_order": assume_class_order},
        "accept_limited": accept_limited,
    }
    options = merge_options(config, given | own)
    if canaries is not None or claimed is not None:
        raise typer.Exit(
            _run_canaries_for_exit(options, canaries, canary_kind, claimed, overwrite=overwrite)
        )
    result = audit_from_options(
        options, records=not no_records, show_ids=show_ids, overwrite=overwrite
    )
    if result.verdict is None:
        raise typer.Exit(PASSED)
    accepted = bool(options.accept_limited)
    raise typer.Exit(
        exit_of_verdict(result.verdict, limited=result.limited, accept_limited=accepted)
    )


def _run_canaries_for_exit(
    options: Options, m: int | None, kind: str, claimed: float | None, *, overwrite: bool
) -> int:
    """The exit code of an audit with canaries: 1 if they refute a claim.

    Raises:
        InputError: There are none.
    """
    from memberscope.cli.commands.audit_canaries import run_canaries

    if m is None:
        raise InputError(
            "Expected --canaries with --claimed, got none. Add --canaries 1000, or leave out "
            "--claimed."
        )
    return int(run_canaries(options, m, kind, claimed, overwrite=overwrite))
