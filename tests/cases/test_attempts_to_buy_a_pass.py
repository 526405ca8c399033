"""Attempts to buy a PASS for a model that leaks.

Each ends in FAIL, INCONCLUSIVE, a limited pass (exit code 3) or a refusal.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from typer.testing import CliRunner

import memberscope
from memberscope.auditing import Plan, load_policy, parse_policy_table
from memberscope.cli.main import app
from memberscope.errors import InputError
from memberscope.reports import write_all
from memberscope.types import Records, ThreatModel

ATTACKS = ("gap", "loss", "confidence", "logit")
STANDARD = load_policy("standard")
PLAN = Plan(attacks=ATTACKS, policy=STANDARD, restrictions=())
N = 1000


@pytest.fixture(scope="module")
def scene():
    """A forest that remembers its records, with records of one distribution on both sides."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * N, 5))
    y = (x[:, 0] + 5 * rng.normal(size=2 * N) > 0).astype(int)
    return RandomForestClassifier(30, random_state=0).fit(x[:N], y[:N]), x, y


@pytest.fixture(scope="module")
def failed(scene, tmp_path_factory):
    """The folder of the honest audit, which fails."""
    model, x, y = scene
    result = memberscope.audit(model, (x[:N], y[:N]), (x[N:], y[N:]), plan=PLAN)
    assert result.verdict == "FAIL", result.reason
    out = tmp_path_factory.mktemp("failed")
    write_all(result, out)
    return out


def audit(scene, members=None, others=None, model=None, **changes):
    """The verdict of an audit with something changed, or `refused`."""
    own, x, y = scene
    plan = replace(PLAN, **changes)
    try:
        result = memberscope.audit(
            model or own, members or (x[:N], y[:N]), others or (x[N:], y[N:]), plan=plan
        )
    except InputError:
        return "refused", ""
    return f"{result.verdict}{' limited' if result.limited else ''}", result.reason


def swap(scene):
    _, x, y = scene
    return audit(scene, (x[N:], y[N:]), (x[:N], y[:N]))


def give_the_training_file_twice(scene):
    _, x, y = scene
    return audit(scene, others=(x[:N], y[:N]))


def give_it_twice_in_another_order_and_with_other_ids(scene):
    _, x, y = scene
    order = np.random.default_rng(1).permutation(N)
    return audit(
        scene, others=Records(x[order], y[order], np.array([f"other-{i}" for i in range(N)]))
    )


