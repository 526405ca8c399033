"""Audits in a folder: resumed where they are the same, refused where they are another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from scenes import gaussian_signals

from memberscope.auditing import (
    Plan,
    build_audit_identity,
    find_other_audit,
    make_signals_subject,
    refuse_other_audit,
    resume_audit,
)
from memberscope.errors import InputError
from memberscope.reports import write_all

PLAN = Plan(attacks=("loss",), fprs=(0.1,))


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    out = tmp_path_factory.mktemp("audits") / "out"
    subject = make_signals_subject(gaussian_signals(100, 1.0))
    write_all(resume_audit(PLAN, subject, out), out)
    return out, subject


def test_the_folder_holds_what_identifies_the_audit_and_the_same_one_runs_again(audited):
    out, subject = audited
    identity = build_audit_identity(PLAN, subject)
    assert json.loads((out / "plan.json").read_text()) == identity
    assert find_other_audit(out, identity) is None
    again = resume_audit(PLAN, subject, out)
    assert again.environment["audits_of_this_plan"] == "2"


def test_another_audit_is_refused_by_what_differs_unless_it_may_overwrite(audited):
    out, subject = audited
    other = replace(PLAN, seed=1)
    with pytest.raises(InputError, match=r"got a result with another plan\. Choose another --out"):
        resume_audit(other, subject, out)
    records = make_signals_subject(gaussian_signals(100, 1.0, seed=1))
    identity = build_audit_identity(other, records)
    assert find_other_audit(out, identity) == "plan, records, target"
    refuse_other_audit(out, identity, overwrite=True)
    assert find_other_audit(out, identity, file="frontier.json") is None


def test_a_result_without_its_identity_and_a_file_in_place_of_a_folder_are_refused(tmp_path):
    subject = make_signals_subject(gaussian_signals(100, 1.0))
    identity = build_audit_identity(PLAN, subject)
    refuse_other_audit(tmp_path / "new", identity)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"another plan .plan\.json does not say which"):
        refuse_other_audit(tmp_path, identity)
    with pytest.raises(InputError, match="Expected a folder for --out, got the file"):
        refuse_other_audit(tmp_path / "result.json", identity)
