"""Suggest what to do after an audit: one sentence and one command for this very model.

The command has its own parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from memberscope.auditing import STRONGEST, Result
from memberscope.reports.waived_findings import list_waived_findings
from memberscope.types import Finding

Arguments = Callable[[str], str]  # from a verb to the arguments of this audit that the verb takes
# What a verdict rests on comes first: an answer to the rest would not change it
ORDER = ("null", "blind", "references", "direction", "fitted")  # of what a verdict rests on first


def suggest_next_step(
    result: Result, arguments: Arguments | None = None, out: str = "DIR"
) -> str | None:
    """Suggest the next command in a sentence; None without a verdict.

    `arguments` gives what named the model and the threat on the command line; without it three dots
    stand in their place. `out` is the folder of the audit.
    """
    if result.verdict is None:
        return None
    named = arguments or (lambda verb: "…")
    if result.verdict == "FAIL":
        # Defences are trained with a recipe, which an audit with reference models had
        if "references" in result.controls:
            return (
                f"To see what each defence would buy and cost: memberscope defend {named('defend')}"
            )
        return f"To find the least restrictive outputs that keep the limits: memberscope guard init --from {out}"
    if result.verdict == "PASS":
        if list_waived_findings(result):
            return f"Waived claims remain open until they are mended: memberscope explain --result {out}"
        if not result.limited:
            return f"Nothing to fix. As a gate for the next release: memberscope check {out}"
        # The policy's own number, or four where it names none
        n = 4 if result.plan.policy is None else result.plan.policy.references
        trained = f"--recipe my_module:train --references {n}"
        # Stored signals have no recipe that could train models
        if "--signals" in named("audit"):
            return (
                "To lift the limit, audit the model itself: memberscope audit --model … --members "
                f"… --non-members … {trained}; "
                f"to accept it: memberscope audit {named('audit')} --accept-limited"
            )
        return f"To lift the limit: memberscope audit {named('audit')} {trained}"
    return _after_inconclusive(result, named, out)


def _after_inconclusive(result: Result, named: Arguments, out: str) -> str:
    """Suggest the command that answers the open point which the verdict names."""
    open_points = [finding for finding in result.findings if finding.verdict != "PASS"]
    by_name = {finding.attack: finding for finding in reversed(open_points)}
    first = next(
        (by_name[name] for name in ORDER if name in by_name),
        open_points[0] if open_points else None,
    )
    read = f"To read each finding: memberscope explain --result {out}"
    # A control that failed needs thought, which no command replaces
    if first is None or (first.attack in ORDER and first.verdict != "NOT_RUN"):
        return read
    if first.attack == "blind":
        return f"If the split was random: memberscope audit {named('audit')} --assume-exchangeable"
    if first.attack == STRONGEST:
        return _after_claim(first, result, named)
    if first.claim.startswith("The policy requires the attack"):
        return f"To run it: memberscope audit {named('audit')} --attacks {','.join([*result.plan.attacks, first.attack])}"
    return read


def _after_claim(finding: Finding, result: Result, named: Arguments) -> str:
    """Suggest the command after a claim that could not be decided."""
    overlap = result.controls.get("overlap")
    # Shared records come first: more records of the same files would share more
    if finding.estimate is not None and overlap is not None and overlap.passed is False:
        return f"To leave the shared records out: memberscope audit {named('audit')} --drop-overlap"
    if finding.estimate is None and "--coins" in finding.rule:
        return f"If fair coins decided who is a member: memberscope audit {named('audit')} --coins"
    return f"To see what more records would show: memberscope plan {named('plan')}"
