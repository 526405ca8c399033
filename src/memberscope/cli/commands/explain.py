"""`memberscope explain`: a finding, an attack, a record, a common question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def print_explanation(
    topic: Annotated[
        str | None,
        typer.Argument(help="A question, attack, control, metric or verdict; or a record's id."),
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(help="The folder of an audit: explains its findings, or a record of it."),
    ] = None,
) -> None:
    """Explain a topic in a few lines, each with a command that shows it.

    Without one, list the topics.
    """
    from memberscope.reports import explain as answer
    from memberscope.reports import explain_record, list_topics, read_arrays, read_result

    if result is not None:
        found = read_result(result)
        if topic is None:
            for finding in found.findings:
                typer.echo(
                    f"{finding.verdict}: {finding.claim}\n  Rule: {finding.rule}\n  Do: "
                    f"{finding.advice}"
                )
            if not found.findings:
                typer.echo(found.reason)
        else:
            typer.echo(explain_record(read_arrays(result), topic, found.plan["threat"]["prior"]))
        return
    typer.echo(answer(topic) if topic else "Topics: " + ", ".join(list_topics()))
