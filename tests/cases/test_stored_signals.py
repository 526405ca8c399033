"""Stored signals as people write them.

Read right and said in the notes, or refused with a sentence that works.
"""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from memberscope.auditing import Plan, audit_signals
from memberscope.cli.main import app
from memberscope.errors import InputError
from memberscope.targets import read_signals

N, K = 600, 3
RNG = np.random.default_rng(0)
MEMBER = np.arange(N) < N // 2
LABEL = RNG.integers(0, K, N)
MARGIN = 2.0 * np.eye(K)[LABEL] * np.where(MEMBER, 1.5, 0.7)[:, None] + RNG.normal(size=(N, K))
P = np.exp(MARGIN) / np.exp(MARGIN).sum(axis=1, keepdims=True)
LOSS = -np.log(P[np.arange(N), LABEL])
CLASSES = np.array(["cat", "dog", "emu"])
NUMBERED = {f"p{k}": P[:, k] for k in range(K)}
FAST = Plan(attacks=("gap", "loss"))


def written(path, columns, n=N):
    """A CSV of these columns."""
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(columns)
        rows.writerows(zip(*[np.asarray(column)[:n] for column in columns.values()], strict=True))
    return path


def read(tmp_path, columns, **given):
    return read_signals(written(tmp_path / "s.csv", columns), **given)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        *[
            ("True", "False"),
            ("yes", "no"),
            ("Y", "N"),
            ("t", "f"),
            ("in", "out"),
            ("1.0", "0.0"),
            (" 1", "0 "),
        ],
        *[("TRUE", "FALSE"), ("member", "non-member")],
    ],
)
def test_membership_in_words(tmp_path, inside, outside):
    found = read(
        tmp_path, {"member": np.where(MEMBER, inside, outside), "label": LABEL, **NUMBERED}
    )
    np.testing.assert_array_equal(found.member, MEMBER)


@pytest.mark.parametrize(
    "values", [MEMBER, MEMBER.astype(float), MEMBER.astype("S"), np.where(MEMBER, b"yes", b"no")]
)
def test_membership_of_arrays(tmp_path, values):
    np.savez(tmp_path / "s.npz", member=values, label=LABEL, p=P)
    np.testing.assert_array_equal(read_signals(tmp_path / "s.npz").member, MEMBER)


def test_membership_from_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"member": MEMBER, "label": CLASSES[LABEL], **NUMBERED}), tmp_path / "s.parquet"
    )
    found = read_signals(tmp_path / "s.parquet")
    np.testing.assert_array_equal(found.member, MEMBER)
    np.testing.assert_array_equal(found.labels, LABEL)
    holes = pa.array([None, *MEMBER[1:].tolist()])
    parquet.write_table(
        pa.table({"member": holes, "label": LABEL, **NUMBERED}), tmp_path / "s.parquet"
    )
    with pytest.raises(InputError, match="got '' in row 1"):
        read_signals(tmp_path / "s.parquet")


@pytest.mark.parametrize("odd", ["maybe", "2", "", "nan", "-1", "0.5"])
def test_other_membership_is_refused_by_row(tmp_path, odd):
    words = MEMBER.astype(int).astype(str).astype(object)
    words[6] = odd
    with pytest.raises(
        InputError, match=f"got '{odd or 'nan'}' in row 7"
    ):  # an empty field is a missing number
        read(tmp_path, {"member": words, "label": LABEL, **NUMBERED})


def two(**columns):
    return {"member": MEMBER.astype(int), "label": (LABEL > 0).astype(int), **columns}


