"""Run or resume an audit from options, show its progress, and write its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Plan, Result, Subject, Training
    from memberscope.cli.options.keys import Options


def audit_from_options(
    options: Options, *, records: bool = True, show_ids: bool = False, overwrite: bool = False
) -> Result:
    """Audit what the options name, show progress, write the folder and print the summary.

    Raises:
        InputError: The options or the data are not usable, or the folder holds another plan's
    result.
    """
    from dataclasses import replace

    from memberscope.cli.options.build import build_plan, build_subject, build_training
    from memberscope.cli.options.endpoint import name_endpoint

    plan, subject = build_plan(options), build_subject(options)
    training = build_training(options, subject)
    if options.title is None:
        plan = replace(
            plan, title=Path(options.signals or options.model or name_endpoint(options)).name
        )
    out = Path(options.out or "memberscope-out")
    return audit_into_folder(
        plan,
        subject,
        out,
        training=training,
        records=records,
        show_ids=show_ids,
        overwrite=overwrite,
        arguments=_find_typed_arguments(),
    )


def _find_typed_arguments() -> Callable[[str], str] | None:
    """What was typed after `audit`, as another verb takes it.

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
    """Run `plan` on `subject` into the folder `out`.

    Resuming what an earlier run of the same plan left there.
    """
    from rich.console import Console

    from memberscope._files import write_bytes
    from memberscope.auditing import audit_subject
    from memberscope.reports import print_summary, write_all
    from memberscope.signals import Store

    console = Console()
    mark = build_audit_identity(plan, subject, training)
    refuse_other_result(out, mark, overwrite=overwrite)
    with show_progress(console) as report:
        result = audit_subject(
            plan, subject, training=training, store=Store(out / "signals"), progress=report
        )
    write_bytes(out / "plan.json", (json.dumps(mark, indent=1, sort_keys=True) + "\n").encode())
    write_all(result, out, records=records, show_ids=show_ids)
    print_summary(result, console, out, arguments)
    if hasattr(subject.target, "spent"):
        spent = subject.target.spent()
        if spent.sent > spent.answered:
            console.print(
                f"The endpoint was sent {spent.sent} records for {spent.answered} answers; the "
                "ledger has both."
            )
    return result


def build_audit_identity(
    plan: Plan, subject: Subject, training: Training | None = None
) -> dict[str, Any]:
    """What makes an audit the same one: plan, records, membership, model and recipe, by content."""
    from memberscope._digests import digest_array
    from memberscope.signals import digest_records

    mark: dict[str, Any] = {
        "plan": plan.digest(),
        "records": digest_records(subject.records),
        "member": digest_array(subject.member),
        **({} if subject.records.unit is None else {"unit": digest_array(subject.records.unit)}),
        "target": getattr(subject.target, "identity", subject.target.digest),
    }
    if training is not None:
        mark["recipe"] = getattr(training.recipe, "digest", None)
        mark["design"] = None if training.design is None else digest_array(training.design)
        mark["population"] = digest_records(training.population) if training.population else None
    return mark


def refuse_other_result(
    out: Path, mark: dict[str, Any], *, overwrite: bool, file: str = "result.json"
) -> None:
    """Refuse a folder that holds another plan's result.

    Raises:
        InputError: It does, and `overwrite` was not given.
    """
    if out.exists() and not out.is_dir():
        raise InputError(
            f"Expected a folder for --out, got the file {str(out)!r}. Choose another name."
        )
    if overwrite or not (out / file).exists():
        return
    try:
        before = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if before != mark:
        changed = (
            "an unknown plan"
            if before is None
            else ", ".join(
                name for name in {**mark, **before} if before.get(name) != mark.get(name)
            )
        )
        raise InputError(
            f"Expected an empty folder or the same audit in {str(out)!r}, got a result with "
            f"another {changed}. "
            f"Choose another --out, or add --overwrite."
        )


def show_progress(console: Any) -> Any:
    """A context that gives a callback (stage, done, total) and draws one bar a stage."""
    from contextlib import contextmanager

    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    words = {
        "query": "asking the model",
        "train": "training references",
        "train targets": "training targets",
        "attack": "attacking",
        "targets": "attacking targets",
        "defences": "defences",
        "estimate": "estimating",
        "control": "running controls",
    }

    @contextmanager
    def bars() -> Any:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            tasks: dict[str, Any] = {}

            def report(stage: str, done: int, total: int) -> None:
                if stage.startswith("note: "):
                    progress.console.print(stage.removeprefix("note: "), style="yellow")
                    return
                if stage not in tasks:
                    tasks[stage] = progress.add_task(words.get(stage, stage), total=total)
                progress.update(tasks[stage], completed=done, total=total)

            yield report

    return bars()
