"""Audits of released tables: what leaks is found, what does not passes, what is odd is said."""

import numpy as np
import pytest

import memberscope
from memberscope.attacks.tables import ClosestRecord, Domias
from memberscope.errors import InputError
from memberscope.recipes import Execution
from memberscope.statistics import auc_value, roc
from memberscope.targets import ReleasedTable
from memberscope.types import Evidence, Records

pandas = pytest.importorskip("pandas")

HERE = Execution(backend="sequential")


def draw_rows(n, seed):
    """Rows of numbers, words and a truth value."""
    rng = np.random.default_rng(seed)
    return pandas.DataFrame(
        {
            "age": rng.normal(50, 10, n),
            "stay": rng.exponential(5, n),
            "ward": rng.choice(["eyes", "heart", "skin"], n),
            "smokes": rng.random(n) < 0.3,
        }
    )


def generate(records, seed, noise=0.05):
    """Rows of the records with a little noise on the numbers."""
    rng = np.random.default_rng(seed)
    made = records.x.iloc[rng.integers(0, len(records), len(records))].reset_index(drop=True)
    return made.assign(
        age=made["age"] + rng.normal(0, 10 * noise, len(made)),
        stay=made["stay"] + rng.normal(0, 5 * noise, len(made)),
    )


def generate_columns(records, seed):
    """Each column drawn by itself."""
    rng = np.random.default_rng(seed)
    return pandas.DataFrame(
        {name: rng.permutation(records.x[name].to_numpy()) for name in records.x.columns}
    )


MEMBERS, OTHERS, POPULATION = (draw_rows(300, seed) for seed in (1, 2, 3))
RECORDS = Records(MEMBERS, np.zeros(300), np.arange(300).astype(str))
LEAKY = generate(RECORDS, 5)


def find_value(result, attack, metric="auc", group=None):
    """The first estimate of an attack, over all records or in one group."""
    return next(
        entry
        for entry in result.estimates
        if (entry.attack, entry.metric, entry.group) == (attack, metric, group)
    )


@pytest.fixture(scope="module")
def audited():
    released = ReleasedTable(LEAKY, population=POPULATION)
    return memberscope.audit(
        released, MEMBERS, OTHERS, recipe=generate, references=4, execution=HERE, policy="demo"
    )


def test_a_table_of_slightly_changed_rows_fails(audited):
    assert audited.verdict == "FAIL"
    assert audited.plan.task == "table" and audited.plan.threat.access == "prediction"
    for attack in ("closest_record", "domias", "lira_offline_closest_record"):
        assert find_value(audited, attack).low > 0.6, attack
    ran = {entry.attack for entry in audited.estimates} - {"strongest"}
    assert len(ran) == 9, "every attack on tables ran"
    assert audited.controls["references"].passed and audited.controls["null"].passed


def test_its_outliers_are_a_group(audited):
    strongest = find_value(audited, "strongest", group="isolation=1: farthest tenth")
    assert strongest.n_members + strongest.n_non_members == 60
    assert strongest.value > 0.6


def test_tables_that_were_generated_in_another_way_are_no_references():
    released = ReleasedTable(LEAKY)
    found = memberscope.audit(
        released, MEMBERS, OTHERS, recipe=generate_columns, references=4, execution=HERE
    )
    control = found.controls["references"]
    assert not control.passed and "made in another way" in control.why
    assert "domias" in {entry.attack for entry in found.not_run}


def test_a_table_of_other_records_does_not_leak():
    """The mean area over many tables is one half, for each attack, within its standard error."""
    areas = []
    for seed in range(40):
        rows = draw_rows(300, 1000 + seed)
        released = ReleasedTable(rows[:100], population=rows[100:200])
        target = released.query(rows[200:])[:, None, :]
        member = np.random.default_rng(seed).permutation(100) < 50
        rest = np.zeros((100, 1)), np.full(100, -1, dtype=np.int8)
        evidence = Evidence("proximity", target, *rest)
        attacks = (ClosestRecord(), ClosestRecord("population"), Domias())
        rng = np.random.default_rng(0)
        areas.append([auc_value(roc(one.score(evidence, rng), member)) for one in attacks])
    error = np.std(areas, axis=0) / np.sqrt(40)
    assert (abs(np.mean(areas, axis=0) - 0.5) < 3 * error).all()


def test_copied_rows_are_counted_and_the_share_is_context():
    copied = pandas.concat([MEMBERS.iloc[:30], OTHERS.iloc[:2], draw_rows(268, 9)])
    found = memberscope.audit(ReleasedTable(copied), MEMBERS, OTHERS)
    notes = " ".join(found.diagnostics.notes)
    assert "30 of 300 released records equal a member in every column, and 2 equal" in notes
    assert "closer to a member than to a non-member" in notes and "no evidence of safety" in notes


@pytest.mark.parametrize(
    ("table", "members", "said"),
    [
        (MEMBERS.iloc[:0], MEMBERS, "released table of at least 2 rows, got 0"),
        (LEAKY.assign(height=1.0), MEMBERS, "got none named 'height'"),
        (LEAKY, MEMBERS.drop(columns="ward"), "'ward'"),
        (LEAKY, MEMBERS.assign(age="old"), "age"),
        (LEAKY, MEMBERS.iloc[:0], "Expected members, got an empty set"),
        (LEAKY, (MEMBERS, np.zeros(300)), "as a table, got a pair"),
        (LEAKY, OTHERS, "the same 300 records as members and as non-members"),
    ],
)
def test_bad_input_is_one_sentence(table, members, said):
    with pytest.raises(InputError, match=said) as found:
        memberscope.audit(ReleasedTable(table), members, OTHERS)
    assert len(str(found.value)) < 400


def test_a_recipe_that_makes_no_such_table_is_told():
    found = memberscope.audit(
        ReleasedTable(LEAKY),
        MEMBERS,
        OTHERS,
        recipe=lambda records, seed: records.x[["age"]],
        references=2,
        execution=HERE,
    )
    said = " ".join(entry.why for entry in found.not_run)
    assert "return a table like the released one" in said and "named 'stay'" in said
