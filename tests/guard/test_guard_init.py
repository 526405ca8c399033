"""From an audit to a guard's policy.

The least restrictive outputs that it shows to be safe, or a reason why there are none.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import typer
from commands import run_command
from guarded import ROWS, guarded
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner
from unruly import Unruly, model, serving

import memberscope
from memberscope.attacks import find_attacks
from memberscope.auditing import Claim, Plan, Policy, judge_again
from memberscope.auditing.defend.frontier import Frontier
from memberscope.auditing.documents.policy import AucClaim, EpsilonClaim
from memberscope.auditing.verdict import full_attack_set as full
from memberscope.cli.guard import init as guard_init
from memberscope.errors import InputError, MemberscopeError
from memberscope.guard import parse_guard_policy, read_policy
from memberscope.guard.hashing.secret_key import create_key_file, read_secrets
from memberscope.guard.identity.client_classes import Classes
from memberscope.guard.policy.measured_level import find_looser_classes
from memberscope.outputs.chain import parse_restriction
from memberscope.outputs.fitted_file import load_fitted, with_fitted
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.ordering import build_restrictiveness_key, can_derive_answers
from memberscope.policygen.candidates import (
    Measurement,
    build_candidate,
    build_frontier_evidence,
    build_result_evidence,
    choose_served_outputs,
    read_evidence,
)
from memberscope.policygen.guard_evidence import Candidate, GuardEvidence, MeasuredBound
from memberscope.policygen.guard_toml import draft_policy
from memberscope.reports import read_result, read_verified, read_verified_frontier, write_all
from memberscope.reports.page.access_matrix import build_matrix
from memberscope.targets import FunctionTarget
from memberscope.types import Access, ThreatModel
from memberscope.wire.batch import Batch
from memberscope.wire.endpoint import Endpoint

X = np.array(ROWS["records"])
N, K = 300, 5
PLAN = Plan(
    title="shop", attacks=("gap", "boundary", "confidence"), fprs=(0.1,), search_queries=16, seed=1
)
ROOMY, TIGHT = Policy("roomy", (Claim(0.1, 0.3),)), Policy("tight", (Claim(0.1, 0.101),))
FEW = ("gap", "boundary", "confidence")
app = typer.Typer()
app.command("init")(guard_init.write_guard_policy)
app.command("fit")(guard_init.fit_guard_defences)


def call(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, [str(entry) for entry in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, " ".join(found.output.split())


WEIGHTS = np.random.default_rng(50).normal(size=(6, K))


def sides():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * N, 6))
    y = (x @ WEIGHTS + 0.5 * rng.gumbel(size=(2 * N, K))).argmax(axis=1)
    return (x[:N], y[:N]), (x[N:], y[N:])


def served(leak: float) -> FunctionTarget:
    """A linear model that is nearly sure of its top class, `leak` times nearer for its members.

    Rounded, all are alike.
    """
    (members, _), _ = sides()
    known = {row.tobytes() for row in members}

    def answer(x):
        x = np.ascontiguousarray(x, dtype=np.float64)
        inside = np.array([row.tobytes() in known for row in x])
        doubt = 1e-3 * (1 + np.modf(np.abs(1e4 * x.sum(axis=1)))[0]) / np.where(inside, leak, 1.0)
        p = np.tile(doubt[:, None] / (K - 1), (1, K))
        p[np.arange(len(x)), (x @ WEIGHTS).argmax(axis=1)] = 1 - doubt
        return p

    return FunctionTarget(answer, n_classes=K)


def audited(folder: Path, model, plan: Plan = PLAN, policy: Policy | None = ROOMY) -> Path:
    write_all(memberscope.audit(model, *sides(), plan=plan, policy=policy), folder)
    return folder


@pytest.fixture
def few(monkeypatch):
    """Tests that are about something else take three attacks for the full set."""
    monkeypatch.setattr(
        full, "list_attacks", lambda task: {attack.name: attack for attack in find_attacks(FEW)}
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("audits")
    overfitted = DecisionTreeClassifier(random_state=0).fit(*sides()[0])
    return {
        "clean": audited(base / "clean", served(1.0)),
        "digits": audited(base / "digits", served(30.0)),
        "tight": audited(base / "tight", served(1.0), policy=TIGHT),
        "tree": audited(
            base / "tree", overfitted, replace(PLAN, fprs=(0.6,)), Policy("p", (Claim(0.6, 0.75),))
        ),
    }


def test_a_model_that_leaks_nothing_is_served_as_it_is(few, folders, tmp_path):
    code, said = call("init", "--from", folders["clean"], "--out", tmp_path / "guard.toml")
    assert (
        code == 0
        and said.startswith("none meets every limit: at most ")
        and "Edit [serving]" in said
    )
    policy = read_policy(tmp_path / "guard.toml")
    assert policy.default.restrict == "none" and (
        policy.default.per_record.n,
        policy.default.per_record.seconds,
    ) == (
        16,
        365 * 86400,
    )
    assert policy.measured.upper <= policy.measured.limit == 0.3 and policy.measured.fpr == 0.1


def test_the_least_restrictive_outputs_that_keep_the_limit_are_taken(few, folders, tmp_path):
    """The leak is in the third and further decimals.

    Fewer classes do not hide it, two decimals do.
    """
    code, said = call(
        "init", "--from", folders["digits"] / "result.json", "--out", tmp_path / "guard.toml"
    )
    assert code == 0, said
    policy = read_policy(tmp_path / "guard.toml")
    assert (
        policy.default.restrict == "round:2"
        and Classes(policy).defence("default").name == "round:2"
    )
    text = (tmp_path / "guard.toml").read_text()
    outcomes = {line.split()[1]: line for line in text.splitlines() if line.startswith("#   ")}
    assert [name for name in outcomes] == ["none", "top:3", "top:1", "round:2", "label"]
    assert [line.split(":")[-1].split()[0] for line in outcomes.values()] == [
        "breaks",
        "breaks",
        "breaks",
        "meets",
        "meets",
    ]
    assert policy.measured.result in text.splitlines()[1]


def test_the_measured_limit_is_the_audits_own(few, folders):
    result = read_result(folders["digits"])
    evidence = read_evidence(folders["digits"])
    rows = {
        (e.access, e.restriction): e
        for e in result.estimates
        if (e.attack, e.metric, e.fpr, e.group) == ("strongest", "tpr", 0.1, None)
    }
    found = {entry.restrict: entry.bounds[0] for entry in evidence.candidates}
    assert found["label"].high == rows["label", None].high
    assert found["round:2"].high == max(
        rows["probabilities", "round:2"].high, rows["label", None].high
    )
    assert found["none"].high == max(entry.high for entry in rows.values())


def test_labels_that_leak_too_much_leave_no_policy(few, folders, tmp_path):
    code, said = call("init", "--from", folders["tree"], "--out", tmp_path / "guard.toml")
    assert code == 1 and "No policy was written. Even labels alone exceed the limit of 75%" in said
    assert not (tmp_path / "guard.toml").exists()


def test_what_is_not_shown_leaves_no_policy(few, folders, tmp_path):
    code, said = call("init", "--from", folders["tight"], "--out", tmp_path / "guard.toml")
    assert code == 1 and "It is not shown that labels alone keep the limit of 10.1%" in said
    assert not (tmp_path / "guard.toml").exists()


@pytest.mark.parametrize(
    ("changed", "policy", "sentence"),
    [
        ({}, None, "was judged by no policy"),
        ({"search_queries": 0}, ROOMY, "Labels alone were not searched"),
        ({"attacks": ("gap", "logit")}, ROOMY, "Labels alone were not searched"),
        ({}, Policy("p", (Claim(0.1, 0.3),), ("lira",)), "The policy requires the attack lira."),
        (
            {"threat": ThreatModel(access=Access.LABEL), "attacks": ("gap",)},
            ROOMY,
            "Labels alone were not searched",
        ),
    ],
)
def test_an_audit_that_leaves_something_open_decides_nothing(
    few, tmp_path, changed, policy, sentence
):
    folder = audited(tmp_path / "audit", served(1.0), replace(PLAN, **changed), policy)
    code, said = call("init", "--from", folder, "--out", tmp_path / "guard.toml")
    assert code == 3 and said.startswith("No policy was written.") and sentence in said
    assert not (tmp_path / "guard.toml").exists()


def test_a_control_that_failed_decides_nothing(few, tmp_path):
    """Members come from somewhere else, so that a classifier of records alone finds them."""
    members, others = sides()
    moved = (members[0] + np.array([2.0, 0, 0, 0, 0, 0]), members[1])
    write_all(
        memberscope.audit(served(1.0), moved, others, plan=PLAN, policy=ROOMY), tmp_path / "audit"
    )
    code, said = call("init", "--from", tmp_path / "audit", "--out", tmp_path / "guard.toml")
    assert (
        code == 3
        and "cannot be told apart without the model" in said
        and not (tmp_path / "guard.toml").exists()
    )


@pytest.mark.parametrize("control", ["null", "blind", "references"])
def test_no_control_is_forgotten(few, folders, control):
    result, arrays = read_verified(folders["clean"])
    template = next(finding for finding in result.findings if finding.attack == "null")
    kept = [finding for finding in result.findings if finding.attack != control]
    failed = replace(template, attack=control, verdict="INCONCLUSIVE", rule="it failed.")
    changed = result.model_copy(update={"findings": [*kept, failed], "arrays": arrays})
    assert (
        choose_served_outputs(build_result_evidence(changed, folders["clean"] / "result.json")).code
        == 3
    )


def raised_limit(document):
    """A limit that the tight policy's numbers keep, with findings as if they had passed."""
    document["plan"]["policy"]["max_tpr"] = [{"fpr": 0.1, "tpr": 0.9}]


