"""Questions about a collection of a finished audit: answers, what they rest on, and refusals."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, numbers, planted_sides

import memberscope
from memberscope import Plan, ThreatModel
from memberscope.auditing import SetResult, audit_signals, set_test
from memberscope.auditing.documents.result import AttackScores, Control
from memberscope.auditing.verdict.recompute import digest_audit_arrays
from memberscope.errors import InputError
from memberscope.recipes import Execution
from memberscope.reports import load, print_set_result, read_set_result, write_all
from memberscope.targets import StoredSignals
from memberscope.types import Access

ROOT = Path(__file__).resolve().parents[2]
ATTACKS = ("gap", "loss", "entropy", "loss_per_class")


def audit_collection(
    shift, *, sizes=(300, 300), rows=1, attacks=ATTACKS, share=1.0, seed=0, **plan
):
    """Audit stored logits in which `share` of the members are higher by `shift`."""
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    member, labels = np.arange(n) < sizes[0], rng.integers(0, 2, n)
    used = member & (rng.random(n) < share)
    outputs = np.eye(2)[labels] * (rng.standard_normal(n) + shift * used)[:, None]
    unit = None if rows == 1 else np.array([f"u{i // rows}" for i in range(n)])
    signals = StoredSignals(
        "logits",
        outputs,
        labels,
        member,
        np.array([f"r{i}" for i in range(n)]),
        {},
        None,
        digest=str(seed),
        unit=unit,
    )
    given = {"assume_exchangeable": True} | plan
    return audit_signals(
        signals,
        plan=Plan(title="letters", threat=ThreatModel(Access.LOGITS), attacks=attacks, **given),
    )


@pytest.fixture(scope="module")
def used():
    return audit_collection(1.0)


@pytest.fixture(scope="module")
def unused():
    return audit_collection(0.0, seed=1)


@pytest.fixture(scope="module")
def with_targets():
    members, others = planted_sides(200)
    return memberscope.audit(
        Planted(numbers(members), 1, 1.0, 400),
        members,
        others,
        recipe=PlantedRecipe(1.0, 400),
        plan=Plan(attacks=("gap", "logit"), fprs=(0.1,), references=2, targets=3),
        threat=ThreatModel(Access.LOGITS),
        execution=Execution("sequential"),
    )


def change(result, **arrays):
    """The result with other arrays, as if the audit had written them."""
    changed = replace(result.arrays, **arrays)
    digests = result.digests | {"arrays": digest_audit_arrays(changed)}
    return result.model_copy(update={"arrays": changed, "digests": digests})


def change_control(result, name, passed):
    control = replace(result.controls[name], passed=passed, why="Because of a test.")
    return result.model_copy(update={"controls": result.controls | {name: control}})


def test_a_used_collection_is_shown_and_named(used):
    found = set_test(used)
    answer = found.find("used")
    assert answer.decision == "YES" and answer.withheld is None and answer.p_value == 0.001
    assert answer.low < answer.value < answer.high and answer.low > 0.3
    assert answer.statement.startswith("There is evidence that the model was trained on this")
    assert "paraphrases" in answer.assumption and "--assume-exchangeable" in answer.assumption
    assert [n for n, _ in answer.power] == [10, 20, 50, 100, 300]
    assert [share for _, share in answer.power] == sorted(share for _, share in answer.power)
    listed = found.find("list")
    assert listed.decision == "YES" and listed.value == len(found.named.ids) > 20
    assert f"{len(found.named.ids)} of the 300 records" in listed.statement
    assert (np.diff(found.named.p_values) >= 0).all() and found.named.unit is None


def test_learned_attacks_are_left_out(used):
    assert any(entry.attack == "loss_per_class" for entry in used.arrays.scored)
    assert not [name for name in set_test(used).attacks if name.startswith("loss_per_class")]


def test_one_attack_is_enough():
    answer = set_test(audit_collection(1.0, attacks=("loss",))).find("used")
    assert answer.decision == "YES" and answer.method.startswith("one-sided Welch t of loss@")


def test_an_unused_collection_is_not_called_used(unused):
    found = set_test(unused)
    assert [entry.decision for entry in found.answers] == ["NOT_SHOWN", "NOT_SHOWN"]
    assert "That is no evidence that it was not" in found.find("used").statement
    assert "paraphrases" not in found.find("used").assumption
    assert len(found.named.ids) == 0


def test_a_part_of_a_collection_is_found():
    found = set_test(audit_collection(4.0, share=0.2))
    assert [entry.decision for entry in found.answers] == ["YES", "YES"]
    assert 30 < found.find("list").value < 90


def test_answers_count_units():
    found = set_test(audit_collection(2.0, sizes=(200, 300), rows=5))
    assert (found.n_suspect_units, found.n_held_out_units) == (40, 60)
    assert found.find("used").n_units == 40 and "40 units" in found.find("used").statement
    # All records of a unit are named together
    assert found.named.unit is not None
    assert (np.bincount(found.named.unit)[np.unique(found.named.unit)] == 5).all()
    assert found.find("list").value == len(np.unique(found.named.unit))


def test_the_same_seed_gives_the_same_answers_in_any_company(used):
    first, again = set_test(used, seed=3), set_test(used, seed=3, questions=("list", "used"))
    assert first.find("used") == again.find("used") and first.find("list") == again.find("list")
    assert [entry.question for entry in again.answers] == ["list", "used"]


@pytest.mark.parametrize("name", ["null", "blind", "overlap"])
def test_an_answer_is_withheld_where_a_control_failed(used, name):
    found = set_test(change_control(used, name, False))
    for answer in found.answers:
        assert answer.decision == "WITHHELD"
        assert answer.withheld == f"The audit's control '{name}' failed. Because of a test."
        assert "evidence" not in answer.statement and answer.value is not None
    assert found.named is None


def test_an_answer_is_withheld_where_nothing_shows_one_source(used):
    found = set_test(audit_collection(1.0, assume_exchangeable=False))
    assert {entry.decision for entry in found.answers} == {"WITHHELD"}
    assert "--assume-exchangeable" in found.answers[0].withheld
    # A blind control that passed needs no declaration
    checked = set_test(change_control(used, "blind", True))
    assert "--assume-exchangeable" not in checked.find("used").assumption


def test_an_answer_is_withheld_where_the_held_out_halves_differ(used):
    from memberscope.auditing.scoring import find_pseudo_members

    chosen = find_pseudo_members(used.arrays)
    scored = tuple(replace(entry, scores=entry.scores + 3 * chosen) for entry in used.arrays.scored)
    found = set_test(change(used, scored=scored, null_draw=chosen))
    control = next(entry for entry in found.controls if entry.name == "held_out")
    assert control.passed is False and control.p_value < 0.005
    assert found.find("used").withheld == control.why


def test_the_held_out_control_seldom_fails_without_a_difference():
    from memberscope.auditing.sets.evidence import collect_set_evidence
    from memberscope.auditing.sets.withheld import check_held_out

    failed = 0
    result = audit_collection(0.0, sizes=(20, 60))
    rng = np.random.default_rng(0)
    for _ in range(15):
        scored = tuple(
            replace(entry, scores=rng.standard_normal(80)) for entry in result.arrays.scored
        )
        evidence = collect_set_evidence(change(result, scored=scored))
        failed += check_held_out(evidence, rng).passed is False
    assert failed <= 1


def test_further_targets_bound_the_share(with_targets):
    found = set_test(with_targets)
    answer = found.find("not_used")
    assert answer.decision == "YES" and answer.low < 1 < answer.high + 0.3
    assert "at least" in answer.statement and "3 further models" in answer.method


def test_a_collection_that_was_not_used_is_cleared(with_targets):
    arrays = with_targets.arrays
    rng = np.random.default_rng(0)
    order = rng.permutation(len(arrays.member))
    # Which half was trained on is drawn anew, so that half of either side was
    scored = tuple(replace(entry, scores=entry.scores[order]) for entry in arrays.scored)
    mixed = change(with_targets, scored=scored)
    answer = set_test(mixed, questions=("not_used",), margin=0.6).find("not_used")
    assert answer.decision == "NO" and answer.p_value < 0.05 and answer.high < 0.6
    assert answer.statement.startswith(
        "The model was not trained on 60% or more of this collection"
    )
    swapped = change_control(mixed, "direction", False)
    assert set_test(swapped, questions=("not_used",)).answers[0].decision == "WITHHELD"


def test_what_cannot_be_said_without_known_members_is_said(unused):
    answer = set_test(unused, questions=("not_used",)).find("not_used")
    assert answer.decision == "NOT_RUN" and "--targets 2" in answer.statement
    assert answer.value is None and answer.withheld is None


def test_the_document_fits_its_schema_and_reads_back(used, tmp_path):
    found = set_test(used)
    found.save(tmp_path)
    document = json.loads((tmp_path / "set-result.json").read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "schema/set-result.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    assert document["digests"]["arrays"] == used.digests["arrays"]
    again = read_set_result(tmp_path)
    assert again.answers == found.answers and again.named is None
    assert "r0" not in (tmp_path / "set-result.json").read_text(encoding="utf-8")


def test_the_schema_in_the_repository_is_current():
    from memberscope.reports import set_result_schema

    kept = json.loads((ROOT / "schema/set-result.schema.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(set_result_schema())), "run `make schema`"


def test_the_list_is_for_its_owner_alone_and_goes_with_its_reason(used, tmp_path):
    found = set_test(used)
    found.save(tmp_path)
    file = tmp_path / "named.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,hash,p_value" and len(lines) == 1 + len(found.named.ids)
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    set_test(change_control(used, "null", False)).save(tmp_path)
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format"', "Expected complete JSON in"),
        ('{"format": "memberscope-result/2"}', "got 'memberscope-result/2'. Run `memberscope set-"),
        (
            '{"format": "memberscope-set-result/1"}',
            "Expected answers as the schema says, got Field",
        ),
    ],
)
def test_a_broken_document_is_one_sentence(tmp_path, text, words):
    (tmp_path / "set-result.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_set_result(tmp_path)


def test_too_few_units_are_refused(unused):
    with pytest.raises(InputError, match=r"at least 20 held-out records .* got 15"):
        set_test(audit_collection(0.0, sizes=(40, 15)))
    # An audit refuses so few, and a file may say otherwise
    with pytest.raises(InputError, match=r"at least 10 records, got 8"):
        set_test(change(unused, member=np.arange(600) < 8))


def test_scores_that_are_missing_broken_or_of_another_audit_are_refused(used, unused):
    with pytest.raises(InputError, match="got a result without them"):
        set_test(used.model_copy(update={"arrays": None}))
    with pytest.raises(InputError, match="got others in arrays"):
        set_test(used.model_copy(update={"arrays": unused.arrays}))
    scores = used.arrays.scored[0].scores.astype(float)
    scores[4] = np.nan
    broken = replace(used.arrays.scored[0], scores=scores)
    with pytest.raises(InputError, match=r"finite scores of gap@label, got NaN .* for 1 of 600"):
        set_test(change(used, scored=(broken, *used.arrays.scored[1:])))
    learned = tuple(entry for entry in used.arrays.scored if entry.learned)
    with pytest.raises(InputError, match="got loss_per_class alone"):
        set_test(change(used, scored=learned))


def test_attacks_of_references_that_failed_are_left_out(with_targets):
    plain = set_test(with_targets)
    scored = AttackScores(
        "lira", "logits", False, np.random.default_rng(0).standard_normal(400), {}
    )
    arrays = with_targets.arrays
    posterior = arrays.posterior | {scored.name: np.zeros(400)}
    more = change(with_targets, scored=(*arrays.scored, scored), posterior=posterior)
    failed = Control(False, "They learned less.")
    more = more.model_copy(update={"controls": more.controls | {"references": failed}})
    assert set_test(more).attacks == plain.attacks


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fdr": 0.0}, "Expected fdr strictly between 0 and 1, got 0.0"),
        ({"margin": 1.5}, "Expected margin strictly between 0 and 1, got 1.5"),
        ({"significance": 5}, "Expected significance strictly between 0 and 1, got 5"),
        ({"seed": -1}, "Expected a seed of at least 0, got -1"),
        (
            {"questions": ("Used",)},
            "Expected the questions used, not_used, share, list, near, got 'Used'",
        ),
        ({"questions": ()}, "Expected at least one question"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(used, given, words):
    with pytest.raises(InputError, match=words):
        set_test(used, **given)


def test_a_folder_without_ids_gives_row_numbers_and_says_so(used, tmp_path):
    write_all(used, tmp_path, records=False)
    found = set_test(load(tmp_path))
    assert found.find("used") == set_test(used).find("used")
    assert "row numbers" in found.notes[0] and found.named.ids[0].isdigit()
    assert not set_test(used).notes


def test_a_truncated_file_of_scores_is_one_sentence(used, tmp_path):
    write_all(used, tmp_path)
    file = tmp_path / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="Expected the complete arrays of an audit"):
        load(tmp_path)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_screen_says_everything_once(used, columns):
    import io

    from rich.console import Console

    stream = io.StringIO()
    print_set_result(set_test(used), Console(file=stream, width=columns))
    text = " ".join(stream.getvalue().split())
    assert max(map(len, stream.getvalue().splitlines())) <= columns
    for words in ("Was the collection used? YES", "Can any of it be named as used? YES"):
        assert text.count(words) == 1
    assert text.count("This holds if the held-out records") == 1
    assert "control held_out passed" in text


def test_a_set_result_is_public():
    assert memberscope.set_test is set_test and memberscope.SetResult is SetResult
