"""Run or resume an audit from options, show its progress, and write its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.cli.options.table import choose_out_folder

if TYPE_CHECKING:
    from memberscope.auditing import Plan, Result, Subject, Training
    from memberscope.cli.options.table import Options


def audit_from_options(options: Options) -> Result:
    """Audit what the options name, show progress, write the folder and print the summary.

    Raises:
        InputError: The options or the data are not usable, or the folder holds the result of
            another audit.
    """
    plan, subject, training = build_audit(options)
    return audit_into_folder(
        plan,
        subject,
        choose_out_folder(options, "audit"),
        training=training,
        records=not options.no_records,
        show_ids=bool(options.show_ids),
        overwrite=bool(options.overwrite),
        arguments=_find_typed_arguments(),
    )


def build_audit(options: Options) -> tuple[Plan, Subject, Training | None]:
    """Build what the options describe; the plan's title is the target's name if they have none.

    Raises:
        InputError: The options or the data are not usable.
    """
    from dataclasses import replace

    from memberscope.cli.options.build import build_plan, build_subject, build_training
    from memberscope.cli.options.endpoint import name_endpoint

    plan, subject = build_plan(options), build_subject(options)
    if options.title is None:
        name = Path(options.signals or options.model or name_endpoint(options)).name
        plan = replace(plan, title=name)
    return plan, subject, build_training(options, subject)


def _find_typed_arguments() -> Callable[[str], str] | None:
    """Find what was typed after `audit`, as another verb takes it.

    None where the command line was another.
    """
    import sys

    from memberscope.cli.options.arguments import quote_shared_arguments

    if sys.argv[1:2] != ["audit"]:
        return None
    return lambda verb: quote_shared_arguments(sys.argv[2:], verb)


def audit_into_folder(
    plan: Plan,
    subject: Subject,
    out: Path,
    *,
    training: Training | None = None,
    records: bool = True,
    show_ids: bool = False,
    overwrite: bool = False,
    arguments: Callable[[str], str] | None = None,
) -> Result:
    """Run `plan` on `subject` into the folder `out`, with progress bars, reports and a summary.

    What an earlier run of the same audit left there is used.
    """
    from rich.console import Console

    from memberscope.auditing import resume_audit
    from memberscope.facts import read_target_facts
    from memberscope.reports import print_summary, show_progress, write_all

    console = Console()
    with show_progress(console) as report:
        result = resume_audit(
            plan, subject, out, training=training, overwrite=overwrite, progress=report
        )
    write_all(result, out, records=records, show_ids=show_ids)
    print_summary(result, console, out, arguments)
    spend = read_target_facts(subject.target).spent
    if spend is not None:
        spent = spend()
        if spent.sent > spent.answered:
            console.print(
                f"The endpoint was sent {spent.sent} records for {spent.answered} answers; the "
                "ledger has both."
            )
    return result
