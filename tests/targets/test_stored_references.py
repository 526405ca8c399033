"""Reference models that others trained, stored beside the target's signals in several forms."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from safetensors.numpy import save_file
from stored_layouts import plant_models

from memberscope.errors import InputError
from memberscope.targets import ReferenceOutputs, StoredNumber, read_signals

MODELS = plant_models(n=40, models=5)
IDS = np.array([f"r{k}" for k in range(40)])


def _write_csv(path, columns):
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def _write_parquet(path, columns, rows=7):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def _target_columns():
    classes = {f"z{k}": MODELS.logits[0][:, k] for k in range(3)}
    return {"id": IDS, "member": MODELS.inside[0].astype(int), "label": MODELS.labels, **classes}


def _long_columns(*, target=False, seed=0):
    """One row a record and model, in any order."""
    first = 0 if target else 1
    models, n = len(MODELS.logits) - first, len(IDS)
    names = ["target", "a", "b", "c", "d"][first:]
    order = np.random.default_rng(seed).permutation(models * n)
    found = {
        "id": np.tile(IDS, models),
        "model": np.repeat(names, n),
        "inside": MODELS.inside[first:].ravel().astype(int),
        "label": np.tile(MODELS.labels, models),
    }
    found |= {f"z{k}": MODELS.logits[first:, :, k].ravel() for k in range(3)}
    return {name: column[order] for name, column in found.items()}


def _write_npz(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(
        path,
        member=MODELS.inside[0],
        label=MODELS.labels,
        ids=IDS,
        outputs=MODELS.logits[0],
        signal="logits",
        references=MODELS.logits[1:],
        inside=MODELS.inside[1:],
    )
    return path


def _write_compressed(tmp_path):
    with np.load(_write_npz(tmp_path)) as arrays:
        np.savez_compressed(tmp_path / "c.npz", **arrays)
    return tmp_path / "c.npz"


def _write_safetensors(tmp_path):
    arrays = {
        "member": MODELS.inside[0],
        "label": MODELS.labels,
        "outputs": MODELS.logits[0],
        "references": MODELS.logits[1:],
        "inside": MODELS.inside[1:],
    }
    save_file(arrays, tmp_path / "s.safetensors", metadata={"signal": "logits"})
    return tmp_path / "s.safetensors"


def _wide_columns():
    columns = _target_columns()
    for place, name in enumerate("abcd", 1):
        columns[f"inside_{name}"] = MODELS.inside[place].astype(int)
        columns |= {f"reference_{name}_z{k}": MODELS.logits[place][:, k] for k in range(3)}
    return columns


def _write_wide(tmp_path):
    return _write_csv(tmp_path / "wide.csv", _wide_columns())


def _write_wide_parquet(tmp_path):
    return _write_parquet(tmp_path / "wide.parquet", _wide_columns())


def _write_long(tmp_path):
    return _write_csv(tmp_path / "long.csv", _long_columns(target=True))


def _write_long_parquet(tmp_path):
    return _write_parquet(tmp_path / "long.parquet", _long_columns(target=True))


def _write_folder_long(tmp_path):
    _write_csv(tmp_path / "target.csv", _target_columns())
    _write_parquet(tmp_path / "references.parquet", _long_columns())
    return tmp_path


def _write_folder_arrays(tmp_path):
    _write_csv(tmp_path / "target.csv", _target_columns())
    order = np.random.default_rng(3).permutation(40)
    np.savez(
        tmp_path / "references.npz",
        ids=IDS[order],
        references=MODELS.logits[1:][:, order],
        inside=MODELS.inside[1:][:, order],
    )
    return tmp_path


def _write_folder_files(tmp_path):
    _write_csv(tmp_path / "target.csv", _target_columns())
    for place, name in enumerate("abcd", 1):
        columns = {f"z{k}": MODELS.logits[place][:, k] for k in range(3)}
        member = MODELS.inside[place].astype(int)
        order = np.random.default_rng(place).permutation(40)
        rows = {"id": IDS, "member": member, **columns}
        _write_csv(tmp_path / f"reference-{name}.csv", {key: v[order] for key, v in rows.items()})
    return tmp_path


FORMS = [
    _write_npz,
    _write_compressed,
    _write_safetensors,
    _write_wide,
    _write_wide_parquet,
    _write_long,
    _write_long_parquet,
    _write_folder_long,
    _write_folder_arrays,
    _write_folder_files,
]


@pytest.mark.parametrize("write", FORMS)
def test_each_form_holds_the_same(tmp_path, write):
    found = read_signals(write(tmp_path))
    assert found.signal == "logits"
    # The target's rows of a long table stand in its own order
    rows = [IDS.tolist().index(name) for name in found.ids] if "r0" in found.ids else np.arange(40)
    np.testing.assert_allclose(found.outputs, MODELS.logits[0][rows])
    np.testing.assert_array_equal(found.member, MODELS.inside[0][rows])
    np.testing.assert_array_equal(found.labels, MODELS.labels[rows])
    references = found.references
    order = np.argsort(references.names)
    np.testing.assert_allclose(references.outputs[order][:, :, 0], MODELS.logits[1:][:, rows])
    np.testing.assert_array_equal(references.inside[order], MODELS.inside[1:][:, rows])


def test_arrays_that_are_not_compressed_stay_on_the_disk(tmp_path):
    for write in (_write_npz, _write_safetensors):
        base = read_signals(write(tmp_path)).references.outputs
        while base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)


def test_a_number_has_a_name_and_a_direction(tmp_path):
    np.savez(
        tmp_path / "n.npz",
        member=MODELS.inside[0],
        distance=-MODELS.logit[0],
        references=-MODELS.logit[1:],
        inside=MODELS.inside[1:],
    )
    found = read_signals(tmp_path / "n.npz", number="distance", higher="non_member")
    assert found.signal == "loss" and found.references.number == StoredNumber(
        "distance", "non_member"
    )
    np.testing.assert_array_equal(found.outputs[:, 0], -MODELS.logit[0])
    assert "Read distance as one number a record, higher for likelier non-members." in found.notes
    other = read_signals(tmp_path / "n.npz", number="distance", higher="member")
    np.testing.assert_array_equal(other.outputs[:, 0], MODELS.logit[0])
    assert other.digest != found.digest


def test_a_file_may_name_its_number(tmp_path):
    arrays = {"member": MODELS.inside[0], "outputs": MODELS.logit[0]}
    arrays |= {"references": MODELS.logit[1:], "inside": MODELS.inside[1:]}
    settings = {"number": "surprise", "higher": "non_member"}
    save_file(arrays, tmp_path / "s.safetensors", metadata=settings)
    np.savez(tmp_path / "s.npz", **arrays, **settings)
    for name in ("s.safetensors", "s.npz"):
        found = read_signals(tmp_path / name)
        assert found.references.number == StoredNumber("surprise", "non_member")


def test_a_number_of_long_rows(tmp_path):
    columns = _long_columns(target=True)
    kept = {name: columns[name] for name in ("id", "model", "inside")}
    value = {name: row for name, row in zip(["target", *"abcd"], MODELS.logit, strict=True)}
    place = {name: row for row, name in enumerate(IDS.tolist())}
    kept["score"] = np.array(
        [value[m][place[i]] for m, i in zip(kept["model"], kept["id"], strict=True)]
    )
    for path in (
        _write_csv(tmp_path / "n.csv", kept),
        _write_parquet(tmp_path / "n.parquet", kept),
    ):
        found = read_signals(path, number="score")
        rows = [place[name] for name in found.ids]
        order = np.argsort(found.references.names)
        np.testing.assert_allclose(
            found.references.outputs[order][:, :, 0, 0], MODELS.logit[1:][:, rows]
        )


def test_losses_below_zero_count_as_a_number(tmp_path):
    np.savez(
        tmp_path / "n.npz",
        member=MODELS.inside[0],
        loss=-MODELS.logit[0],
        references=-MODELS.logit[1:],
        inside=MODELS.inside[1:],
    )
    number = read_signals(tmp_path / "n.npz").references.number
    assert number == StoredNumber("loss", "non_member")


def test_whole_ids_are_found_as_numbers(tmp_path):
    columns = _target_columns() | {"id": np.arange(40) * 3}
    _write_csv(tmp_path / "target.csv", columns)
    long = _long_columns()
    long["id"] = np.array([IDS.tolist().index(name) * 3 for name in long["id"]])
    _write_parquet(tmp_path / "references.parquet", long)
    found = read_signals(tmp_path).references
    np.testing.assert_array_equal(found.inside[np.argsort(found.names)], MODELS.inside[1:])


def _change(**changed):
    arrays = {
        "member": MODELS.inside[0],
        "loss": MODELS.loss[0],
        "references": MODELS.loss[1:],
        "inside": MODELS.inside[1:],
    }
    return {name: value for name, value in (arrays | changed).items() if value is not None}


def _at(values, place, value):
    changed = values.astype(float)
    changed[place] = value
    return changed


INSIDE = MODELS.inside[1:]
BAD = {
    "no inside": (_change(inside=None), "Expected references with inside in"),
    "no references": (_change(references=None), "got no references"),
    "another number of models": (_change(inside=INSIDE[:3]), r"Expected inside of shape \(4, 40\)"),
    "another number of records": (
        _change(references=MODELS.loss[1:, :30], inside=INSIDE[:, :30]),
        "Expected answers about the 40 records of the audited model",
    ),
    "not 0 or 1": (
        _change(inside=_at(INSIDE, (2, 5), 0.5)),
        "Expected 0 or 1 in inside of .* got 0.5 for the reference 2 and record 6",
    ),
    "trained on all": (
        _change(inside=_at(INSIDE, 1, 1)),
        "trained on some of the records, got 1 of .* with all of them",
    ),
    "trained on none": (
        _change(inside=_at(INSIDE, 3, 0)),
        "trained on some of the records, got 3 of .* with none of them",
    ),
    "the same records for all": (
        _change(inside=np.repeat(INSIDE[:1], 4, axis=0)),
        "trained on different records, got the same",
    ),
    "the audited model itself": (
        _change(inside=np.vstack([INSIDE[:3], MODELS.inside[:1]])),
        "trained on other records than the audited model, got 3",
    ),
    "not a number": (
        _change(references=_at(MODELS.loss[1:], (1, 7), np.nan)),
        r"Expected finite numbers in .* got nan of the reference 1 for record 8",
    ),
    "outputs of another width": (
        _change(references=MODELS.logits[1:]),
        "Expected 1 outputs a record in .* got 3",
    ),
    "accuracy of too few models": (
        _change(train_accuracy=np.array([0.9, 0.8])),
        r"Expected train_accuracy of shape \(4,\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path, case):
    arrays, words = BAD[case]
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(InputError, match=words) as caught:
        read_signals(tmp_path / "s.npz")
    assert str(caught.value).count(". ") <= 2


def test_truncated_files_are_refused(tmp_path):
    for write in (_write_npz, _write_safetensors, _write_long_parquet):
        path = write(tmp_path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match="Write it again"):
            read_signals(path)


def _drop_row(columns):
    return {name: column[1:] for name, column in columns.items()}


def _repeat_row(columns):
    return {name: np.concatenate([column, column[:1]]) for name, column in columns.items()}


def _rename_record(columns):
    return columns | {"id": np.array(["r99", *columns["id"][1:]])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop_row, "Expected one row for each record and model in .* got none for the record"),
        (_repeat_row, "got 161 rows for 160 pairs. Remove the duplicates"),
        (_rename_record, "got the id 'r99', which is none of them"),
    ],
)
@pytest.mark.parametrize("write", [_write_csv, _write_parquet])
def test_pairs_of_long_rows_are_each_there_once(tmp_path, change, words, write):
    _write_csv(tmp_path / "target.csv", _target_columns())
    suffix = "csv" if write is _write_csv else "parquet"
    write(tmp_path / f"references.{suffix}", change(_long_columns()))
    with pytest.raises(InputError, match=words):
        read_signals(tmp_path)


def test_a_record_that_a_reference_lacks_is_named(tmp_path):
    folder = _write_folder_files(tmp_path)
    text = (folder / "reference-b.csv").read_text().splitlines()
    (folder / "reference-b.csv").write_text(
        "\n".join(line for line in text if not line.startswith("r7,"))
    )
    with pytest.raises(InputError, match=r"reference-b.csv, got none for 'r7' \(1 records"):
        read_signals(folder)


def test_a_number_needs_its_column_and_a_known_direction(tmp_path):
    np.savez(tmp_path / "s.npz", **_change())
    with pytest.raises(InputError, match="Expected the number 'score' in"):
        read_signals(tmp_path / "s.npz", number="score")
    with pytest.raises(InputError, match="Expected higher member or non_member"):
        read_signals(tmp_path / "s.npz", number="loss", higher="lower")
    with pytest.raises(InputError, match="Expected --number beside --higher"):
        read_signals(tmp_path / "s.npz", higher="member")


def test_one_output_without_a_meaning_is_refused(tmp_path):
    arrays = _change(loss=None)
    np.savez(tmp_path / "s.npz", outputs=MODELS.loss[0], **arrays)
    with pytest.raises(InputError, match="Expected signal beside outputs"):
        read_signals(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", outputs=MODELS.loss[0], signal="odds", **arrays)
    with pytest.raises(InputError, match="Expected signal probabilities, logits, loss"):
        read_signals(tmp_path / "s.npz")


def test_a_folder_without_a_target_says_how_to_name_it(tmp_path):
    _write_csv(tmp_path / "other.csv", _target_columns())
    with pytest.raises(InputError, match=r"Expected one file target\.npz"):
        read_signals(tmp_path)


def test_references_are_cut_by_record_and_by_model():
    found = ReferenceOutputs(MODELS.logits[1:], INSIDE, names=tuple("abcd"))
    assert found.take(np.arange(10)).outputs.shape == (4, 10, 1, 3)
    assert found.limit(2).names == ("a", "b")
