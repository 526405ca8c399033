"""`memberscope explain`: a finding, an attack, a record, a common question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.choices import TOPICS
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line


@dataclass(frozen=True)
class ExplainOptions:
    """The options of `explain`."""

    topic: str | None = add_argument(
        "A question, attack, control, metric or verdict; or a record's id.",
        default=None,
        choices=TOPICS,
    )
    result: Path | None = add_option(
        "The folder of an audit: explains its findings, or a record of it.", default=None
    )


@take_options(ExplainOptions)
def print_explanation(options: ExplainOptions) -> None:
    """Explain a topic in a few lines, each with a command that shows it.

    Without one, list the topics.
    """
    from memberscope.reports import explain as answer
    from memberscope.reports import (
        explain_record,
        list_topics,
        read_arrays,
        read_result,
        write_advice,
    )

    topic, result = options.topic, options.result
    if result is not None:
        found = read_result(result)
        if topic is None:
            for finding in found.findings:
                print_line(
                    f"{finding.verdict}: {finding.claim}\n  Rule: {finding.rule}\n  Do: "
                    f"{write_advice(finding, found)}"
                )
            if not found.findings:
                print_line(found.reason)
        else:
            print_line(explain_record(read_arrays(result), topic, found.plan.threat.prior))
        return
    print_line(answer(topic) if topic else "Topics: " + ", ".join(list_topics()))
