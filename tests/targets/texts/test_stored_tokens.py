"""Token signals that were computed elsewhere: the same from each format, and what is refused."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from memberscope.errors import InputError, UnsafeFileError
from memberscope.facts import read_target_facts
from memberscope.targets import StoredTokenTarget, read_token_signals
from memberscope.targets.stored.token_files import map_npz
from memberscope.types import Access, Target

COUNTS = (3, 1, 4)
PARTS = ("log_probs", "mean", "variance", "is_top", "base")


def make_rows(n_references=2, *, first=False):
    """Make three records with all parts; with `first` a null stands for the first token."""
    rng = np.random.default_rng(5)
    rows = []
    for k, n in enumerate(COUNTS):
        row = {"id": f"r{k}", "member": k != 1, "text": "word " * n, "site": "ab"[k % 2]}
        for part in PARTS[:-1]:
            row[part] = (-rng.random(n)).round(4).tolist()
        row["variance"] = rng.random(n).round(4).tolist()
        row["is_top"] = (rng.random(n) > 0.5).tolist()
        row["base"] = (-rng.random(n)).round(4).tolist()
        if n_references:
            row["references"] = (-rng.random(n_references)).round(4).tolist()
            row["inside"] = (rng.random(n_references) > 0.5).tolist()
        if first:
            for part in PARTS:
                row[part] = [None, *row[part]]
        rows.append(row)
    return rows


def write_tokens(path, rows):
    """Write the rows in the format of the suffix."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".npz":
        n = [len(row["log_probs"]) for row in rows]
        flat = {
            part: np.concatenate([np.array(row[part], float) for row in rows])
            for part in PARTS
            if part in rows[0]
        }
        flat = {p: v.astype(bool if p == "is_top" else np.float32) for p, v in flat.items()}
        rest = {
            name: np.array([row[name] for row in rows]).T for name in rows[0] if name not in PARTS
        }
        np.savez(path, offsets=np.concatenate([[0], np.cumsum(n)]), **flat, **rest)
    else:
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import feather, parquet

        table = arrow.Table.from_pylist(rows)
        (parquet.write_table if path.suffix == ".parquet" else feather.write_feather)(
            table, str(path)
        )
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "feather", "npz"])
@pytest.mark.parametrize("first", [False, True])
def test_every_format_gives_the_same_signals(tmp_path, suffix, first):
    rows = make_rows()
    written = make_rows(first=first)
    if first and suffix == "npz":
        # No value is NaN there, and a truth value is False
        for row in written:
            row["is_top"][0] = False
    stored = read_token_signals(
        write_tokens(tmp_path / f"tokens.{suffix}", written), groups=["site"]
    )
    tokens = stored.tokens
    assert tokens.counts.tolist() == list(COUNTS)
    names = ("log_probability", "mean", "variance", "is_top", "base")
    for name, part in zip(names, PARTS, strict=True):
        expected = np.concatenate([row[part] for row in rows])
        np.testing.assert_allclose(getattr(tokens, name), expected, rtol=1e-6)
    assert tokens.log_probability.dtype == np.float32 and tokens.is_top.dtype == bool
    assert stored.member.tolist() == [True, False, True]
    assert stored.ids.tolist() == ["r0", "r1", "r2"]
    assert stored.groups["site"].tolist() == ["a", "b", "a"]
    assert list(stored.texts) == [row["text"] for row in rows]
    sizes = [len(zlib.compress(row["text"].encode())) for row in rows]
    assert tokens.zlib_bytes.tolist() == sizes and tokens.n_bytes.tolist() == [15, 5, 20]
    expected = np.array([row["references"] for row in rows]).T
    np.testing.assert_allclose(stored.reference_log_confidence, expected)
    assert stored.inside.tolist() == np.array([row["inside"] for row in rows]).T.tolist()


def test_the_target_answers_by_row(tmp_path):
    rows = make_rows()
    target = StoredTokenTarget(read_token_signals(write_tokens(tmp_path / "t.jsonl", rows)))
    expected = [[-np.mean(row["log_probs"])] for row in rows]
    np.testing.assert_allclose(
        target.query(np.array([2, 0])), [expected[2], expected[0]], rtol=1e-6
    )
    assert target.measure_tokens([1]).counts.tolist() == [1]
    facts = read_target_facts(target)
    assert isinstance(target, Target) and facts.task == "text" and facts.stored
    assert facts.notes == ("Read 8 tokens of 3 texts from t.jsonl.",)
    assert target.access == Access.VOCABULARY
    for row in rows:
        del row["mean"], row["is_top"]
    closed = StoredTokenTarget(read_token_signals(write_tokens(tmp_path / "c.jsonl", rows)))
    assert closed.access == Access.TOKEN_PROBABILITIES and closed.digest != target.digest


