"""Suggest what to do after an audit: one sentence and one command for this very model.

The command has its own parameters.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from math import ceil

from memberscope.attacks import list_attacks
from memberscope.auditing import BASELINE, STRONGEST, Result
from memberscope.auditing.documents import AnyClaim, AucClaim, Claim, EpsilonClaim, PpvClaim
from memberscope.auditing.verdict import name_configuration
from memberscope.reports.select import Place, find_estimate, list_levels
from memberscope.reports.waived_findings import list_waived_findings
from memberscope.types import Access, Finding

Arguments = Callable[[str], str]  # from a verb to the arguments of this audit that the verb takes
NEXT_AUDIT = "NEXT_AUDIT"  # stands for the folder of an audit to come
MOST_RECORDS = 100  # times the records that a guess of the records needed goes to
# What a verdict rests on comes first: an answer to the rest would not change it
ORDER = ("null", "blind", "references", "direction", "fitted")  # of what a verdict rests on first

# What the advice of a finding may command, in the words that come before
ADVISED = {
    "defend": "To see what each measure gains and costs",
    "audit": "To see what restricted outputs would leave",
}


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
        return _after_failure(result, arguments, out)
    if result.verdict == "PASS":
        if list_waived_findings(result):
            return f"Waived claims remain open until they are mended: memberscope explain --result {out}"
        if not result.limited:
            return (
                "Nothing to fix. To compare the audit of the next release with this one: memberscope "
                f"check {NEXT_AUDIT} --baseline {out}"
            )
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


def _after_failure(result: Result, arguments: Arguments | None, out: str) -> str:
    """Suggest what may lower a leak: outputs that kept the limits, or what the advice names."""
    file = result.environment.get("config_file")
    known = shlex.quote(file) if file else "…"
    named = arguments or (lambda verb: known)
    # Defences are trained with a recipe, which an audit with reference models had
    if "references" in result.controls:
        return f"To see what each defence would buy and cost: memberscope defend {named('defend')}"
    if has_kept_outputs(result):
        return (
            "To find the least restrictive outputs that keep the limits: memberscope guard init "
            f"--from {out}"
        )
    advice = next(
        (
            entry.advice
            for entry in result.findings
            if entry.verdict == "FAIL" and entry.attack != BASELINE
        ),
        "",
    )
    for verb, words in ADVISED.items():
        # A further command after the first is for later
        command = advice.partition(f": memberscope {verb} ")[2].partition("; to enforce it")[0]
        if command:
            return name_configuration(f"{words}: memberscope {verb} {command}", named(verb))
    return f"To read what may lower the leak: memberscope explain --result {out}"


def has_kept_outputs(result: Result) -> bool:
    """Tell whether this audit shows outputs below the declared ones that keep every limit.

    Then a guard can be set up from it; it needs label searches, the full set of attacks, and checks
    of the audit that passed.
    """
    policy, overlap = result.plan.policy, result.controls.get("overlap")
    if policy is None or policy.max_epsilon or not result.diagnostics.searches:
        return False
    if overlap is not None and overlap.passed is False:
        return False
    if any(entry.attack != STRONGEST and entry.verdict != "PASS" for entry in result.findings):
        return False
    usual = {
        name
        for name, attack in list_attacks(result.plan.task).items()
        if attack.needs.access <= Access.PROBABILITIES
    }
    if not usual <= set(result.plan.attacks):
        return False
    threat = result.plan.threat
    declared = (threat.access, threat.restriction)
    return any(
        all(_has_kept_claim(result, claim, level) for claim in policy.claims())
        for level in list_levels(result)
        if level != declared and level[0] != Access.WHITE_BOX.word
    )


def _has_kept_claim(result: Result, claim: AnyClaim, level: Place) -> bool:
    """Tell whether every number about a claim at `level` has its upper limit within the claim."""
    limit, conditions = _read_claim(claim)
    if claim.group is None:
        numbers = [find_estimate(result, attack=STRONGEST, level=level, **conditions)]
    else:
        numbers = [
            entry
            for entry in result.estimates
            if entry.group is not None
            and entry.attack == STRONGEST
            and (entry.group == claim.group or entry.group.startswith(f"{claim.group}="))
            and (entry.access, entry.restriction, entry.target) == (*level, "target")
            and all(getattr(entry, key) == value for key, value in conditions.items())
        ]
    return bool(numbers) and all(entry is not None and entry.high <= limit for entry in numbers)


def _read_claim(claim: AnyClaim) -> tuple[float, dict[str, str | float | None]]:
    """Read the limit of a claim, and the fields of the estimates that it is about."""
    if isinstance(claim, Claim):
        return claim.tpr, {"metric": "tpr", "fpr": claim.fpr}
    if isinstance(claim, PpvClaim):
        return claim.ppv, {"metric": "ppv", "fpr": claim.fpr, "prior": claim.prior}
    if isinstance(claim, AucClaim):
        return claim.auc, {"metric": "auc"}
    return claim.epsilon, {"metric": "epsilon_lower"}


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
    return (
        f"To see what {_estimate_records(finding, result)} would show: memberscope plan "
        f"{named('plan')}"
    )


def _estimate_records(finding: Finding, result: Result) -> str:
    """Estimate the records that would decide a claim, in words, if its number stays as it is.

    Limits come closer to the number as one over the square root of the records.
    """
    policy, number = result.plan.policy, finding.estimate
    if policy is None or number is None:
        return "more records"
    limit = next(
        (
            _read_claim(claim)[0]
            for claim in policy.claims()
            if not isinstance(claim, EpsilonClaim)
            and replace(claim, group=number.group).sentence() == finding.claim
        ),
        None,
    )
    # Where the number already keeps the limit, more members do not change what is missing
    if limit is None or number.value == limit or number.high <= limit or number.low > limit:
        return "more records"
    edge = number.high if number.value < limit else number.low
    times = ((edge - number.value) / (limit - number.value)) ** 2
    if times > MOST_RECORDS:
        return f"over {MOST_RECORDS} times as many records"
    n_members, n_others = (
        f"{_round_up(times * n):,}" for n in (number.n_members, number.n_non_members)
    )
    return f"more records (about {n_members} members and {n_others} non-members may decide it)"


def _round_up(value: float) -> int:
    """Round up to two digits.

    >>> _round_up(4123.4)
    4200
    """
    digit: int = 10 ** max(len(str(int(value))) - 2, 0)
    # Without the last places of a float, so that 400.0000001 is not rounded up
    return ceil(round(value / digit, 6)) * digit
