"""Write the assessment annex: standards that bear on the audit, and a paragraph to paste.

It is worded as evidence.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from memberscope._text import format_percentage
from memberscope.auditing import Result
from memberscope.reports.page.statements import get_audit_date
from memberscope.reports.select import (
    describe_threat,
    find_headline,
    format_interval,
    list_detectable_leaks,
)


@cache
def read_standards() -> list[dict[str, str]]:
    """Read the entries of the data file, each with id, title, version, quote and what it bears on.

    >>> all(entry["status"] == "seen" for entry in read_standards())
    True
    """
    text = (files("memberscope.reports") / "standards.toml").read_text(encoding="utf-8")
    found: list[dict[str, str]] = tomllib.loads(text)["standard"]
    return found


def compose_annex_paragraph(result: Result) -> str:
    """Compose what the audit found, under which conditions, and what it cannot say."""
    found = result.diagnostics
    date = get_audit_date(result)
    when = f" on {date}" if date else ""
    best = find_headline(result)
    if best is None:
        return "No estimate could be made; nothing is said about this model."
    # The power at the rate that the paragraph speaks of
    detectable = next(
        (entry for entry, _ in list_detectable_leaks(result) if entry.fpr == best.fpr),
        None,
    )
    power = ""
    if detectable and detectable.tpr is not None:
        power = (
            f" An audit of this size fails a limit of {format_percentage(detectable.limit)} with a "
            f"probability of 80% if {format_percentage(detectable.tpr)} or more of the members can be "
            "found."
        )
    return (
        f"A membership inference audit of {result.title!r}{when} compared {found.n_members} "
        "training records with "
        f"{found.n_non_members} records that were not used for training. Threat model: "
        f"{describe_threat(result)} The strongest of the "
        f"attacks that ran found {format_interval(best)} of members at a false-positive rate of "
        f"{format_percentage(best.fpr)} "
        f"({format_percentage(best.confidence)} interval, which holds for all attacks at once).{power} "
        "Verdict: "
        f"{result.verdict or 'none (no policy was stated)'}{' (limited)' if result.limited else ''}. "
        "This is evidence about the attacks listed, on this model and these "
        "records; stronger attacks may exist, and it does not by itself establish compliance with "
        "any regulation."
    )