def test_an_archive_that_is_not_compressed_stays_on_the_disk(tmp_path):
    path = write_tokens(tmp_path / "t.npz", make_rows())
    tokens = read_token_signals(path).tokens
    assert isinstance(tokens.log_probability, np.memmap)
    packed = tmp_path / "packed.npz"
    with np.load(path) as archive:
        np.savez_compressed(packed, **archive)
        plain = map_npz(path)
        for name in archive.files:
            np.testing.assert_array_equal(plain[name], archive[name])
    other = read_token_signals(packed).tokens
    assert not isinstance(other.log_probability, np.memmap)
    np.testing.assert_array_equal(other.log_probability, tokens.log_probability)


def test_reference_models_are_files_in_a_folder(tmp_path):
    rows, rng = make_rows(0), np.random.default_rng(1)
    write_tokens(tmp_path / "target.jsonl", rows)
    expected, inside = [], []
    for k, suffix in enumerate(("jsonl", "npz")):
        other = []
        for row in rows:
            values = (-rng.random(len(row["log_probs"]))).tolist()
            other.append({"id": row["id"], "member": bool(rng.random() > 0.5), "log_probs": values})
        expected.append([np.mean(row["log_probs"]) for row in other])
        inside.append([row["member"] for row in other])
        # In another order than the audited model's
        write_tokens(tmp_path / f"reference-{k}.{suffix}", other[::-1])
    mean = [{"id": row["id"], "member": 1, "log_confidence": -0.5} for row in rows]
    (tmp_path / "reference-2.jsonl").write_text("\n".join(map(json.dumps, mean)))
    stored = read_token_signals(tmp_path)
    np.testing.assert_allclose(stored.reference_log_confidence, [*expected, [-0.5] * 3], rtol=1e-6)
    assert stored.inside.tolist() == [*inside, [True] * 3]
    files = [tmp_path / "reference-0.jsonl", tmp_path / "reference-1.npz"]
    named = read_token_signals(tmp_path / "target.jsonl", references=files)
    np.testing.assert_allclose(named.reference_log_confidence, expected, rtol=1e-6)
    (tmp_path / "reference-2.jsonl").write_text(json.dumps(mean[0]))
    with pytest.raises(InputError, match=r"got none for 'r1' \(2 records in all\)"):
        read_token_signals(tmp_path)


def test_token_values_of_reference_models_become_means(tmp_path):
    rows = make_rows(0)
    for row in rows:
        row["references"] = [row["log_probs"], row["base"]]
        row["inside"] = [True, False]
    stored = read_token_signals(write_tokens(tmp_path / "t.jsonl", rows))
    expected = [[np.mean(row[part]) for row in rows] for part in ("log_probs", "base")]
    np.testing.assert_allclose(stored.reference_log_confidence, expected)
    flat = {part: np.concatenate([row[part] for row in rows]) for part in ("log_probs", "base")}
    np.savez(
        tmp_path / "t.npz",
        offsets=np.concatenate([[0], np.cumsum(COUNTS)]),
        log_probs=flat["log_probs"],
        member=[1, 0, 1],
        references=np.stack(list(flat.values())),
        inside=np.array([[1, 1, 1], [0, 0, 0]]),
    )
    stored = read_token_signals(tmp_path / "t.npz")
    np.testing.assert_allclose(stored.reference_log_confidence, expected)


def test_copies_of_a_record_and_its_unit_are_read(tmp_path):
    rows = [row | {"lowercase": -1.5, "unit": "p"} for row in make_rows(0)]
    stored = read_token_signals(write_tokens(tmp_path / "t.jsonl", rows), unit="unit")
    assert stored.tokens.copies["lowercase"].tolist() == [-1.5] * 3
    assert stored.unit.tolist() == ["p"] * 3


def drop(name):
    """Take a key from all records."""

    def change(rows):
        for row in rows:
            row.pop(name)

    return change