ODD_NAMES = [
    (
        {"is_member": MEMBER, "y_true": LABEL, **NUMBERED},
        P,
        ("is_member as member", "y_true as label"),
    ),
    ({"Membership": MEMBER, "target": LABEL, **NUMBERED}, P, ("Membership as member",)),
    (
        {
            "member": MEMBER,
            "label": CLASSES[LABEL],
            **{f"prob_{c}": P[:, k] for k, c in enumerate(CLASSES)},
        },
        P,
        (),
    ),
    (
        {
            "member": MEMBER,
            "label": CLASSES[LABEL],
            **{f"p_{CLASSES[k]}": P[:, k] for k in (2, 0, 1)},
        },
        P[:, [2, 0, 1]],
        (),
    ),
    (
        {
            "member": MEMBER,
            "label": CLASSES[LABEL],
            **{f"proba_{c.upper()}": P[:, k] for k, c in enumerate(CLASSES)},
        },
        P,
        (),
    ),
    (
        {"member": MEMBER, "label": CLASSES[LABEL], **{c: P[:, k] for k, c in enumerate(CLASSES)}},
        P,
        (),
    ),
    (
        {"member": MEMBER, "label": LABEL, **{f"prob_{c}": P[:, k] for k, c in enumerate(CLASSES)}},
        P,
        ("positions among cat",),
    ),
    ({"member": MEMBER, "label": LABEL, **{f"prob_{k}": P[:, k] for k in range(K)}}, P, ()),
    ({"member": MEMBER, "label": CLASSES[LABEL], **NUMBERED}, P, ("in sorted order",)),
    (
        {"member": MEMBER, "label": LABEL + 1, **{f"p{k + 1}": P[:, k] for k in range(K)}},
        P,
        ("1 to 3",),
    ),
    ({"member": MEMBER, "label": LABEL + 1, **NUMBERED}, P, ("Labels start at 1",)),
    ({"member": MEMBER, "label": LABEL.astype(float), **NUMBERED}, P, ()),
    (two(p1=1 - P[:, 0]), np.column_stack([P[:, 0], 1 - P[:, 0]]), ("lone column p1",)),
    (two(z1=MARGIN[:, 1]), np.column_stack([0 * P[:, 0], MARGIN[:, 1]]), ("lone column z1",)),
    (
        {"member": MEMBER, "label": np.where(LABEL > 0, "yes", "no"), "p_yes": 1 - P[:, 0]},
        np.column_stack([P[:, 0], 1 - P[:, 0]]),
        ("lone column p_yes",),
    ),
]


