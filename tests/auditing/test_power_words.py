"""What a pass says of its power: which leak would have failed, and in whom."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from memberscope.auditing import Plan, audit_signals
from memberscope.auditing.documents.policy import Claim, Policy
from memberscope.reports.page.statements import compose_statements
from memberscope.targets import StoredSignals


@cache
def audit_harmless(*claims: Claim):
    """A pass by a few attacks, one of which learns."""
    rng = np.random.default_rng(0)
    n = 1600
    member, labels = np.arange(n) < n // 2, rng.integers(0, 2, n)
    outputs = np.eye(2)[labels] + rng.normal(size=(n, 2))
    groups = {"sex": np.where(rng.random(n) < 0.5, "f", "m")}
    stored = StoredSignals(
        "logits", outputs, labels, member, np.arange(n).astype(str), groups, outputs, "harmless"
    )
    plan = Plan(attacks=("gap", "loss", "loss_per_class"))
    found = audit_signals(stored, plan=plan, policy=Policy("p", claims))
    assert found.verdict == "PASS"
    return found


@pytest.mark.parametrize(
    ("claims", "present", "absent"),
    [
        (
            (Claim(0.1, 0.4),),
            "or more of its members can be found at 10%",
            "For the limits of groups",
        ),
        ((Claim(0.1, 0.4, "sex=f"),), "only if more than", "or more of its members"),
        (
            (Claim(0.1, 0.4), Claim(0.1, 0.5, "sex")),
            "of its members in one value of sex can be found at 10% false positives",
            "or more of its members in",
        ),
    ],
)
def test_the_power_names_the_group_that_its_limit_is_about(claims, present, absent):
    reason = audit_harmless(*claims).reason
    assert "An audit of this size fails a model with a probability of 80%" in reason
    assert present in reason and absent not in reason


def test_what_may_be_said_does_not_promise_a_group_the_power_of_all_records():
    said = " ".join(compose_statements(audit_harmless(Claim(0.1, 0.4, "sex=f"))))
    assert "of the training records of sex=f would have to be found" in said
    assert "or more of the training records" not in said
