"""Results of every verdict, and one whose texts are meant to break what shows them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memberscope.auditing import Result
from memberscope.types import Finding

HARSH = (
    "a|b `c` ```d [e](https://evil.example) <img src=x> &amp; \x1b[2J \u202eabc @team #12 {0} "
    "${{ x }} www.evil.example *f* ~~g~~ $h$\n# i\n---\n<!-- j --> ]]> \ufffe \ud800"
)


def judge_as(result: Result, verdict: str) -> Result:
    """The result with this verdict, and all findings with it."""
    found = [replace(entry, verdict=verdict) for entry in result.findings]
    return result.model_copy(
        update={"verdict": verdict, "reason": f"Made {verdict}.", "findings": found}
    )


def miss_attack(result: Result) -> Result:
    """The result of an audit in which an attack that the policy requires did not run."""
    missing = Finding(
        "NOT_RUN",
        "The policy requires the attack lira.",
        "lira",
        "logits",
        "it needs reference models",
        "Supply what it needs.",
    )
    findings = [*result.findings, missing]
    return result.model_copy(update={"verdict": "INCONCLUSIVE", "findings": findings})


def limit_pass(result: Result) -> Result:
    """The result as a pass that is limited."""
    found = [replace(entry, limited=entry.estimate is not None) for entry in result.findings]
    return result.model_copy(update={"limited": True, "findings": found})


def drop_policy(result: Result) -> Result:
    """The result of an audit without a policy."""
    plan = result.plan.model_copy(update={"policy": None})
    why = "No policy was given, so nothing was judged."
    return result.model_copy(update={"verdict": None, "reason": why, "findings": [], "plan": plan})


def write_harshly(result: Result) -> Result:
    """The result with hostile text wherever a user or a file may put one."""
    found = [
        replace(
            entry,
            claim=f"{entry.claim} {HARSH}",
            rule=HARSH,
            advice=HARSH,
            estimate=entry.estimate and replace(entry.estimate, group=HARSH, reached_by=HARSH),
        )
        for entry in result.findings
    ]
    estimates = [
        entry if entry.group is None else replace(entry, group=f"{entry.group} {HARSH}")
        for entry in result.estimates
    ]
    controls = {HARSH: next(iter(result.controls.values())), **result.controls}
    missing = [replace(entry, attack=HARSH, why=HARSH) for entry in result.not_run]
    return result.model_copy(
        update={
            "title": HARSH,
            "reason": HARSH,
            "findings": found,
            "estimates": estimates,
            "controls": controls,
            "not_run": missing,
            "environment": {
                **result.environment,
                "config_file": f"../../{HARSH}",
                "config_line": "1e9",
                "audits_of_this_plan": "3",
                "seeds_of_these_audits": HARSH,
            },
        }
    )


def lose_numbers(result: Result) -> Result:
    """The result of an audit in which no attack ran."""
    return drop_policy(result).model_copy(update={"estimates": [], "budgets": []})


@pytest.fixture(scope="session")
def cases(result, clean):
    """Results by what is special about them."""
    return {
        "fail": result,
        "pass": clean,
        "inconclusive": judge_as(result, "INCONCLUSIVE"),
        "not run": miss_attack(clean),
        "limited": limit_pass(clean),
        "unjudged": drop_policy(clean),
        "harsh": write_harshly(result),
        "empty": lose_numbers(clean),
    }


NAMES = ("fail", "pass", "inconclusive", "not run", "limited", "unjudged", "harsh", "empty")


@pytest.fixture(params=NAMES)
def case(request, cases):
    """Each of the results in turn."""
    return cases[request.param]