@pytest.mark.parametrize(("columns", "outputs", "said"), ODD_NAMES)
def test_odd_names_are_read_right_and_said(tmp_path, columns, outputs, said):
    found = read(tmp_path, columns)
    np.testing.assert_allclose(found.outputs, outputs, atol=1e-12)
    true = found.outputs[np.arange(N), found.labels]
    wanted = (
        P[np.arange(N), LABEL]
        if outputs.shape[1] == K
        else outputs[np.arange(N), (LABEL > 0).astype(int)]
    )
    np.testing.assert_allclose(true, wanted, atol=1e-12)
    notes = " ".join(found.notes)
    assert all(words in notes for words in said) and bool(notes) == bool(said)
    result = audit_signals(found, plan=FAST)
    assert all(note in result.diagnostics.notes for note in found.notes)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"is_member": MEMBER, "membership": MEMBER, "label": LABEL, **NUMBERED},
            "is_member and membership. Name one with --member",
        ),
        (
            {"member": MEMBER, "y": LABEL, "target": LABEL, **NUMBERED},
            "y and target. Name one with --label",
        ),
        (
            {"inside": MEMBER, "label": LABEL, **NUMBERED},
            "Add 'member', or name the column with --member",
        ),
        (
            {"member": MEMBER, "class": LABEL, **NUMBERED},
            "Add 'label', or name the column with --label",
        ),
        (two(p0=P[:, 0]), "Name it p1 if it is the probability of class 1 of two"),
        (two(p=P[:, 0]), "Name it p1 if it is the probability of class 1 of two"),
        (two(z0=P[:, 0]), "Name it z1 if it is the logit of class 1 of two"),
        (two(score=P[:, 0]), "one column score, whose meaning is open. Name it p1"),
        (two(probability=P[:, 0]), "one column probability, whose meaning is open. Name it p1"),
        (two(p1=100 * P[:, 0]), "Divide percentages by 100"),
        (
            {
                "member": MEMBER,
                "label": LABEL,
                **{f"p{k}": np.round(100 * P[:, k], 1) for k in range(K)},
            },
            "Divide them by 100",
        ),
        (
            {
                "member": MEMBER,
                "label": LABEL,
                **{f"p_{c}": 100 * P[:, k] for k, c in enumerate(CLASSES)},
            },
            "Divide them by 100",
        ),
        (
            {"member": MEMBER, "label": LABEL, **{f"p{k + 1}": P[:, k] for k in range(K)}},
            "from 1 to 3 in the column label",
        ),
        (
            {"member": MEMBER, "label": LABEL, **{f"p{k + 2}": P[:, k] for k in range(K)}},
            "without gaps",
        ),
        (
            {
                "member": MEMBER,
                "label": CLASSES[LABEL],
                **{f"p_{c}": P[:, k] for k, c in enumerate("abc")},
            },
            "labels among a, b, c",
        ),
        (
            {
                "member": MEMBER,
                "label": CLASSES[LABEL],
                **{f"p{k}": P[:, k % 3] * 0.75 for k in range(4)},
            },
            "or 4 different words",
        ),
        (
            {"member": MEMBER, "label": LABEL, **{f"p_{c}": P[:, k] for k, c in enumerate("bca")}},
            "Write the classes' names",
        ),
        (
            {"member": MEMBER, "label": np.where(LABEL == 0, "", "cat"), **NUMBERED},
            "Fill it in, or leave the record out",
        ),
        (
            {"member": MEMBER, "label": LABEL, **NUMBERED, "id": np.arange(N) % (N // 2)},
            "300 ids on both sides.*leave the column out",
        ),
    ],
)
def test_what_is_open_is_refused_with_what_to_do(tmp_path, columns, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, columns)


def test_following_the_advice_about_columns_works(tmp_path):
    two_words = {"inside": MEMBER, "class": LABEL, **NUMBERED}
    found = read(tmp_path, two_words, label="class", member="inside")
    np.testing.assert_array_equal(found.labels, LABEL)
    odd = {"member": ~MEMBER, "truth": MEMBER, "label": 0 * LABEL, "class": LABEL, **NUMBERED}
    found = read(tmp_path, odd, label="class", member="truth")
    np.testing.assert_array_equal(found.member, MEMBER)
    np.testing.assert_array_equal(found.labels, LABEL)
    with pytest.raises(InputError, match="Check --label"):
        read(tmp_path, odd, label="nothing")


@pytest.mark.parametrize(
    ("decimals", "k", "passes"),
    [
        (4, 1000, True),
        (3, 200, True),
        (2, 20, True),
        (1, 5, True),
        (5, 1000, True),
        (None, 10, False),
    ],
)
def test_sums_are_judged_by_the_written_decimals(tmp_path, decimals, k, passes):
    p = np.random.default_rng(1).dirichlet(np.full(k, 0.1), 60)
    p = 0.9 * p if decimals is None else np.round(p, decimals)
    labels = np.arange(60) % k
    np.savez(tmp_path / "s.npz", member=np.arange(60) % 2, label=labels, p=p)
    if passes:
        audit_signals(read_signals(tmp_path / "s.npz"), plan=FAST)
    else:
        with pytest.raises(InputError, match="sum to 1"):
            audit_signals(read_signals(tmp_path / "s.npz"), plan=FAST)


def test_half_precision_sums_pass(tmp_path):
    p = np.random.default_rng(1).dirichlet(np.full(1000, 1.0), 60).astype(np.float16)
    np.savez(
        tmp_path / "s.npz",
        member=np.arange(60) % 2,
        label=np.arange(60),
        p=(p / p.sum(axis=1, keepdims=True)),
    )
    audit_signals(read_signals(tmp_path / "s.npz"), plan=FAST)


