"""Name what each finding is about, in the same way in every audit of a model.

The names hold no limit and no measured number, so that a tool that keeps findings from run to run
knows one again after a limit or a number changed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Literal

from memberscope.auditing import BASELINE, STRONGEST, Result, WaivedFinding
from memberscope.auditing.documents import KINDS, AnyClaim
from memberscope.types import Finding

RuleKind = Literal[
    "max_tpr",
    "max_auc",
    "max_ppv",
    "max_epsilon",
    "claim",
    "baseline",
    "control",
    "require",
    "verdict",
]
ANY_VALUE = "\0=\0"  # stands for the value of a group, and cannot be one


@dataclass(frozen=True)
class JudgedRule:
    """What a finding is about.

    `id` is such as `max_tpr/fpr=0.01/sex` or `control/null`; `group` is the value of the group that
    this finding is about, such as `sex=f`. `fpr` is the claim's rate.
    """

    id: str
    kind: RuleKind
    group: str | None = None
    fpr: float | None = None


VERDICT: Literal["verdict"] = "verdict"  # stands for the attack where nothing was judged


def list_open_findings(result: Result) -> list[Finding]:
    """List the findings that did not pass and are not waived, or passed with a limit.

    Where there are none and the audit did not pass either, there is one that says so: an empty file
    would read as a pass.
    """
    found = [
        entry
        for entry in result.findings
        if (entry.verdict != "PASS" or entry.limited) and not isinstance(entry, WaivedFinding)
    ]
    if found or (result.verdict == "PASS" and result.findings):
        return found
    advice = "Give a policy with --policy, and check again."
    if result.verdict is not None:
        advice = "Audit again: no finding explains this verdict."
    claim = "The audit was judged by a policy."
    access = result.plan.threat.access
    return [Finding("NOT_RUN", claim, VERDICT, access, result.reason, advice)]


def identify_rule(result: Result, finding: Finding) -> JudgedRule:
    """Find the claim of the policy, the control or the requirement that a finding is about."""
    policy = result.plan.policy
    for kind in KINDS if policy is not None else ():
        for claim in getattr(policy, kind):
            group = _match_group(claim, finding.claim)
            if group is not None:
                return _name_claim(kind, claim, group)
    if finding.attack == VERDICT:
        return JudgedRule(VERDICT, VERDICT)
    if finding.attack == BASELINE:
        return JudgedRule(BASELINE, BASELINE)
    if finding.attack in result.controls:
        return JudgedRule(f"control/{_clean_name(finding.attack)}", "control")
    if finding.attack == STRONGEST or finding.estimate is not None:
        # A claim of a policy that is not at hand is told by its sentence
        digest = hashlib.sha256(finding.claim.encode(errors="replace")).hexdigest()[:12]
        return JudgedRule(f"claim/{digest}", "claim")
    return JudgedRule(f"require/{_clean_name(finding.attack)}", "require")


def _name_claim(kind: str, claim: AnyClaim, group: str) -> JudgedRule:
    """Name a claim by its kind, its rates and the group that the policy names."""
    fpr, prior = getattr(claim, "fpr", None), getattr(claim, "prior", None)
    parts = [kind]
    parts += [f"{name}={rate:g}" for name, rate in (("fpr", fpr), ("prior", prior)) if rate]
    parts += [_clean_name(claim.group)] if claim.group else []
    return JudgedRule("/".join(parts), kind, group or None, fpr)  # type: ignore[arg-type]


def _match_group(claim: AnyClaim, sentence: str) -> str | None:
    """Find the group that a sentence about a claim names; None where it is about another claim.

    Empty for a claim about all records.

    >>> AucClaim = KINDS["max_auc"]
    >>> _match_group(AucClaim(0.6, "sex"), "No attack has an AUC above 0.6 in sex=f.")
    'sex=f'
    >>> _match_group(AucClaim(0.6), "No attack has an AUC above 0.6."), _match_group(AucClaim(0.6), "Else.")
    ('', None)
    """
    if claim.sentence() == sentence:
        return claim.group or ""
    if claim.group is None or "=" in claim.group:
        return None
    # The claim's own words around a value, since the values stand in the data alone
    head, _, tail = replace(claim, group=ANY_VALUE).sentence().partition(ANY_VALUE)
    if not (sentence.startswith(head) and sentence.endswith(tail)):
        return None
    value = sentence[len(head) : len(sentence) - len(tail)]
    return value if value.startswith(f"{claim.group}=") else None


def _clean_name(name: str) -> str:
    """Keep of a name what ids in other programs may hold.

    >>> _clean_name("age group"), _clean_name("sex=f")
    ('age_group', 'sex=f')
    """
    return re.sub(r"[^\w=.+-]", "_", name)[:80]
