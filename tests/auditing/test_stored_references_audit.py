"""Audits with reference models that others trained: of answers, of losses and of one number."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, numbers, planted_sides
from stored_layouts import plant_models, write_leakpro, write_lira, write_privacy_meter

import memberscope
from memberscope.auditing import Plan, audit_signals, load_policy
from memberscope.cli.main import run
from memberscope.errors import InputError
from memberscope.recipes import Execution
from memberscope.targets import ReferenceOutputs, StoredNumber, StoredSignals, read_signals
from memberscope.types import ThreatModel

N, MODELS = 100, 8  # records a side, reference models
OF_NUMBERS = (
    "lira",
    "lira_offline",
    "lira_robust",
    "rmia",
    "rmia_offline",
    "base",
    "calibrated",
    "attack_r",
)
OF_ANSWERS = (*OF_NUMBERS, "shokri", "shokri_statistics")


@dataclass(frozen=True)
class RecordingRecipe:
    """Trains as another recipe does, and keeps the models with their records."""

    base: PlantedRecipe
    models: list[tuple[np.ndarray, Planted]] = field(default_factory=list)

    def __call__(self, records, seed):
        model = self.base(records, seed)
        self.models.append((records.x[:, 0].astype(int), model))
        return model


@pytest.fixture(scope="module")
def fleet():
    """A target, its records, and eight models with their design, which a recipe trained."""
    members, others = planted_sides(N)
    target = Planted(numbers(members), 99, 1.5, 2 * N)
    ranks = np.random.default_rng(5).random((MODELS, 2 * N)).argsort(axis=0)
    recipe = RecordingRecipe(PlantedRecipe(1.5, 2 * N))
    plan = Plan(
        seed=3, references=MODELS, attacks=("gap", "loss", *OF_ANSWERS), restrictions=("round:1",)
    )
    trained = memberscope.audit(
        target,
        members,
        others,
        plan=plan,
        recipe=recipe,
        design=ranks < MODELS // 2,
        execution=Execution(backend="sequential"),
    )
    x, y = (np.concatenate([members[k], others[k]]) for k in (0, 1))
    inside = np.stack([np.isin(x[:, 0], rows) for rows, _ in recipe.models])
    answers = np.stack([model.query(x) for _, model in recipe.models])
    ids = np.array([f"{'member' if k < N else 'non-member'}:{k % N}" for k in range(2 * N)])
    member = np.arange(2 * N) < N
    stored = StoredSignals("logits", target.query(x), y, member, ids, digest="stored")
    return plan, trained, replace(stored, references=ReferenceOutputs(answers, inside))


def _scores(result):
    return {entry.name: entry.scores for entry in result.arrays.scored}


def test_stored_answers_give_the_scores_of_the_fleet_that_gave_them(fleet):
    plan, trained, stored = fleet
    again = audit_signals(stored, plan=plan)
    before, after = _scores(trained), _scores(again)
    shared = [name for name in after if name.partition("@")[0] in OF_ANSWERS]
    # At each level, restricted ones included
    assert len(shared) >= 2 * len(OF_ANSWERS) and set(shared) <= set(before)
    for name in shared:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-6, err_msg=name)
    fields = ("models", "failed", "train_accuracy", "held_out_accuracy", "agreement")
    found, known = again.diagnostics.references, trained.diagnostics.references
    assert [getattr(found, name) for name in fields] == [getattr(known, name) for name in fields]
    assert again.controls["references"].why == trained.controls["references"].why


def test_results_of_stored_references_repeat_to_the_byte(fleet):
    plan, _, stored = fleet
    plan = replace(plan, attacks=("loss", "lira"))
    first, second = (audit_signals(stored, plan=plan) for _ in range(2))
    assert first.digests == second.digests and first.digests["references"]
    # Another reference is another audit, whatever the digest of the target says
    other = replace(stored, references=stored.references.limit(7))
    assert audit_signals(other, plan=plan).digests["references"] != first.digests["references"]


def _audit_number(values, models, **kwargs):
    stored = StoredSignals(
        "loss",
        -values[0][:, None],
        models.labels,
        models.inside[0],
        np.arange(len(models.labels)).astype(str),
        references=ReferenceOutputs(
            values[1:], models.inside[1:], values[0][:, None, None], StoredNumber("score"), **kwargs
        ),
    )
    return audit_signals(stored, plan=Plan(attacks=("loss", *OF_NUMBERS)))


def _areas(result):
    return {
        entry.attack: entry.value
        for entry in result.estimates
        if entry.metric == "auc" and entry.group is None
    }


def test_all_attacks_run_on_one_number_on_any_scale():
    models = plant_models(n=400, models=9)
    plain = _areas(_audit_number(models.logit, models))
    moved = _areas(_audit_number(1000 + 50 * models.logit, models))
    assert set(OF_NUMBERS) <= set(plain)
    assert min(plain[name] for name in OF_NUMBERS) > 0.85 < plain["lira"]
    for name in OF_NUMBERS:
        assert moved[name] == pytest.approx(plain[name], abs=0.005), name


def test_zero_leakage_holds_one_half_on_every_number():
    models = plant_models(n=1200, models=9, shift=0.0)
    areas = _areas(_audit_number(models.logit, models))
    # Five standard errors of an AUC of independent records
    assert max(abs(areas[name] - 0.5) for name in OF_NUMBERS) < 5 * (1 / (6 * 600)) ** 0.5


def test_losses_give_what_answers_give_to_attacks_on_confidences(tmp_path):
    models = plant_models(n=400, models=9, classes=2)
    arrays = {"member": models.inside[0], "label": models.labels, "inside": models.inside[1:]}
    np.savez(tmp_path / "z.npz", z=models.logits[0], references=models.logits[1:], **arrays)
    np.savez(tmp_path / "loss.npz", loss=models.loss[0], references=models.loss[1:], **arrays)
    plan = Plan(attacks=("loss", *OF_NUMBERS), threat=ThreatModel())
    whole, single = (
        _areas(audit_signals(read_signals(tmp_path / f"{name}.npz"), plan=plan))
        for name in ("z", "loss")
    )
    # Of two classes the loss tells all, at any temperature
    for name in ("loss", *OF_NUMBERS):
        assert single[name] == pytest.approx(whole[name], abs=1e-3), name


def test_the_schedule_says_what_stored_references_lack(fleet):
    plan, _, stored = fleet
    asked = replace(plan, attacks=("lira", "lira_boundary", "lira_gradient_norm"))
    result = audit_signals(stored, plan=asked)
    why = {entry.attack: entry.why for entry in result.not_run}
    assert "search" in why["lira_boundary"] and "white_box" in why["lira_gradient_norm"]
    models = plant_models()
    number = _audit_number(models.logit, models)
    assert not {entry.attack for entry in number.not_run} & set(OF_NUMBERS)
    plan = Plan(attacks=("loss", "shokri"))
    stored = StoredSignals(
        "loss",
        models.loss[0][:, None],
        models.labels,
        models.inside[0],
        np.arange(240).astype(str),
        references=ReferenceOutputs(models.loss[1:], models.inside[1:]),
    )
    why = {entry.attack: entry.why for entry in audit_signals(stored, plan=plan).not_run}
    assert why["shokri"].startswith("Expected probabilities or logits for the attack shokri")


def test_a_policy_that_requires_references_is_satisfied(fleet):
    _, _, stored = fleet
    policy = replace(load_policy("demo"), references=MODELS)
    plan = Plan(
        policy=policy, assume_exchangeable=True, attacks=("gap", "loss", "confidence", "rmia")
    )
    assert not audit_signals(stored, plan=plan).limited
    without = audit_signals(replace(stored, references=None), plan=plan)
    assert "references" not in without.controls
    most = replace(plan, threat=ThreatModel(references=4))
    assert audit_signals(stored, plan=most).threat_models[-1].references == 4


def test_models_that_failed_to_train_are_left_out_by_accuracy(fleet):
    plan, _, stored = fleet
    plan = replace(plan, attacks=("loss", "lira"))
    answers = stored.references.outputs.copy()
    answers[2] = -answers[2]
    broken = replace(stored, references=ReferenceOutputs(answers, stored.references.inside))
    result = audit_signals(broken, plan=plan)
    assert result.diagnostics.references.failed == 1
    assert result.controls["references"].passed
    # Of a number, by the accuracy that training measured
    models = plant_models()
    accuracy = np.array([1.0, 0.99, 0.3, *[1.0] * 5])
    result = _audit_number(models.logit, models, train_accuracy=accuracy)
    assert result.diagnostics.references.failed == 1
    assert result.diagnostics.references.train_accuracy == pytest.approx(0.9985714)


def test_references_that_do_not_move_fail_their_control():
    models = plant_models(n=600)
    inside = models.inside.copy()
    # Membership of other records: nothing moves where training is said to have been
    inside[1:] = np.random.default_rng(1).permutation(inside[1:].T).T
    result = _audit_number(models.logit, replace(models, inside=inside))
    assert result.controls["references"].passed is False
    assert "inside is not whom they were trained on" in result.controls["references"].why
    assert _audit_number(models.logit, models).controls["references"].passed


def test_designs_by_coins_leave_out_the_few_records_that_lack_models():
    models = plant_models(n=400, models=9)
    coins = np.random.default_rng(2).random((8, 400)) < 0.5
    stored = StoredSignals(
        "loss",
        models.loss[0][:, None],
        models.labels,
        models.inside[0],
        np.arange(400).astype(str),
        references=ReferenceOutputs(models.loss[1:], coins),
    )
    result = audit_signals(stored, plan=Plan(attacks=("loss", "lira")))
    lacking = int(((coins.sum(axis=0) < 2) | (coins.sum(axis=0) > 6)).sum())
    assert lacking > 0 and len(result.arrays.member) == 400 - lacking
    assert f"Left out {lacking} of 400 records" in " ".join(result.diagnostics.notes)
    assert "lira" in _areas(result)


def test_a_design_that_tells_membership_is_noted():
    models = plant_models(n=400, models=8)
    # With the target each record is in exactly four of the eight models
    rng = np.random.default_rng(0)
    ranks = rng.random((7, 400)).argsort(axis=0)
    inside = ranks < 4 - models.inside[0]
    stored = StoredSignals(
        "loss",
        models.loss[0][:, None],
        models.labels,
        models.inside[0],
        np.arange(400).astype(str),
        references=ReferenceOutputs(models.loss[1:], inside),
    )
    result = audit_signals(stored, plan=Plan(attacks=("loss", "rmia")))
    assert "a member was trained into 3 of them on average" in " ".join(result.diagnostics.notes)


def test_units_that_references_tear_apart_are_refused(fleet):
    _, _, stored = fleet
    torn = replace(stored, unit=np.array([f"u{k // 4}" for k in range(2 * N)]))
    with pytest.raises(InputError, match="Expected all records of a unit in the same"):
        audit_signals(torn)


def _run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["memberscope", *words])
    with pytest.raises(SystemExit) as stopped:
        run()
    return stopped.value.code


@pytest.mark.parametrize(
    ("write", "attacks"),
    [
        (write_lira, "lira,rmia,attack_r"),
        (write_privacy_meter, "lira,rmia,base"),
        (write_leakpro, "lira,calibrated,attack_r"),
    ],
)
def test_one_command_audits_what_other_tools_left(tmp_path, write, attacks, monkeypatch, capsys):
    folder = write(tmp_path / "logs", plant_models(n=400))
    out = tmp_path / "out"
    options = ["--attacks", f"loss,{attacks}", "--out", str(out), "--no-history"]
    assert _run(monkeypatch, "audit", "--signals", str(folder), *options) == 0
    document = json.loads((out / "result.json").read_text())
    found = {entry["attack"] for entry in document["estimates"]}
    assert set(attacks.split(",")) <= found
    assert document["controls"]["references"]["passed"]
    assert document["diagnostics"]["references"]["models"] == 8
    assert _run(monkeypatch, "verify", str(out)) == 0
    assert _run(monkeypatch, "plan", "--signals", str(folder), *options[:2]) == 0
    assert attacks.split(",")[0] in capsys.readouterr().out


def test_audits_of_one_number_compare_and_resume(tmp_path, monkeypatch):
    models = plant_models(n=400)
    folders = []
    for place, scale in enumerate((1.0, 0.5)):
        path = tmp_path / f"{place}.npz"
        arrays = {"member": models.inside[0], "inside": models.inside[1:]}
        np.savez(path, gain=scale * models.logit[0], references=scale * models.logit[1:], **arrays)
        out = tmp_path / f"out{place}"
        command = ["audit", "--signals", str(path), "--number", "gain", "--attacks", "loss,lira"]
        command.append("--no-history")
        assert _run(monkeypatch, *command, "--higher", "member", "--out", str(out)) == 0
        folders.append(str(out))
    first = (tmp_path / "out0" / "arrays.safetensors").read_bytes()
    assert _run(monkeypatch, "compare", *folders) in (0, 1, 3)
    command = ["audit", "--signals", str(tmp_path / "0.npz"), "--number", "gain"]
    command += ["--attacks", "loss,lira", "--higher", "member", "--out", folders[0], "--no-history"]
    assert _run(monkeypatch, *command) == 0
    assert (tmp_path / "out0" / "arrays.safetensors").read_bytes() == first


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_stored_answers_without_classes_have_their_attacks(tmp_path, task):
    rng = np.random.default_rng(4)
    member = np.arange(2 * N) < N
    inside = rng.random((MODELS, 2 * N)).argsort(axis=0) < MODELS // 2
    truth = rng.normal(size=(2 * N, 2))
    if task == "multilabel":
        truth = (truth > 0).astype(float)
    guess = truth.mean() + rng.normal(size=truth.shape) * 0.1

    def answer(trained):
        moved = guess + 0.5 * trained[:, None] * (truth - guess)
        moved = moved + 0.05 * rng.normal(size=truth.shape)
        return moved if task == "regression" else np.clip(moved, 0.01, 0.99)

    path = tmp_path / "signals.npz"
    columns = {f"y_{k}": truth[:, k] for k in range(2)}
    columns |= {f"prediction_{k}": values for k, values in enumerate(answer(member).T)}
    references = np.stack([answer(row) for row in inside])
    np.savez(path, member=member, inside=inside, references=references, **columns)
    name = "lira_prediction" if task == "regression" else "lira_labels"
    plan = Plan(attacks=(name,), fprs=(0.1,))
    found = audit_signals(read_signals(path, task=task), plan=plan)
    area = next(e for e in found.estimates if (e.attack, e.metric) == (name, "auc"))
    assert area.low > 0.9
    assert found.controls["references"].passed
    np.savez(path, member=member, inside=inside, references=references[:, :, :1], **columns)
    with pytest.raises(InputError, match="Expected 2 outputs a record"):
        read_signals(path, task=task)
