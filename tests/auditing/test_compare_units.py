"""Two audits of people with several records: what is found of records, and what of people."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.auditing import STRONGEST, Plan, audit_signals, compare
from memberscope.reports import render_comparison
from memberscope.statistics import auc_difference
from memberscope.targets import StoredSignals

UNITS, ROWS = 120, 5  # on both sides together, and the records of each


def audit_people(shift: float):
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(UNITS), ROWS)
    member, labels = unit < UNITS // 2, rng.integers(0, 2, len(unit))
    common, own = rng.standard_normal(UNITS)[unit], rng.standard_normal(len(unit))
    logit = common + own + shift * member + 0.3 * np.random.default_rng(1).normal(size=len(unit))
    ids = np.arange(len(unit)).astype(str)
    signals = StoredSignals(
        "logits", np.eye(2)[labels] * logit[:, None], labels, member, ids, digest=str(shift),
        unit=unit.astype(str),
    )  # fmt: skip
    plan = Plan(attacks=("gap", "logit"), fprs=(0.1, 0.02), restrictions=())
    return audit_signals(signals, plan=plan)


@pytest.fixture(scope="module")
def releases():
    return [audit_people(shift) for shift in (0.2, 1.0)]


def find_row(found, attack, metric, fpr=None):
    (row,) = (
        one for one in found.compared
        if (one.attack, one.metric, one.fpr, one.of) == (attack, metric, fpr, "units")
        and one.access == "probabilities"
    )  # fmt: skip
    return row


def test_units_have_rows_of_their_own_with_paired_intervals(releases):
    found = compare(releases)
    row = find_row(found, "logit", "auc")
    member = np.arange(UNITS) < UNITS // 2
    means = [
        next(
            one.scores for one in result.arrays.scored if one.name == "logit@probabilities"
        ).reshape(-1, ROWS).mean(axis=1)
        for result in releases
    ]  # fmt: skip
    expected = auc_difference(means[1], means[0], member)
    assert row.method == "paired DeLong"
    assert (row.difference.low, row.difference.high) == pytest.approx((expected.low, expected.high))
    assert find_row(found, "logit", "tpr", 0.1).before.value >= 0
    for result, shown in zip(releases, (row.before, row.after), strict=True):
        (own,) = (
            one for one in result.by_unit
            if (one.attack, one.access, one.metric, one.of)
            == ("logit", "probabilities", "auc", "units")
        )  # fmt: skip
        assert (own.value, own.low, own.high) == (shown.value, shown.low, shown.high)


def test_the_verdict_is_about_records_and_the_page_names_units(releases):
    found = compare(releases)
    assert {one.of for one in found.compared if one.claim} == {"records"}
    page = render_comparison(found)
    assert "AUC, units" in page and "units found at 10%" in page


def test_without_scores_the_stored_numbers_of_units_are_compared(releases):
    bare = [result.model_copy(update={"arrays": None}) for result in releases]
    paired, apart = (find_row(compare(audits), STRONGEST, "auc") for audits in (releases, bare))
    assert apart.before.value == pytest.approx(paired.before.value)
    assert apart.difference.value == pytest.approx(paired.difference.value)
    assert apart.difference.high - apart.difference.low > (
        paired.difference.high - paired.difference.low
    )


def test_records_without_units_have_no_such_rows(releases):
    labels = np.arange(80) % 2
    signals = StoredSignals(
        "logits",
        np.eye(2)[labels] * np.linspace(-1, 1, 80)[:, None],
        labels,
        np.arange(80) % 4 < 2,
        np.arange(80).astype(str),
    )
    other = audit_signals(signals, plan=Plan(attacks=("logit",), restrictions=()))
    assert {one.of for one in compare([other, releases[1]]).compared} == {"records"}
