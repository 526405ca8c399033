"""Two small real audits: one that leaks, with hostile names everywhere, and one that does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from browsers import open_browser

from memberscope.auditing import Plan, audit_signals
from memberscope.auditing.documents.policy import Claim, Policy
from memberscope.auditing.run import audit_subject
from memberscope.auditing.subject.subject import order_signals
from memberscope.reports import write_report
from memberscope.targets import StoredSignals, StoredTarget
from memberscope.types import Access, ThreatModel

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def signals(shift: float) -> StoredSignals:
    rng = np.random.default_rng(0)
    n = 800
    member, labels = np.arange(2 * n) < n, rng.integers(0, 3, 2 * n)
    outputs = rng.normal(size=(2 * n, 3))
    outputs[np.arange(2 * n), labels] += 1 + shift * member
    groups = {HOSTILE: np.where(rng.random(2 * n) < 0.5, HOSTILE, "=2+2")}
    ids = np.array([f"=secret-{i}" if i % 2 else f"secret-{i}" for i in range(2 * n)])
    return StoredSignals(
        "logits", outputs, labels, member, ids, groups, rng.normal(size=(2 * n, 2)), "report scene"
    )


def audited(shift: float, policy: Policy):
    stored = signals(shift)
    subject = order_signals(stored, StoredTarget(stored))
    subject = replace(subject, class_names=("cat", HOSTILE, "dog"))
    return audit_subject(
        Plan(title=f"model {HOSTILE}", threat=ThreatModel(access=Access.LOGITS), policy=policy),
        subject,
    )


@pytest.fixture(scope="session")
def result():
    found = audited(1.5, Policy("gate", (Claim(0.05, 0.1),)))
    assert found.verdict == "FAIL"
    return found


@pytest.fixture(scope="session")
def clean():
    found = audit_signals(signals(0.0), policy=Policy("gate", (Claim(0.1, 0.3),)))
    assert found.verdict == "PASS"
    return found


@pytest.fixture(scope="module")
def browser():  # of a module: its event loop must not be there when notebooks run theirs
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def page_file(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(result, path)
    return path
