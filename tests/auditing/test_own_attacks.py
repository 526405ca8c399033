"""Attacks and signals of a user's own: beside shipped ones, and never in their way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import memberscope
from memberscope.attacks import RMIA as ShippedRMIA
from memberscope.attacks import CustomSignal, LiRA, as_signal, find_attacks, wrap_attack
from memberscope.auditing import (
    add_own_attacks,
    load_attack_file,
    recompute_controls,
    verify_result,
)
from memberscope.auditing.documents import CustomDocument
from memberscope.errors import InputError, UnmetNeedError
from memberscope.reports import read_verified
from memberscope.types import Access, Evidence, Needs

ROOT = Path(__file__).resolve().parents[2]
N = 120
PLAN = memberscope.Plan(restrictions=(), fprs=(0.1,))
FILE = """
import numpy as np
from memberscope.attacks import CustomSignal
from memberscope.types import Needs

class Sure:
    name, needs, by = "sure", Needs(), 2.0
    def score(self, evidence, rng):
        return self.by * evidence.target[:, 0].max(axis=1)

def measure_gap(target, records):
    p = np.sort(target.query(records.x), axis=1)
    return p[:, -1] - p[:, -2]

gap = CustomSignal("top_gap", measure_gap, higher="member")
"""


class Own:
    """An attack whose name and scores are given."""

    needs = Needs()

    def __init__(self, name, give):
        self.name, self.give = name, give

    def score(self, evidence, rng):
        return self.give(evidence)


def read_own_class(evidence):
    return evidence.target[np.arange(len(evidence)), 0, evidence.labels]


def stand_in_model(x):
    """Probabilities that say who is a member: the first column of a record is its logit."""
    p = 1 / (1 + np.exp(-(1 - 2 * x[:, 1]) * (1 + x[:, 0])))
    return np.stack([p, 1 - p], axis=1)


def sides(shift=1.5):
    """Members and non-members; the second column is the class."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2 * N, 2))
    x[:N, 0] += shift
    x[:, 1] = y = rng.integers(0, 2, 2 * N)
    return (x[:N], y[:N].astype(int)), (x[N:], y[N:].astype(int))


def audit(**more):
    more = {"plan": PLAN, "n_classes": 2} | more
    return memberscope.audit(stand_in_model, *sides(), **more)


def test_own_attacks_run_beside_shipped_ones():
    found = audit(attacks=["loss", Own("first", read_own_class)])
    assert found.plan.attacks == ["loss", "first"]
    scores = {entry.attack: entry.scores for entry in found.arrays.scored}
    assert (np.argsort(scores["first"]) == np.argsort(scores["loss"])).all()
    assert any(e.attack == "first" and e.metric == "auc" for e in found.estimates)


def overwrite(evidence):
    evidence.target[:] = 0


FAILING = {
    "raises": (lambda evidence: 1 / 0, "got ZeroDivisionError: division by zero"),
    "shape": (lambda evidence: np.zeros(3), r"of shape \(240,\) from the attack shape, got \(3,\)"),
    "nan": (lambda evidence: np.full(len(evidence), np.nan), "NaN or infinity for 240 of 240"),
    "words": (lambda evidence: ["a"] * len(evidence), "Expected 240 numbers"),
    "nothing": (lambda evidence: None, r"of shape \(240,\)"),
    "writes": (overwrite, "read-only"),
}


def test_an_attack_that_fails_is_told_in_a_sentence_and_nothing_else_is_lost():
    own = [Own(name, give) for name, (give, _) in FAILING.items()]
    found, plain = audit(attacks=["loss", *own]), audit(attacks=["loss"])
    reasons = {entry.attack: entry.why for entry in found.not_run}
    for name, (_, words) in FAILING.items():
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(reasons[name])
        assert "\n" not in reasons[name]
    alone = [entry for entry in found.estimates if entry.attack == "loss"]
    assert alone == [entry for entry in plain.estimates if entry.attack == "loss"]
    assert found.controls == plain.controls
    assert verify_result(found, found.arrays).verdict == found.verdict


def test_a_signal_that_fails_is_told_in_a_sentence():
    wrong = {
        "short": (lambda target, records: np.zeros(3), "got (3,)"),
        "empty": (lambda target, records: np.full(len(records), np.inf), "infinity for 240 of 240"),
        "broken": (lambda target, records: records.nothing, "got AttributeError"),
        "greedy": (
            lambda target, records: target.query(records.x)[:, 0] + target.query(records.x)[:, 0],
            "at most 1 queries a record",
        ),
    }
    signals = [CustomSignal(name, measure, "member") for name, (measure, _) in wrong.items()]
    found = audit(attacks=["loss"], signals=signals)
    reasons = {entry.attack: entry.why for entry in found.not_run}
    for name, (_, words) in wrong.items():
        assert words in reasons[name] and "\n" not in reasons[name]
    # Without a recipe the attacks with reference models say so, as shipped ones do
    assert "Give a recipe" in reasons["lira_short"]


