"""Run or resume an audit from options, show its progress, and write its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope._files import keep_out_of_git
from memberscope.cli.history.keep import choose_history, keep_audit
from memberscope.cli.options.lookup import choose_out_folder
from memberscope.cli.output import print_error, print_line

Progress = Callable[[str, int, int], None]
NO_PLACE: Mapping[str, str] = {}

if TYPE_CHECKING:
    from memberscope.auditing import Plan, Result, Subject, Training
    from memberscope.cli.options.table import Options
    from memberscope.reports.history import Kind


def audit_from_options(options: Options) -> Result:
    """Audit what the options name, show progress, write the folder and print the summary.

    Raises:
        InputError: The options or the data are not usable, or the folder holds the result of
            another audit.
    """
    from memberscope.cli.options.configuration import describe_model_place

    # Read before the audit, since the file may have changed or gone when it ends
    place = describe_model_place(options)
    plan, subject, training = build_audit(options)
    if (missing := find_missing_declaration(plan, subject)) is not None:
        print_line(missing)
    return audit_into_folder(
        plan,
        subject,
        choose_out_folder(options, "audit"),
        training=training,
        records=not options.no_records,
        show_ids=bool(options.show_ids),
        overwrite=bool(options.overwrite),
        place=place,
        arguments=_find_typed_arguments(),
        verbose=bool(options.verbose),
        history=choose_history(options),
    )


def build_audit(options: Options) -> tuple[Plan, Subject, Training | None]:
    """Build what the options describe; the plan's title is the target's name if they have none.

    Raises:
        InputError: The options or the data are not usable.
    """
    from dataclasses import replace

    from memberscope.auditing import fit_plan_to_task
    from memberscope.cli.options.build import build_plan, build_subject, build_training
    from memberscope.cli.options.endpoint import name_endpoint
    from memberscope.facts import read_target_facts

    subject = build_subject(options)
    plan = fit_plan_to_task(build_plan(options), read_target_facts(subject.target).task)
    if options.title is None:
        name = Path(options.signals or options.model or name_endpoint(options)).name
        plan = replace(plan, title=name)
    return plan, subject, build_training(options, subject)


def find_missing_declaration(plan: Plan, subject: Subject) -> str | None:
    """Say which flag lets signals without features pass or fail, before anything is measured."""
    # Records that cannot be looked at cannot show that the split was random
    if plan.policy is None or plan.assume_exchangeable or subject.features is not None:
        return None
    from memberscope.facts import read_target_facts

    # Texts beside stored tokens are looked at as features are
    if subject.list_texts() is not None:
        return None
    if not read_target_facts(subject.target).stored:
        return None
    return (
        "Signals without features cannot show that members and non-members were split at random, so "
        "the verdict will be INCONCLUSIVE. Add --assume-exchangeable if they were, or name the "
        "columns of the records with --features: then the policy can pass or fail."
    )


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
    place: Mapping[str, str] = NO_PLACE,
    arguments: Callable[[str], str] | None = None,
    verbose: bool = False,
    history: Path | None = None,
    kind: Kind = "audit",
) -> Result:
    """Run `plan` on `subject` into the folder `out`, with progress bars, reports and a summary.

    What an earlier run of the same audit left there is used. `place` says where a configuration names
    the model, for the environment of the result. The audit is appended to the file `history`, unless
    that is None.
    """
    from rich.console import Console

    from memberscope.auditing import resume_audit
    from memberscope.facts import read_target_facts
    from memberscope.reports import print_summary, show_progress, write_all

    console = Console()
    with keep_out_of_git(out):
        with show_progress(console) as report, _tell_what_is_kept(report, out) as follow:
            result = resume_audit(
                plan, subject, out, training=training, overwrite=overwrite, progress=follow
            )
        # The environment is what may differ between two runs of the same audit
        result = result.model_copy(update={"environment": {**result.environment, **place}})
        write_all(result, out, records=records, show_ids=show_ids, arguments=arguments)
    keep_audit(result, out, history, kind=kind)
    print_summary(result, console, out, arguments, verbose=verbose)
    spend = read_target_facts(subject.target).spent
    if spend is not None:
        spent = spend()
        if spent.sent > spent.answered:
            console.print(
                f"The endpoint was sent {spent.sent} records for {spent.answered} answers; the "
                "ledger has both."
            )
    return result


@contextmanager
def _tell_what_is_kept(report: Progress, out: Path) -> Iterator[Progress]:
    """Give a callback that reports on, and say how far the audit came if it is interrupted."""
    from memberscope.reports import name_stage

    reached = ""

    def follow(stage: str, done: int, total: int) -> None:
        nonlocal reached
        report(stage, done, total)
        if not stage.startswith("note: "):
            reached = f"{name_stage(stage)}, {done} of {total}"

    try:
        yield follow
    except KeyboardInterrupt:
        if reached:
            print_error(f"Stopped at: {reached}. What was finished is kept in {out}.")
        raise
