"""Name findings whose claim failed and is waived, as every page and format shows them."""

from __future__ import annotations

from memberscope.auditing import Result, WaivedFinding
from memberscope.types import Finding


def list_waived_findings(result: Result) -> list[WaivedFinding]:
    """List the findings that failed and are waived; only what a gate writes has some."""
    return [entry for entry in result.findings if isinstance(entry, WaivedFinding)]


def explain_waiver(finding: WaivedFinding) -> str:
    """Write who accepts a failed claim, why, and until when."""
    return "" if finding.waiver is None else finding.waiver.explain()


def name_outcome(finding: Finding) -> str:
    """Name how a finding was judged, as tables and messages show it."""
    if isinstance(finding, WaivedFinding):
        return "WAIVED"
    return "PASS (limited)" if finding.limited else finding.verdict


def advise_on_finding(finding: Finding) -> str:
    """Say what to do about a finding, or who accepts it if it is waived."""
    return explain_waiver(finding) if isinstance(finding, WaivedFinding) else finding.advice