def test_a_signal_is_seen_at_its_access_and_in_its_direction():
    seen = []

    def measure(target, records):
        seen.append((target.signal, target.access, target.query(records.x).shape))
        return -records.x[:, 0]

    signal = CustomSignal("label_only", measure, higher="non_member", access=Access.LABEL)
    found = audit(attacks=[], signals=[signal])
    assert seen == [("labels", Access.LABEL, (2 * N, 1))]
    entry = next(e for e in found.arrays.scored if e.attack == "label_only")
    assert entry.access == "label" and entry.queries == 1
    np.testing.assert_array_equal(entry.scores, np.concatenate([s[0] for s in sides()])[:, 0])
    area = next(e for e in found.estimates if e.attack == "label_only" and e.metric == "auc")
    assert area.low > 0.6
    # One query for the answers, one for the signal, and what was asked twice
    assert found.cost.queries == 2 * 2 * N + 32


def test_signals_of_whole_answers_do_not_run_where_these_are_restricted():
    signal = CustomSignal("top", lambda target, records: target.query(records.x)[:, 0], "member")
    threat = memberscope.ThreatModel(restriction="round:1")
    found = audit(attacks=["gap"], signals=[signal], threat=threat)
    reasons = {entry.attack: entry.why for entry in found.not_run}
    assert "restricted to round:1" in reasons["top"]


def train_stand_in(records, seed):
    """A model that knows its own records by a shift of their first column."""
    own = {row.tobytes() for row in records.x}

    def answer(x):
        shift = np.array([row.tobytes() in own for row in x])
        return stand_in_model(x + np.stack([2.0 * shift, 0 * shift], axis=1))

    return memberscope.FunctionTarget(answer, n_classes=2)


def test_reference_attacks_run_on_a_signal_of_ones_own():
    def measure(target, records):
        p, rows = target.query(records.x), np.arange(len(records))
        return np.log(p[rows, records.y]) - np.log(p[rows, 1 - records.y])

    members, others = sides(0.0)
    records = memberscope.Records(members[0], members[1], np.arange(N).astype(str))
    found = memberscope.audit(
        train_stand_in(records, 0),
        members,
        others,
        plan=PLAN,
        attacks=["lira", "rmia"],
        signals=[CustomSignal("logit_again", measure, "member")],
        recipe=train_stand_in,
        references=4,
    )
    areas = {e.attack: e.value for e in found.estimates if e.metric == "auc" and e.group is None}
    # The same numbers as the shipped attacks read, up to the float32 of stored references
    assert areas["lira"] > 0.9 and areas["lira_logit_again"] == pytest.approx(
        areas["lira"], abs=1e-3
    )
    assert areas["rmia_logit_again"] == pytest.approx(areas["rmia"], abs=1e-2)
    ran = {entry.attack for entry in found.arrays.scored}
    assert {"lira_offline_logit_again", "lira_robust_logit_again", "logit_again"} <= ran