def lowered(document):
    """Numbers of the strongest attack that keep the limit."""
    for entry in document["estimates"]:
        if entry["attack"] == "strongest":
            entry["high"] = min(entry["high"], 0.05)


def passed(document):
    for finding in document["findings"]:
        finding["verdict"] = "PASS"
    document["verdict"] = "PASS"


@pytest.mark.parametrize("forge", [raised_limit, lowered, passed])
def test_a_forged_result_is_refused(folders, tmp_path, forge):
    shutil.copytree(folders["tight"], tmp_path / "audit")
    document = json.loads((tmp_path / "audit/result.json").read_text())
    forge(document)
    (tmp_path / "audit/result.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"Expected a result that .* Run the audit again\."):
        call("init", "--from", tmp_path / "audit", "--out", tmp_path / "guard.toml")
    assert not (tmp_path / "guard.toml").exists()
    (tmp_path / "audit/arrays.safetensors").unlink()
    with pytest.raises(InputError, match=r"Expected an arrays\.safetensors"):
        call("init", "--from", tmp_path / "audit/result.json", "--out", tmp_path / "guard.toml")


def test_what_the_full_set_has_not_attacked_is_not_written(folders, tmp_path):
    code, said = call("init", "--from", folders["clean"], "--out", tmp_path / "guard.toml")
    assert (
        code == 3
        and "none was not measured with the full set of attacks:" in said
        and "quantile" in said
    )
    assert not (tmp_path / "guard.toml").exists()


def confident_by_class():
    """Rounded to two decimals members show one more unit than others of their class.

    Classes differ by far more than that.
    """
    rng = np.random.default_rng(3)
    y = rng.integers(0, 4, 600)
    x = rng.normal(size=(600, 6))
    x[:, 0] = np.arange(600)
    inside = rng.permutation(600) < 300

    def answer(asked):
        row = np.round(np.asarray(asked)[:, 0]).astype(int)
        known = (row >= 0) & (row < 600)
        row = np.clip(row, 0, 599)
        top = 0.6 + 0.1 * y[row] + 0.03 * (inside[row] & known)
        p = np.repeat(((1 - top) / 3)[:, None], 4, axis=1)
        p[np.arange(len(p)), y[row]] = top
        return p

    model = FunctionTarget(answer, n_classes=4)
    return model, (x[inside], y[inside]), (x[~inside], y[~inside])


def test_a_restriction_that_an_attack_which_learns_breaks_is_not_served(monkeypatch, tmp_path):
    """One threshold for all finds few.

    A threshold for each class finds everybody, behind two decimals too.
    """
    names = ("gap", "boundary", "confidence", "confidence_per_class")
    monkeypatch.setattr(
        full, "list_attacks", lambda task: {attack.name: attack for attack in find_attacks(names)}
    )
    plan = replace(
        PLAN,
        attacks=names,
        restrictions=("round:2",),
        assume_exchangeable=True,
        assume_class_order=True,
    )
    result = memberscope.audit(*confident_by_class(), plan=plan, policy=ROOMY)
    rows = {
        (e.attack, e.restriction): e.value
        for e in result.estimates
        if (e.metric, e.fpr, e.group) == ("tpr", 0.1, None)
    }
    assert rows["confidence", "round:2"] < 0.3 < 0.9 < rows["confidence_per_class", "round:2"]
    write_all(result, tmp_path / "audit")
    evidence = read_evidence(tmp_path / "audit")
    found = {entry.restrict: entry for entry in evidence.candidates}
    assert found["round:2"].bounds[0].high > 0.9 and "meets" not in (
        found["round:2"].outcome,
        found["none"].outcome,
    )
    assert choose_served_outputs(evidence).candidate.restrict == "label"


def test_a_declared_budget_bounds_what_clients_may_ask(few, tmp_path):
    plan = replace(PLAN, search_queries=None, threat=ThreatModel(query_budget=20))
    folder = audited(tmp_path / "audit", served(1.0), plan)
    assert call("init", "--from", folder, "--out", tmp_path / "guard.toml")[0] == 0
    assert read_policy(tmp_path / "guard.toml").default.per_record.n == 20


def test_a_restriction_that_was_declared_is_the_most_that_is_served(few, tmp_path):
    plan = replace(PLAN, threat=ThreatModel(restriction="top:3"))
    folder = audited(tmp_path / "audit", served(1.0), plan)
    assert call("init", "--from", folder, "--out", tmp_path / "guard.toml")[0] == 0
    assert read_policy(tmp_path / "guard.toml").default.restrict == "top:3"


def test_a_file_that_is_there_stays_without_a_word(few, folders, tmp_path):
    out = tmp_path / "guard.toml"
    out.write_text("mine")
    with pytest.raises(InputError, match="Expected a new file"):
        call("init", "--from", folders["clean"], "--out", out)
    assert out.read_text() == "mine"
    assert call("init", "--from", folders["clean"], "--out", out, "--force")[
        0
    ] == 0 and read_policy(out)
    with pytest.raises(InputError, match="holds none"):
        call("init", "--from", tmp_path / "nothing", "--out", tmp_path / "other.toml")


def evidence_of(**changed: object) -> GuardEvidence:
    bound = MeasuredBound(0.01, 0.03, 0.01, 0.02, "gap")
    labels = Candidate("label", "probabilities", (bound,), "meets")
    return replace(GuardEvidence("result.json", "00", "a", "b", 0.95, 3, 9, (labels,)), **changed)


@pytest.mark.parametrize(
    "declared",
    [
        Endpoint("http://h/", model_name="iris", classes=("no", 'ye"s'), answer="p"),
        Endpoint(
            "http://h/score",
            protocol="json",
            body='{"a": "$records", "token": "s3cret"}',
            n_classes=3,
            columns=("a", "b"),
        ),
        Endpoint("http://h/invocations", protocol="mlflow", n_classes=3, outputs="labels"),
    ],
)
def test_serving_is_what_the_audit_was_told(declared):
    found = evidence_of(endpoint=json.loads(json.dumps(declared.declaration)))
    if declared.body is not None and "s3cret" in declared.body:
        with pytest.raises(InputError, match="--config"):
            draft_policy(found, found.candidates[0], Path("."))
        given = draft_policy(found, found.candidates[0], Path("."), template=declared.body)
        assert tomllib.loads(given)["serving"]["body"] == declared.body
        declared = replace(declared, body='{"a": "$records", "raw": true}')
        found = evidence_of(endpoint=json.loads(json.dumps(declared.declaration)))
    text = draft_policy(found, found.candidates[0], Path("."))
    serving = tomllib.loads(text)["serving"]
    assert (
        "s3cret" not in text
        and serving["protocol"] == declared.protocol
        and serving["outputs"] == declared.outputs
    )
    assert serving.get("classes", []) == list(declared.classes or ()) and serving.get(
        "columns", []
    ) == list(declared.columns)
    assert serving.get("body") == declared.body
    assert serving.get("path") == ("/score" if declared.protocol == "json" else None)


@pytest.mark.parametrize(
    "restrict", ["noise:0.1:7+round:3", "memguard:1:300:undecided:7", "hamp_output:7"]
)
def test_the_seed_of_an_audit_stays_out_of_the_policy(restrict):
    chosen = replace(evidence_of().candidates[0], restrict=restrict)
    found = evidence_of(candidates=(chosen,))
    text = draft_policy(found, chosen, Path("."), key="guard.key")
    policy = parse_guard_policy(tomllib.loads(text))
    assert "7" not in text and policy.monitor.key == "guard.key"
    assert not find_looser_classes(policy) and policy.measured.level == policy.default.restrict
    # A measured level that was written by hand may have the seed still
    seeded = tomllib.loads(text)
    seeded["measured"]["level"] = restrict
    assert not find_looser_classes(parse_guard_policy(seeded))


def test_an_audit_of_noise_gives_a_guard_with_a_key_of_its_own(few, tmp_path):
    plan = replace(PLAN, threat=ThreatModel(restriction="noise:0.03:7"), restrictions=())
    folder = audited(tmp_path / "audit", served(1.0), plan)
    code, said = call("init", "--from", folder, "--out", tmp_path / "guard.toml")
    assert code == 0 and f"Its key is in {tmp_path / 'guard.key'}: keep it secret." in said
    policy = read_policy(tmp_path / "guard.toml")
    assert policy.default.restrict == "noise:0.03"
    defence = Classes(policy).defence("default")
    key = read_secrets(tmp_path / "guard.key")[0].derive_noise_key()
    assert defence == OutputNoise(0.03, key=key)
    assert (tmp_path / "guard.key").stat().st_mode & 0o777 == 0o600
    # The key that answers were given by is kept
    code, said = call("init", "--from", folder, "--out", tmp_path / "guard.toml", "--force")
    assert code == 0 and "Its key, which was there, is in" in said
    assert Classes(policy).defence("default") == defence


def test_a_title_writes_no_keys_of_its_own():
    found = evidence_of(title='a"\n[guard]\nmode = "observe"\n\x1b[2J\x7f', notes=("b\n[guard]",))
    text = draft_policy(found, found.candidates[0], Path("."))
    assert "guard" not in tomllib.loads(text) and "\x1b" not in text


@pytest.mark.parametrize(
    ("policy", "code", "sentence"),
    [
        (Policy("auc", max_auc=(AucClaim(0.7),)), 0, "none meets every limit: at most 0."),
        (Policy("auc", max_auc=(AucClaim(0.501),)), 1, "(No attack has an AUC above 0.501.) by"),
        (Policy("both", (Claim(0.1, 0.3),), max_auc=(AucClaim(0.501),)), 1, "AUC above 0.501"),
        (
            Policy("group", (Claim(0.1, 0.2, "class"),)),
            1,
            "It is not shown that labels alone keep the limit of 0.2",
        ),
        (Policy("proof", (Claim(0.1, 0.3),), max_epsilon=(EpsilonClaim(2.0),)), 3, "epsilon"),
        (
            Policy("models", (Claim(0.1, 0.3),), references=4),
            3,
            "requires 4 reference models and the audit used 0",
        ),
        (
            Policy("rate", (Claim(0.005, 0.9),)),
            3,
            "The blind control was not judged at 0.5% false positives",
        ),
        (Policy("limit", (Claim(0.1, 0.999),)), 1, "with no attack that could have exceeded it"),
    ],
)
def test_every_kind_of_claim_is_kept(few, folders, tmp_path, policy, code, sentence):
    result, arrays = read_verified(folders["clean"])
    plan = result.plan.model_copy(update={"policy": policy})
    found = judge_again(result.model_copy(update={"plan": plan}), arrays, policy)
    changed = result.model_copy(update={"plan": plan, "findings": found.findings, "arrays": arrays})
    choice = choose_served_outputs(build_result_evidence(changed, folders["clean"] / "result.json"))
    assert choice.code == code and sentence in choice.sentence, choice.sentence
    if choice.candidate is not None:
        text = draft_policy(
            build_result_evidence(changed, folders["clean"] / "result.json"),
            choice.candidate,
            tmp_path,
        )
        assert (
            parse_guard_policy(tomllib.loads(text)).measured.claim
            == "No attack has an AUC above 0.7."
        )
    if policy.references:
        assert (
            choose_served_outputs(
                build_result_evidence(
                    changed, folders["clean"] / "result.json", accept_limited=True
                )
            ).code
            == 0
        )


def test_a_level_at_which_nothing_ran_is_not_measured(few, tmp_path):
    plan = replace(PLAN, attacks=("gap", "boundary"), restrictions=("top:1",))
    folder = audited(tmp_path / "audit", served(1.0), plan)
    evidence = read_evidence(folder)
    assert {entry.restrict: entry.bounds == () for entry in evidence.candidates} == {
        "none": True,
        "top:1": True,
        "label": False,
    }
    assert choose_served_outputs(evidence).candidate.restrict == "label"
    text = draft_policy(evidence, choose_served_outputs(evidence).candidate, tmp_path)
    assert (
        "#   top:1 (probabilities): not measured" in text
        and "#   none (probabilities): not measured" in text
    )
    rows = {row.level: row.why for row in build_matrix(read_result(folder)).rows}
    assert (
        rows["probabilities top:1"] == rows["probabilities"] == "Not measured: no attack ran here."
    )


def test_every_level_below_must_keep_the_limit_too():
    """An attacker who sees three classes also sees the first.

    And one who sees that sees the label.
    """
    highs = {"none": 0.1, "top:3": 0.1, "top:1": 0.5, "round:2": 0.2, "label": 0.1}
    levels = {
        (name, "probabilities"): Measurement((MeasuredBound(0.1, 0.3, 0.0, high, "gap"),))
        for name, high in highs.items()
    }
    found = {name: build_candidate(name, "probabilities", levels).outcome for name in highs}
    assert found == {
        "none": "undecided",
        "top:3": "undecided",
        "top:1": "undecided",
        "round:2": "meets",
        "label": "meets",
    }


def test_telling_is_an_order_and_agrees_with_restrictiveness():
    names = [
        "none",
        "top:3",
        "top:1",
        "round:3",
        "round:1",
        "top:3+round:2",
        "top:1+round:1",
        "memguard:1",
        "memguard:1+top:1",
        "label",
    ]
    for a in names:
        assert (
            can_derive_answers(a, a)
            and can_derive_answers("none", a)
            and can_derive_answers(a, "label")
        )
        for b in names:
            if a != b and can_derive_answers(a, b):
                assert build_restrictiveness_key(a, 10) < build_restrictiveness_key(
                    b, 10
                ) and not can_derive_answers(b, a)
            for c in names:
                assert not (
                    can_derive_answers(a, b) and can_derive_answers(b, c)
                ) or can_derive_answers(a, c)


@pytest.mark.parametrize(
    "names",
    [
        ("top:3", "top:1"),
        ("round:3", "round:1"),
        ("top:3", "top:3+round:1"),
        ("round:2", "top:2+round:1"),
    ],
)
def test_what_is_said_to_follow_does(names):
    """From the answers behind the first, those behind the second."""
    more, less = map(parse_restriction, names)
    whole = np.random.default_rng(0).dirichlet(np.ones(6), 300)
    assert can_derive_answers(*names)
    again = less(more(whole))
    agree = np.isclose(again, less(whole), atol=1e-9, equal_nan=True).mean()
    assert agree > 0.9  # what is rounded twice is at times one unit off


MODULE = """
import numpy as np
from sklearn.tree import DecisionTreeClassifier
from memberscope import Records
from memberscope.recipes import SklearnRecipe

tree = SklearnRecipe(DecisionTreeClassifier(max_depth=2))

def target():
    data = np.load("members.npz")
    return tree(Records(data["x"], data["y"], data["y"].astype(str)), 0)
"""
CONFIG = """
[target]
model = "own:target"
[data]
members = "members.npz"
non_members = "others.npz"
[recipe]
train = "own:tree"
references = 4
jobs = 1
[defend]
defences = ["memguard:1", "depth:1", "label", "round:1"]
canaries = 0
[policy]
max_tpr = [{ fpr = 0.1, tpr = 0.6 }]
[audit]
attacks = ["gap", "boundary", "logit"]
folds = 3
out = "swept"
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "own.py").write_text(MODULE)
    (folder / "audit.toml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    for name in ("members", "others"):
        x = rng.normal(size=(240, 6))
        np.savez(
            folder / f"{name}.npz", x=x, y=(x[:, 0] + 0.5 * rng.normal(size=240) > 0).astype(int)
        )
    found = run_command("defend", "audit.toml", "--search-queries", "16", cwd=folder)
    assert found.returncode == 0, found.stderr
    assert (
        "memguard:1: what it fitted to its own model in swept/fitted-memguard-1.safetensors"
        in found.stdout
    )
    return folder / "swept"


def test_a_sweep_leaves_what_it_fitted(swept):
    found = load_fitted(swept / "fitted-memguard-1.safetensors")
    assert with_fitted(parse_restriction("memguard:1"), found, 2).digest.startswith("memguard:1@")
    assert [path.name for path in swept.glob("fitted-*")] == ["fitted-memguard-1.safetensors"]


def test_a_sweep_gives_a_policy_of_outputs_alone(swept, tmp_path):
    code, said = call("init", "--from", swept, "--out", tmp_path / "guard.toml")
    assert code == 0, said
    policy = read_policy(tmp_path / "guard.toml")
    assert (
        policy.default.restrict == "none"
        and policy.default.per_record.n == 16
        and policy.measured.upper <= 0.6
    )
    assert "depth:1 meets the policy, too, but changes training" in said


@pytest.fixture(scope="module")
def verified(swept):
    return read_verified_frontier(swept)


def changed_sweep(swept: Path, verified, change) -> GuardEvidence:
    """The evidence in a sweep with other rows than its audits give, past the verification."""
    frontier, audits = verified
    document = frontier.model_dump(mode="json")
    change(document, {row["name"]: row for row in document["rows"]})
    return build_frontier_evidence(
        Frontier.model_validate(document), audits["none"], swept / "frontier.json"
    )


def test_a_forged_sweep_is_refused(swept, tmp_path):
    shutil.copytree(swept, tmp_path / "a")
    document = json.loads((swept / "frontier.json").read_text())
    document["rows"][0]["average"]["high"] = 0.01
    (tmp_path / "a/frontier.json").write_text(json.dumps(document))
    with pytest.raises(
        InputError, match="Expected a sweep that its audits bear out, got another leakage of 'none'"
    ):
        call("init", "--from", tmp_path / "a", "--out", tmp_path / "guard.toml")
    assert not (tmp_path / "guard.toml").exists()


def test_a_fitted_choice_names_its_file(swept, verified, tmp_path):
    evidence = changed_sweep(
        swept, verified, lambda document, rows: rows["none"].update(meets="breaks")
    )
    chosen = choose_served_outputs(evidence).candidate
    assert any(
        "fit it to the served one with `memberscope guard fit --force`" in note
        for note in evidence.notes
    )
    create_key_file(tmp_path / "guard.key")
    (tmp_path / "guard.toml").write_text(draft_policy(evidence, chosen, swept, key="guard.key"))
    policy = read_policy(tmp_path / "guard.toml")
    assert policy.default.restrict == "memguard:1" and Classes(policy).defence(
        "default"
    ).digest.startswith("memguard:1@")


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (
            lambda document, rows: [row.update(meets="breaks") for row in rows.values()],
            1,
            "labels alone",
        ),
        (lambda document, rows: rows["label"].update(meets="undecided"), 1, "labels alone"),
        (lambda document, rows: document.update(policy=None), 3, "no policy"),
        (
            lambda document, rows: document["rows"].remove(rows["label"]),
            3,
            "Add label to --defences",
        ),
        (lambda document, rows: rows["none"]["controls"].update(null=False), 3, "null control"),
        (lambda document, rows: rows["none"]["controls"].update(blind=None), 3, "blind control"),
        (
            lambda document, rows: rows["none"]["controls"].update(references=False),
            3,
            "references control",
        ),
        (lambda document, rows: document.update(fpr=0.2), 3, "says nothing of 20%"),
    ],
)
def test_a_sweep_that_shows_nothing_gives_none(swept, verified, change, code, sentence):
    choice = choose_served_outputs(changed_sweep(swept, verified, change))
    assert choice.candidate is None and choice.code == code and sentence in choice.sentence


def test_a_sweep_without_its_audits_is_refused(swept, tmp_path):
    shutil.copy(swept / "frontier.json", tmp_path)
    with pytest.raises(InputError, match="audit of undefended training"):
        read_evidence(tmp_path)


POLICY = 'fitted = "f.safetensors"\n[monitor]\nkey = "guard.key"\n[serving]\nmodel_name = "m"\nn_classes = 3\n[default]\nrestrict = "{}"\n'


def test_fit_writes_what_the_policy_names(tmp_path):
    (tmp_path / "guard.toml").write_text(POLICY.format("memguard:1+hamp_output"))
    create_key_file(tmp_path / "guard.key")
    rng = np.random.default_rng(0)
    answers = rng.dirichlet(np.ones(3), 60)
    np.savez(
        tmp_path / "o.npz",
        outputs=answers,
        member=np.arange(60) < 30,
        random=rng.dirichlet(np.ones(3), 20),
    )
    code, said = call("fit", "--policy", tmp_path / "guard.toml", "--outputs", tmp_path / "o.npz")
    assert code == 0 and "Fitted memguard:1, memguard:1+hamp_output to 60 answers" in said
    defence = Classes(read_policy(tmp_path / "guard.toml")).defence("default")
    assert (
        defence(answers).shape == (60, 3)
        and (defence(answers).argmax(axis=1) == answers.argmax(axis=1)).all()
    )
    with pytest.raises(InputError, match="Expected a new file"):
        call("fit", "--policy", tmp_path / "guard.toml", "--outputs", tmp_path / "o.npz")


@pytest.mark.parametrize(
    ("policy", "arrays", "sentence"),
    [
        (POLICY.format("top:1"), {}, "Nothing else is fitted"),
        (POLICY.format("memguard:1").removeprefix('fitted = "f.safetensors"'), {}, "Add fitted"),
        (POLICY.format("hamp_output"), {}, "Add them as the array random"),
        (POLICY.format("memguard:1"), {"outputs": np.ones((4, 3))}, "do not sum to 1"),
        (
            POLICY.format("memguard:1"),
            {"outputs": np.full((4, 2), 0.5)},
            "Expected outputs of 3 classes",
        ),
        (
            POLICY.format("memguard:1"),
            {"member": np.arange(4)},
            "Expected member of zeros and ones",
        ),
        (POLICY.format("memguard:1"), {"member": np.ones(3, bool)}, "Expected outputs"),
        (POLICY.format("memguard:1"), {"member": np.ones(4, bool)}, "only one kind"),
        (
            POLICY.format("memguard:1"),
            {"outputs": np.array([None, 1], dtype=object)},
            "Expected plain arrays",
        ),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(tmp_path, policy, arrays, sentence):
    (tmp_path / "guard.toml").write_text(policy)
    create_key_file(tmp_path / "guard.key")
    usual = {"outputs": np.full((4, 3), 1 / 3), "member": np.array([0, 1, 0, 1])}
    np.savez(tmp_path / "o.npz", **(usual | arrays))
    with pytest.raises(MemberscopeError, match=sentence):
        call("fit", "--policy", tmp_path / "guard.toml", "--outputs", tmp_path / "o.npz")
    assert not (tmp_path / "f.safetensors").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {"model_name": "iris", "answer": "p"},
        {"protocol": "mlflow"},
        {"protocol": "json", "answer": "predictions", "body": '{"records": "$rows", "raw": true}'},
        {"protocol": "json", "answer": "predictions[0]", "body": '{"record": "$row"}'},
    ],
)
def test_the_audited_server_is_asked_through_the_drafted_policy_as_before(keys):
    path = "/score" if keys.get("protocol") == "json" else ""
    with serving(Unruly()) as upstream:
        declared = Endpoint(upstream + path, n_classes=3, **keys)
        found = evidence_of(endpoint=json.loads(json.dumps(declared.declaration)))
        rules = parse_guard_policy(
            tomllib.loads(draft_policy(found, found.candidates[0], Path(".")))
        )
        with guarded(upstream, rules) as guard:
            batch = Batch(X[:1] if declared.serving.one_by_one else X)
            place = urlsplit(declared.serving.address(declared.url)).path
            body = declared.serving.request(batch)
            answer = guard.ask("POST", place, body, {"content-type": "application/json"})
            assert answer.status == 200, answer.body
            labels = np.ravel(declared.serving.answers(answer.json)).astype(int)
            assert labels.tolist() == model(np.asarray(batch.array)).argmax(axis=1).tolist()