def put(place, name, value):
    """Put another value into one record."""

    def change(rows):
        rows[place][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("log_probs"), "Expected log_probs in"),
        (drop("member"), "Expected member in"),
        (drop("inside"), "Expected inside beside references"),
        (put(1, "log_probs", []), "got log_probs 0, mean 1"),
        (put(0, "mean", [-1.0]), "lists of one length in record 1"),
        (put(0, "log_probs", [-1.0, "x", -1.0]), "numbers under log_probs in record 1"),
        (put(0, "log_probs", [-1.0, None, -1.0]), "finite log_probs in .*, got nan in record 1"),
        (put(2, "log_probs", [-1.0, 2.0, -1.0, -1.0]), "at most 0 in .*, got 2 in record 3"),
        (put(2, "variance", [1.0, -2.0, 1.0, 1.0]), "variance of at least 0"),
        (put(1, "member", "maybe"), "Expected 0 or 1 in the column member"),
        (put(1, "id", "r0"), "got 'r0' 2 times"),
        (put(1, "references", [-1.0]), "one number and one true or false for each model"),
        (put(1, "inside", [2, 0]), "one number and one true or false for each model"),
        (put(1, "lowercase", -1.5), "finite lowercase of at most 0 in .*, got None in record 1"),
        (put(0, "recall", float("nan")), r"finite recall .*, got nan in record 1 \(3 records"),
        (put(0, "n_bytes", 0), "finite n_bytes of at least 1 in .*, got 0 in record 1"),
        (put(0, "zlib_bytes", "many"), "finite zlib_bytes .*, got many in record 1"),
        (lambda rows: rows.__delitem__(slice(None)), "got an empty file"),
        (lambda rows: rows[1].pop("mean"), "in each record of .* in record 2"),
    ],
)
def test_values_that_are_not_usable_are_one_sentence(tmp_path, change, words):
    rows = make_rows()
    change(rows)
    path = write_tokens(tmp_path / "t.jsonl", rows)
    with pytest.raises(InputError, match=words) as caught:
        read_token_signals(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "broken", ['{"member": 1, "log_probs": [-1.0', "no JSON", '{"a": 1} {"b": 2}']
)
def test_a_line_that_is_no_json_is_named(tmp_path, broken):
    path = tmp_path / "t.jsonl"
    whole = json.dumps(make_rows(0)[0])
    path.write_text(f"{whole}\n\n{broken}\n{whole}\n")
    with pytest.raises(InputError, match=rf"a line in {path}, got .* in line 3, column \d+\."):
        read_token_signals(path)


def test_records_of_one_token_without_prediction_are_one_sentence(tmp_path):
    rows = [{"member": 1, "log_probs": [None, -1.0]}, {"member": 0, "log_probs": [None]}]
    with pytest.raises(InputError, match="got none in 1 records, the first in record 2"):
        read_token_signals(write_tokens(tmp_path / "t.jsonl", rows))


def test_archives_that_do_not_fit_are_one_sentence(tmp_path):
    path = tmp_path / "t.npz"
    for arrays in (
        {"offsets": [0, 2], "log_probs": [-1.0]},
        {"offsets": [0, 2, 1], "log_probs": [-1.0]},
        {"log_probs": [-1.0]},
        {"offsets": [0, 1], "log_probs": [[-1.0]]},
    ):
        np.savez(path, member=[1], **arrays)
        with pytest.raises(InputError, match=r"Expected offsets \(n \+ 1,\)"):
            read_token_signals(path)
    np.savez(path, offsets=[0, 1], log_probs=np.array([None]))
    with pytest.raises(UnsafeFileError):
        read_token_signals(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="Expected a complete"):
        read_token_signals(path)
    with pytest.raises(InputError, match=r"Expected a .jsonl, .parquet, .feather or .npz"):
        read_token_signals(tmp_path / "t.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"Expected one file target.jsonl"):
        read_token_signals(tmp_path / "empty")


def test_references_of_another_tokenizer_are_refused(tmp_path):
    write_tokens(tmp_path / "target.jsonl", make_rows(0))
    other = make_rows(0)
    for part in PARTS:
        other[2][part] = other[2][part][:-1]
    write_tokens(tmp_path / "reference_0.jsonl", other)
    with pytest.raises(InputError, match="got 3 instead of 4 for 'r2'"):
        read_token_signals(tmp_path)


def test_losses_are_no_log_probabilities_of_references(tmp_path):
    rows = make_rows(2)
    rows[1]["references"] = [0.7, 1.2]
    write_tokens(tmp_path / "target.jsonl", rows)
    with pytest.raises(InputError, match="references of at most 0"):
        read_token_signals(tmp_path / "target.jsonl")
