"""Real models on real records.

A leak that must be found, and a model at chance that must not be accused.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_scripts import load_benchmark

from memberscope import Access, Plan, ThreatModel, audit
from memberscope.reports.select import find_estimate

benchmark = load_benchmark("real_data")
PLAN = Plan(threat=ThreatModel(access=Access.PROBABILITIES))


@pytest.fixture(autouse=True)
def _data(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.data, "FOLDER", real_data)


def test_a_forest_on_location_30_fails_the_standard_policy():
    model, members, non_members, _ = benchmark.location_forest()
    result = audit(model, members, non_members, plan=PLAN, policy="standard")
    assert result.verdict == "FAIL"
    tpr = find_estimate(
        result, attack="strongest", level=("probabilities", None), metric="tpr", fpr=0.01
    )
    assert tpr is not None and tpr.low > 0.5


def test_logistic_regression_on_adult_is_at_chance():
    model, members, non_members, _ = benchmark.adult_logistic()
    result = audit(model, members, non_members, plan=PLAN)
    for attack in ("loss", "confidence", "modified_entropy"):
        auc = find_estimate(result, attack=attack, level=("probabilities", None), metric="auc")
        assert auc is not None and auc.low < 0.51 and auc.high < 0.53