def copy_half(scene):
    _, x, y = scene
    rows = np.r_[: N // 2, N : N + N // 2]
    return audit(scene, others=(x[rows], y[rows]))


def copy_nine_tenths(scene):
    _, x, y = scene
    rows = np.r_[: 9 * N // 10, N : N + N // 10]
    return audit(scene, others=(x[rows], y[rows]))


def copy_nearly(scene):
    _, x, y = scene
    noise = 1e-6 * np.random.default_rng(2).normal(size=(N, 5))
    return audit(scene, others=(x[:N] + noise, y[:N]))


def round_to_one_decimal(scene):
    return audit(scene, threat=ThreatModel(restriction="round:1"))


def round_to_two_decimals(scene):
    return audit(scene, threat=ThreatModel(restriction="round:2"))


def tie_the_top(scene):
    """60% of members and 2% of non-members share the top score.

    So that no threshold stands at 1% false positives.
    """
    from memberscope.auditing import audit_signals
    from memberscope.targets import StoredSignals

    rng = np.random.default_rng(5)
    member, labels = np.arange(2 * N) < N, rng.integers(0, 2, 2 * N)
    top = np.where(member, np.arange(2 * N) < 0.6 * N, np.arange(2 * N) >= 1.98 * N)
    own = np.where(top, 0.99, np.round(rng.uniform(0.55, 0.9, 2 * N), 2))
    outputs = np.where(np.arange(2) == labels[:, None], own[:, None], 1 - own[:, None])
    ids = np.arange(2 * N).astype(str)
    plan = replace(PLAN, assume_exchangeable=True)
    result = audit_signals(StoredSignals("probabilities", outputs, labels, member, ids), plan=plan)
    return result.verdict, result.reason


def show_labels_only(scene):
    return audit(
        scene, threat=ThreatModel(restriction="label"), policy=replace(STANDARD, require=())
    )


def leave_out_a_required_attack(scene):
    return audit(scene, attacks=("gap", "loss"))


def leave_out_all_but_gap(scene):
    return audit(scene, attacks=("gap",), policy=replace(STANDARD, require=(), references=0))


def give_few_non_members(scene):
    _, x, y = scene
    return audit(scene, others=(x[N : N + 120], y[N : N + 120]))


def give_few_members(scene):
    _, x, y = scene
    return audit(scene, members=(x[:15], y[:15]))


def drop_the_group_of_a_claim(scene):
    policy = parse_policy_table({"max_tpr": [{"fpr": 0.01, "tpr": 0.9, "group": "sex"}]})
    return audit(scene, policy=policy)


def judge_a_group_too_small_for_the_rate(scene):
    _, x, y = scene
    sides = []
    for start in (0, N):
        group = np.where(np.arange(N) < 15, "few", "many")
        ids = np.array([f"{start}-{i}" for i in range(N)])
        sides.append(Records(x[start : start + N], y[start : start + N], ids, {"kind": group}))
    policy = parse_policy_table({"max_tpr": [{"fpr": 0.01, "tpr": 0.95, "group": "kind"}]})
    return audit(scene, *sides, policy=policy)


def misspell_a_key(scene):
    try:
        parse_policy_table({"max_tpr": [{"fpr": 0.01, "tpr": 0.9, "groups": "sex"}]})
    except InputError:
        return "refused", ""
    return "read", ""


def claim_an_epsilon(scene):
    return audit(scene, policy=parse_policy_table({"max_epsilon": 50.0}))


def grant_no_known_records(scene):
    return audit(scene, threat=ThreatModel(known_records=False))


def give_a_model_that_was_never_fitted(scene):
    rng = np.random.default_rng(3)
    random = RandomForestClassifier(30, random_state=0).fit(
        rng.normal(size=(N, 5)), rng.integers(0, 2, N)
    )
    return audit(scene, model=random)


def mark_the_members(scene):
    """Members that differ by a mark: their attack's success says nothing, so nothing is decided."""
    _, x, y = scene
    moved = x.copy()
    moved[:N, 4] += 3
    return audit(scene, (moved[:N], y[:N]), (moved[N:], y[N:]))


def pad_the_hold_out(scene):
    """A twentieth of the hold-out stands out, with answers as sure as a member's."""
    from memberscope.auditing import audit_signals
    from memberscope.targets import StoredSignals

    rng = np.random.default_rng(6)
    member, labels = np.arange(2 * N) < N, rng.integers(0, 2, 2 * N)
    logit = rng.normal(size=2 * N) + 1.0 + 2.0 * member
    features = rng.normal(size=(2 * N, 5))
    features[-N // 20 :, 4], logit[-N // 20 :] = 6.0, 9.0
    outputs = np.zeros((2 * N, 2))
    outputs[np.arange(2 * N), labels] = logit
    ids = np.arange(2 * N).astype(str)
    signals = StoredSignals("logits", outputs, labels, member, ids, features=features)
    plan = replace(PLAN, policy=parse_policy_table({"max_tpr": [{"fpr": 0.01, "tpr": 0.1}]}))
    result = audit_signals(signals, plan=plan)
    return result.verdict, result.reason


def copy_all_but_one_stored_answer(scene):
    from memberscope.auditing import audit_signals
    from memberscope.targets import StoredSignals

    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, N + 1)
    outputs = np.zeros((N + 1, 2))
    outputs[np.arange(N + 1), labels] = rng.normal(size=N + 1) + 2
    rows = np.r_[:N, : N - 1, N]
    ids = np.arange(2 * N).astype(str)
    signals = StoredSignals("logits", outputs[rows], labels[rows], np.arange(2 * N) < N, ids)
    result = audit_signals(signals, plan=replace(PLAN, assume_exchangeable=True))
    return result.verdict, result.reason


def lower_the_confidence(scene):
    return audit(
        scene, confidence=0.5, policy=parse_policy_table({"max_tpr": [{"fpr": 0.01, "tpr": 0.99}]})
    )


def bring_a_useless_recipe(scene):
    """References that overfit as the target does not lend it no strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    _, x, y = scene
    model = LogisticRegression().fit(x[:N], y[:N])
    policy = parse_policy_table({"max_tpr": [{"fpr": 0.01, "tpr": 0.2}], "references": 4})
    plan = replace(PLAN, attacks=(*ATTACKS, "calibrated"), policy=policy, references=4)
    sides = (x[:N], y[:N]), (x[N:], y[N:])
    result = memberscope.audit(model, *sides, plan=plan, recipe=DecisionTreeClassifier())
    return f"{result.verdict}{' limited' if result.limited else ''}", result.reason


ATTEMPTS = {
    pad_the_hold_out: "INCONCLUSIVE",
    copy_all_but_one_stored_answer: "INCONCLUSIVE",
    lower_the_confidence: "INCONCLUSIVE",
    bring_a_useless_recipe: "INCONCLUSIVE",
    swap: "INCONCLUSIVE",
    give_the_training_file_twice: "refused",
    give_it_twice_in_another_order_and_with_other_ids: "refused",
    copy_half: "FAIL INCONCLUSIVE",
    copy_nine_tenths: "FAIL INCONCLUSIVE",
    copy_nearly: "INCONCLUSIVE refused",
    round_to_one_decimal: "FAIL INCONCLUSIVE",
    round_to_two_decimals: "FAIL",
    tie_the_top: "FAIL",
    show_labels_only: "FAIL INCONCLUSIVE",
    leave_out_a_required_attack: "FAIL INCONCLUSIVE",
    leave_out_all_but_gap: "FAIL INCONCLUSIVE",
    give_few_non_members: "FAIL INCONCLUSIVE",
    give_few_members: "FAIL INCONCLUSIVE",
    drop_the_group_of_a_claim: "INCONCLUSIVE",
    judge_a_group_too_small_for_the_rate: "INCONCLUSIVE",
    misspell_a_key: "refused",
    claim_an_epsilon: "INCONCLUSIVE",
    grant_no_known_records: "FAIL",
    give_a_model_that_was_never_fitted: "INCONCLUSIVE",
    mark_the_members: "INCONCLUSIVE",
}


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.__name__)
def test_an_attempt_to_buy_a_pass_does_not_succeed(attempt, scene):
    verdict, reason = attempt(scene)
    assert verdict in ATTEMPTS[attempt].split(), reason


def edit(out, change):
    """A copy of an audit's folder with `result.json` changed."""
    document = json.loads((out / "result.json").read_text())
    change(document)
    (out / "result.json").write_text(json.dumps(document))


def set_verdict(document):
    document["verdict"], document["reason"] = "PASS", "Passed."


def set_findings(document):
    set_verdict(document)
    for finding in document["findings"]:
        finding["verdict"] = "PASS"


def set_estimates(document):
    set_findings(document)
    for entry in document["estimates"]:
        entry["high"] = min(entry["high"], 0.02)
        entry["value"] = min(entry["value"], entry["high"])
        entry["low"] = min(entry["low"], entry["value"])


def loosen_the_policy(document):
    document["plan"]["policy"]["max_tpr"][0]["tpr"] = 0.99


def pass_a_control(document):
    document["controls"]["overlap"]["why"] = "Nothing stands on both sides."


def remove_a_control(document):
    del document["controls"]["direction"]


def excuse_an_attack(document):
    document["not_run"].append({"attack": "logit", "access": "label", "why": "x"})


def claim_an_overlap(document):
    document["controls"]["overlap"] = {
        "passed": False,
        "why": "x",
        "details": {"excess": 900, "exact": 900, "near": 0, "expected": 0.0},
    }


def write_an_older_format(document):
    document["format"] = "memberscope-result/1"


EDITS = (
    *(
        set_verdict,
        set_findings,
        set_estimates,
        loosen_the_policy,
        pass_a_control,
        remove_a_control,
        excuse_an_attack,
    ),
    *(claim_an_overlap, write_an_older_format),
)


@pytest.mark.parametrize("change", EDITS, ids=lambda change: change.__name__)
def test_an_edited_result_is_refused(change, failed, tmp_path):
    for file in failed.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert CliRunner().invoke(app, ["check", str(tmp_path)]).exit_code == 1
    edit(tmp_path, change)
    with pytest.raises(InputError, match="again"):
        CliRunner().invoke(app, ["check", str(tmp_path)], catch_exceptions=False)


def test_edited_scores_are_refused(failed, tmp_path):
    from memberscope.reports import read_arrays, write_arrays

    for file in failed.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    arrays = read_arrays(tmp_path)
    rng = np.random.default_rng(0)
    scored = tuple(replace(entry, scores=rng.permutation(entry.scores)) for entry in arrays.scored)
    write_arrays(replace(arrays, scored=scored), tmp_path / "arrays.safetensors")
    with pytest.raises(InputError, match="arrays"):
        CliRunner().invoke(app, ["check", str(tmp_path)], catch_exceptions=False)


def test_an_audit_is_not_passed_by_a_policy_whose_rates_its_blind_control_never_saw(
    scene, tmp_path
):
    from sklearn.linear_model import LogisticRegression

    _, x, y = scene
    model = LogisticRegression().fit(x[:N], y[:N])
    sides = (x[:N], y[:N]), (x[N:], y[N:])
    write_all(memberscope.audit(model, *sides, plan=replace(PLAN, policy=None)), tmp_path)
    found = CliRunner().invoke(app, ["check", str(tmp_path), "--policy", "demo"])
    assert found.exit_code == 3 and "not judged at 5% false positives" in found.output


def test_seeds_that_were_tried_are_counted_and_said(scene, tmp_path):
    from memberscope.auditing.verdict.repeated_audits import describe_repeats
    from memberscope.signals import Store

    model, x, y = scene
    for seed in (0, 1, 7):
        plan = replace(PLAN, seed=seed)
        result = memberscope.audit(
            model, (x[:N], y[:N]), (x[N:], y[N:]), plan=plan, store=Store(tmp_path)
        )
    assert describe_repeats(result.environment) == (
        "This is the third audit of this model with this plan; seeds tried: 0, 1, 7."
    )


def test_without_the_reference_models_that_a_policy_requires_a_pass_is_limited(tmp_path):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(4)
    n = 4000
    x = rng.normal(size=(2 * n, 5))
    y = (x[:, 0] + rng.normal(size=2 * n) > 0).astype(int)
    model = LogisticRegression().fit(x[:n], y[:n])
    result = memberscope.audit(model, (x[:n], y[:n]), (x[n:], y[n:]), plan=PLAN)
    assert (result.verdict, result.limited) == ("PASS", True), result.reason
    assert (
        "against attacks without reference models; attacks with reference models" in result.reason
    )
    assert "were not run" in result.reason
    write_all(result, tmp_path)
    assert CliRunner().invoke(app, ["check", str(tmp_path)]).exit_code == 3
    assert CliRunner().invoke(app, ["check", str(tmp_path), "--accept-limited"]).exit_code == 0
