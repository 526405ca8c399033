"""Policies: every key is read or refused.

And each shipped policy is honest about the records that it needs.
"""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from memberscope.auditing import list_bundled_policies, load_policy, parse_policy_table
from memberscope.auditing.documents.policy import AucClaim, Claim, EpsilonClaim, Policy, PpvClaim
from memberscope.errors import InputError
from memberscope.statistics import records_needed_to_fail

GOOD = {"max_tpr": [{"fpr": 0.01, "tpr": 0.03}]}


def test_every_kind_of_claim_is_read():
    policy = parse_policy_table(
        {
            "name": "all",
            "max_tpr": [{"fpr": 0.01, "tpr": 0.03}, {"fpr": 0.01, "tpr": 0.05, "group": "sex"}],
            "max_auc": 0.6,
            "max_ppv": [{"ppv": 0.5, "fpr": 0.01, "prior": 0.1, "group": "sex=f"}],
            "max_epsilon": 2,
            "require": ["gap"],
            "references": 4,
        }
    )
    assert policy.claims() == (
        Claim(0.01, 0.03),
        Claim(0.01, 0.05, "sex"),
        AucClaim(0.6),
        PpvClaim(0.5, 0.01, 0.1, "sex=f"),
        EpsilonClaim(2.0),
    )
    assert policy.references == 4 and policy.require == ("gap",)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"max_tpr": [{"fpr": 0.01, "tpr": 0.03, "groups": "sex"}]},
            "keys fpr, tpr, group in a row of max_tpr, got groups",
        ),
        ({**GOOD, "max_roc": 1}, "got max_roc"),
        ({**GOOD, "require": "gap"}, "list of attacks"),
        ({**GOOD, "references": "4"}, "whole number for references"),
        ({**GOOD, "references": True}, "whole number for references"),
        ({**GOOD, "references": -1}, "references of at least 0"),
        ({"max_tpr": 0.03}, "max_tpr = "),
        ({"max_tpr": [{"fpr": 0.01, "tpr": "many"}]}, "max_tpr = "),
        ({"max_auc": 0.4}, "auc of at least 0.5"),
        ({"max_auc": True}, "max_auc = "),
        ({"max_ppv": [{"ppv": 0.5, "fpr": 0.01}]}, "max_ppv = "),
        ({"max_ppv": [{"ppv": 0.05, "fpr": 0.01, "prior": 0.1}]}, "at least the prior"),
        (
            {"max_ppv": [{"ppv": 0.99, "fpr": 0.5, "prior": 0.1}]},
            "Finding every member reaches less",
        ),
        ({"max_epsilon": -1}, "epsilon of at least 0"),
        ({"max_auc": [{"auc": 0.6}, {"auc": 0.7}]}, "one max_auc claim"),
        (
            {"max_tpr": [{"fpr": 0.01, "tpr": 0.03}, {"fpr": 0.01, "tpr": 0.02}]},
            "one max_tpr claim",
        ),
        ({}, "at least one claim"),
    ],
)
def test_what_is_not_understood_is_refused(table, words):
    with pytest.raises(InputError, match=re.escape(words)):
        parse_policy_table(table)


def test_a_precision_is_a_true_positive_rate_at_its_prior():
    from memberscope.statistics import ppv

    claim = PpvClaim(0.5, 0.01, 0.1)
    assert ppv(claim.as_tpr(), claim.fpr, claim.prior) == pytest.approx(claim.ppv)


def test_shipped_policies_say_how_many_records_they_need():
    for name in list_bundled_policies():
        text = (
            (files("memberscope.auditing") / "policies" / f"{name}.toml")
            .read_text(encoding="utf-8")
            .replace(",", "")
        )
        fpr = min(claim.fpr for claim in load_policy(name).max_tpr)
        for tests in (1, 20):
            assert str(records_needed_to_fail(fpr, 0.025 / tests)) in text, (name, tests)


def test_a_policy_needs_a_claim():
    with pytest.raises(InputError, match="at least one claim"):
        Policy("empty")