@pytest.mark.parametrize(
    ("label", "groups"),
    [
        (None, []),
        (RNG.normal(size=N).round(3), []),
        (np.zeros(N), []),
        (RNG.integers(0, 10**6, N), []),
        (-LABEL, []),
        (LABEL, ["class=0", "class=1", "class=2"]),
        (CLASSES[LABEL], ["class=cat", "class=dog", "class=emu"]),
    ],
)
@pytest.mark.parametrize("shift", [0.0, -7.0])
def test_losses_need_no_labels(tmp_path, label, groups, shift):
    columns = {"member": MEMBER, "loss": LOSS + shift} | ({} if label is None else {"label": label})
    found = read(tmp_path, columns)
    result = audit_signals(found, plan=replace(FAST, all_estimates=True))
    areas = {e.group: e.value for e in result.estimates if e.metric == "auc" and e.attack == "loss"}
    order = (LOSS[MEMBER][:, None] < LOSS[~MEMBER]).mean()
    assert areas[None] == pytest.approx(order, abs=1e-3)
    assert sorted(group for group in areas if group) == groups
    assert ("densities" in " ".join(found.notes)) == (shift < 0)


def test_the_advice_of_an_open_verdict_decides_it(tmp_path):
    run = CliRunner()

    def audit(*flags):
        out = run.invoke(
            app,
            [
                "audit",
                "--attacks",
                "gap,loss,confidence",
                "--out",
                str(tmp_path / "o"),
                "--overwrite",
                *flags,
            ],
        )
        return out.exit_code, " ".join(out.output.split())

    age = RNG.normal(size=N).round(3)
    path = str(
        written(tmp_path / "s.csv", {"is_member": MEMBER, "label": LABEL, "age": age, **NUMBERED})
    )
    code, text = audit("--signals", path, "--policy", "demo")
    assert code == 3 and "--assume-exchangeable" in text and "--features beside --signals" in text
    assert audit("--signals", path, "--policy", "demo", "--assume-exchangeable")[0] == 1
    assert audit("--signals", path, "--policy", "demo", "--features", "age")[0] == 1
    rng = np.random.default_rng(5)
    clean = rng.permuted(P, axis=0)[:, 0]
    path = str(
        written(tmp_path / "c.csv", {"member": MEMBER, "true": rng.random(N) < clean, "p1": clean})
    )
    code, text = audit(
        "--signals", path, "--label", "true", "--policy", "demo", "--assume-exchangeable"
    )
    # The controls name it as not run, and nothing asks for it
    assert code in (0, 3) and "blind" not in text.split("Controls:")[0]
    assert "--features" not in text and "--assume-exchangeable" not in text.split("Controls:")[1]


@pytest.mark.parametrize("name", ["Loss", "nll", "cross_entropy", "log_loss"])
def test_losses_by_other_names(tmp_path, name):
    found = read(tmp_path, {"Member": MEMBER.astype(int), name: np.abs(P[:, 0])})
    assert found.signal == "loss" and any(
        f"Read the column {name} as loss" in note for note in found.notes
    )


def test_one_column_of_labels_is_raveled(tmp_path):
    np.savez(tmp_path / "s.npz", members=MEMBER, labels=LABEL[:, None], p=P)
    np.testing.assert_array_equal(read_signals(tmp_path / "s.npz").labels, LABEL)


def test_a_label_that_is_missing_is_called_missing(tmp_path):
    with pytest.raises(InputError, match="got none in row 4"):
        read(
            tmp_path,
            {
                "member": MEMBER.astype(int),
                "label": np.where(np.arange(len(LABEL)) == 3, np.nan, LABEL),
                **NUMBERED,
            },
        )
