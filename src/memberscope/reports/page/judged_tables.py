"""Build the tables of what was judged, what did not run, and the standards that this bears on."""

from __future__ import annotations

from memberscope.auditing import Result
from memberscope.reports.page.standards_annex import read_standards
from memberscope.reports.page.table import Cell, Table, format_measured
from memberscope.reports.select import group_skipped_attacks



def build_finding_table(result: Result) -> Table | None:
    """Build the table of findings: claims first, then controls; None without a policy."""
    if not result.findings:
        return None
    rows = []
    for entry in result.findings:
        number = entry.estimate
        measured = "" if number is None else format_measured(number)
        rows.append(
            (
                Cell(entry.claim),
                Cell(entry.verdict, tag=entry.verdict.lower()),
                Cell(measured, note=entry.rule),
                entry.advice,
            )
        )
    return Table("What was judged, and how", ("claim", "verdict", "measured", "what to do"), rows)


def build_missing_table(result: Result) -> Table | None:
    """Build the table of attacks that did not run, with reasons; None if everything ran."""
    rows = [
        (names, access.replace("_", " "), why)
        for names, access, why in group_skipped_attacks(result)
    ]
    if not rows:
        return None
    return Table("What did not run, and why", ("attacks", "level of access", "why"), rows, 0)


def build_standard_table() -> Table:
    """Build the table of standards that the evidence may bear on."""
    return Table(
        "Standards that this evidence may bear on",
        ("standard", "title", "words of the source", "what this audit has to do with it"),
        [
            (entry["id"], f"{entry['title']} ({entry['version']})", f"“{entry['quote']}”", entry["bears"])
            for entry in read_standards()
        ],
        0,
    )