def test_a_stored_result_is_verified_without_the_code(tmp_path):
    plan = add_own_attacks(PLAN, ["loss", Own("first", read_own_class)])
    found = audit(plan=plan, policy="demo")
    found.save(tmp_path)
    code = f"""
from memberscope.reports import read_verified
result, arrays = read_verified({str(tmp_path)!r})
print(result.verdict, result.plan.custom[0].name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found.verdict, "first"]
    # What the attack needs cannot be changed in one of the two files
    changed = found.model_copy(update={"plan": found.plan.model_copy(update={"custom": None})})
    with pytest.raises(InputError):
        verify_result(changed, found.arrays)
    assert recompute_controls(found, found.arrays) == []


def test_a_plan_is_another_one_when_the_code_or_its_values_changed(tmp_path):
    def digest(text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        attacks, signals = load_attack_file(path)
        return add_own_attacks(PLAN, ["gap", *attacks], signals).digest()

    first = digest(FILE)
    assert digest(FILE) == first
    assert len({first, digest(FILE.replace("2.0", "3.0")), digest(FILE + "# more\n")}) == 3
    plans = [add_own_attacks(PLAN, [Own("own", read_own_class)]) for _ in range(2)]
    other = add_own_attacks(PLAN, [Own("own", lambda evidence: evidence.labels)])
    assert plans[0].digest() == plans[1].digest() != other.digest()
    assert PLAN.document().custom is None and "custom" not in PLAN.document().model_dump()
    # Restored from its document it is the same plan
    again = memberscope.Plan.restore(type(plans[0].document())(**plans[0].document().model_dump()))
    assert again.digest() == plans[0].digest()


def test_a_restored_attack_cannot_score():
    document = CustomDocument.of(wrap_attack(Own("own", read_own_class)))
    evidence = Evidence(
        "probabilities", np.full((2, 1, 2), 0.5), np.zeros(2, dtype=int), -np.ones(2, dtype=np.int8)
    )
    with pytest.raises(UnmetNeedError, match="Expected the code of the attack own"):
        document.restore(1).score(evidence, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("attacks", "words"),
    [
        ("gap", r"list of attacks, got the text 'gap'"),
        ([3], "with name, needs and score, got int without name, needs, score"),
        ([Own("gap", read_own_class)], "another name for an attack of your own than 'gap'"),
        ([Own("Bad name", read_own_class)], "lower case such as my_attack, got 'Bad name'"),
        ([Own("strongest", read_own_class)], "got 'strongest'"),
        ([Own("a", read_own_class), Own("a", len)], "different names of attacks, got 'a' twice"),
        (["no_such"], "Expected an attack among"),
        ([Own], "works without arguments, got Own"),
    ],
)
def test_what_is_no_attack_is_refused_in_a_sentence(attacks, words):
    with pytest.raises(InputError, match=words):
        add_own_attacks(PLAN, attacks)


def test_what_is_no_signal_is_refused_in_a_sentence():
    class Half:
        name, higher = "half", "member"

    for make, words in (
        (lambda: as_signal(Half()), "got Half without measure"),
        (lambda: CustomSignal("x", len, "up"), "'member' or 'non_member' for the signal x"),
        (lambda: CustomSignal("x", 3, "member"), "Expected a function"),
        (lambda: CustomSignal("x", len, "member", queries=0), "at least one query"),
    ):
        with pytest.raises(InputError, match=words):
            make()


def test_shipped_attacks_can_be_given_as_objects():
    plan = add_own_attacks(PLAN, [LiRA(), ShippedRMIA(gamma=1.5)])
    assert plan.attacks == ("lira", "rmia_gamma1.5")
    assert [attack.name for attack in plan.custom] == ["rmia_gamma1.5"]


def test_a_policy_may_require_an_attack_of_ones_own():
    policy = memberscope.auditing.parse_policy_table(
        {"max_tpr": [{"fpr": 0.1, "tpr": 0.9}], "require": ["first"]}
    )
    found = audit(attacks=["gap", Own("first", read_own_class)], policy=policy)
    assert found.verdict is not None
    with pytest.raises(InputError, match="Expected an attack among"):
        audit(attacks=["gap"], policy=policy)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.py", None, r"Expected a Python file \(.py\)"),
        ("mine.txt", FILE, r"Expected a Python file \(.py\)"),
        ("bad.py", "raise ValueError('no')", "got ValueError: no. Run the file"),
        ("syntax.py", "def", "got SyntaxError"),
        ("empty.py", "import numpy", "got neither. Define one"),
    ],
)
def test_a_file_without_attacks_is_refused_in_a_sentence(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        load_attack_file(tmp_path / name)


def test_attacks_of_an_installed_package(tmp_path):
    """A real distribution on the path, with its metadata, as an installer leaves it."""
    (tmp_path / "leakpack.py").write_text(FILE)
    info = tmp_path / "leakpack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leakpack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[memberscope.attacks]\nsure = leakpack:Sure\n"
        "[memberscope.signals]\ntop_gap = leakpack:gap\n"
    )
    code = """
from memberscope.attacks import list_attacks
from memberscope.auditing import Plan
print([name for name in list_attacks() if "sure" in name or "top_gap" in name])
print([entry.name for entry in Plan().document().custom])
"""
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    names, custom = done.stdout.splitlines()
    assert names == custom and "'sure'" in names and "'lira_top_gap'" in names
    (tmp_path / "leakpack.py").write_text("import no_such_module")
    done = subprocess.run(
        [sys.executable, "-c", "from memberscope.cli.main import run; run()", "list", "attacks"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2 and "Repair or uninstall leakpack." in done.stderr
    assert "Traceback" not in done.stderr


def test_find_attacks_prefers_the_plans_own_code():
    own = wrap_attack(Own("own", read_own_class))
    assert find_attacks(("gap", "own"), (own,))[1] is own
    with pytest.raises(InputError):
        read_verified("/nowhere")
