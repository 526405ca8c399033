"""What to do after an audit: one sentence and one command for this very model.

With its own parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from memberscope.auditing import STRONGEST, Result
from memberscope.types import Finding

Arguments = Callable[[str], str]  # from a verb to the arguments of this audit that the verb takes
ORDER = ("null", "blind", "references", "direction", "fitted")  # of what a verdict rests on first


def suggest_next_step(
    result: Result, arguments: Arguments | None = None, out: str = "DIR"
) -> str | None:
    """A sentence with the next command; None without a verdict.

    `arguments` gives what named the model and the threat on the command line; without it three dots
    stand in their place. `out` is the folder of the audit.
    """
    if result.verdict is None:
        return None
    named = arguments or (lambda verb: "…")
    if result.verdict == "FAIL":
        if "references" in result.controls:
            return (
                f"To see what each defence would buy and cost: memberscope defend {named('defend')}"
            )
        return f"To find the least restrictive outputs that keep the limits: memberscope guard init --from {out}"
    if result.verdict == "PASS":
        if not result.limited:
            return f"Nothing to fix. As a gate for the next release: memberscope check {out}"
        n = (result.plan.get("policy") or {}).get("references", 4)
        trained = f"--recipe my_module:train --references {n}"
        if "--signals" in named("audit"):
            return (
                "To lift the limit, audit the model itself: memberscope audit --model … --members "
                f"… --non-members … {trained}; "
                f"to accept it: memberscope audit {named('audit')} --accept-limited"
            )
        return f"To lift the limit: memberscope audit {named('audit')} {trained}"
    return _after_inconclusive(result, named, out)


def _after_inconclusive(result: Result, named: Arguments, out: str) -> str:
    """The command that answers the open point which the verdict names."""
    open_points = [finding for finding in result.findings if finding.verdict != "PASS"]
    by_name = {finding.attack: finding for finding in reversed(open_points)}
    first = next(
        (by_name[name] for name in ORDER if name in by_name),
        open_points[0] if open_points else None,
    )
    read = f"To read each finding: memberscope explain --result {out}"
    if first is None or (first.attack in ORDER and first.verdict != "NOT_RUN"):
        return read
    if first.attack == "blind":
        return f"If the split was random: memberscope audit {named('audit')} --assume-exchangeable"
    if first.attack == STRONGEST:
        return _after_claim(first, result, named)
    if first.claim.startswith("The policy requires the attack"):
        return f"To run it: memberscope audit {named('audit')} --attacks {','.join([*result.plan['attacks'], first.attack])}"
    return read


def _after_claim(finding: Finding, result: Result, named: Arguments) -> str:
    """The command after a claim that could not be decided."""
    overlap = result.controls.get("overlap")
    if finding.estimate is not None and overlap is not None and overlap.passed is False:
        return f"To leave the shared records out: memberscope audit {named('audit')} --drop-overlap"
    if finding.estimate is None and "--coins" in finding.rule:
        return f"If fair coins decided who is a member: memberscope audit {named('audit')} --coins"
    return f"To see what more records would show: memberscope plan {named('plan')}"
