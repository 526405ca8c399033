"""Build the tables of what was judged, what did not run, and the standards that this bears on."""

from __future__ import annotations

from memberscope.auditing import STRONGEST, Result, WaivedFinding
from memberscope.reports.page.standards_annex import read_standards
from memberscope.reports.page.table import Cell, Table, format_measured
from memberscope.reports.select import group_partial_attacks, group_skipped_attacks
from memberscope.reports.waived_findings import advise_on_finding, name_outcome
from memberscope.types import Finding


def build_finding_table(result: Result) -> Table | None:
    """Build the table of findings, claims and what did not pass open; None without a policy."""
    if not result.findings:
        return None
    # Controls that passed stand among the controls, too, so they are folded here
    first = [entry for entry in result.findings if _is_open(entry)]
    rest = [entry for entry in result.findings if not _is_open(entry)]
    rows = []
    for entry in (*first, *rest):
        number = entry.estimate
        rows.append(
            (
                entry.claim,
                Cell(name_outcome(entry), tag=_choose_tag(entry)),
                Cell("" if number is None else format_measured(number), note=entry.rule),
                advise_on_finding(entry, result),
            )
        )
    head = ("claim", "verdict", "measured, and the rule", "what to do")
    return Table("What was judged, and how", head, rows, len(first))


def _choose_tag(entry: Finding) -> str:
    """Choose the colour of an outcome; what is waived looks as what is open."""
    return "inconclusive" if isinstance(entry, WaivedFinding) else entry.verdict.lower()


def _is_open(entry: Finding) -> bool:
    """Tell whether a finding is shown at once."""
    return entry.attack == STRONGEST or entry.verdict != "PASS"


def build_missing_table(result: Result) -> Table | None:
    """Build the table of attacks that did not run, with reasons; None if everything ran."""
    return _build_reason_table("What did not run, and why", group_skipped_attacks(result))


def build_partial_table(result: Result) -> Table | None:
    """Build the table of attacks that ran, but not at every level, rate or model; or None."""
    caption = "What ran, but not at every level of access, rate or model"
    return _build_reason_table(caption, group_partial_attacks(result))


def _build_reason_table(caption: str, found: list[tuple[str, str, str]]) -> Table | None:
    """Build a table of attacks with reasons; None without any."""
    rows = [(names, access.replace("_", " "), why) for names, access, why in found]
    return Table(caption, ("attacks", "level of access", "why"), rows, 0) if rows else None


def build_standard_table() -> Table:
    """Build the table of standards that the evidence may bear on."""
    return Table(
        "Standards that this evidence may bear on",
        ("standard", "title", "words of the source", "what this audit has to do with it"),
        [
            (
                entry["id"],
                f"{entry['title']} ({entry['version']})",
                f"“{entry['quote']}”",
                entry["bears"],
            )
            for entry in read_standards()
        ],
        0,
    )
