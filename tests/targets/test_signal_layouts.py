"""Folders of LiRA, ML Privacy Meter and LeakPro are read as what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from stored_layouts import plant_models, write_leakpro, write_lira, write_privacy_meter

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets import read_signals

MODELS = plant_models(n=60, models=5)


@pytest.mark.parametrize("flat", [False, True])
def test_lira_logits_of_all_views(tmp_path, flat):
    found = read_signals(write_lira(tmp_path / "exp", MODELS, flat=flat))
    assert found.signal == "logits"
    np.testing.assert_array_equal(found.member, MODELS.inside[0])
    np.testing.assert_array_equal(found.outputs, MODELS.logits[0])
    references = found.references
    assert references.outputs.shape == (4, 60, 2, 3) and references.target.shape == (60, 2, 3)
    np.testing.assert_array_equal(references.outputs[:, :, 0], MODELS.logits[1:])
    np.testing.assert_array_equal(references.inside, MODELS.inside[1:])
    np.testing.assert_array_equal(references.target[:, 1], MODELS.logits[0] + 0.01)


@pytest.mark.parametrize("flat", [False, True])
def test_lira_scores_are_logit_scaled_confidences(tmp_path, flat):
    folder = write_lira(tmp_path / "exp", MODELS, scores=True, flat=flat)
    (folder / "y_train.npy").unlink()
    found = read_signals(folder)
    assert found.signal == "loss" and found.references.number.is_logit
    np.testing.assert_allclose(found.outputs[:, 0], MODELS.loss[0])
    np.testing.assert_array_equal(found.references.outputs[:, :, 0, 0], MODELS.logit[1:])


def test_another_model_of_lira_is_audited_by_its_name(tmp_path):
    folder = write_lira(tmp_path / "exp", MODELS)
    by_name = read_signals(folder, model="experiment-1_5")
    by_number = read_signals(folder, model="1", layout="lira")
    np.testing.assert_array_equal(by_name.member, MODELS.inside[2])
    np.testing.assert_array_equal(by_number.outputs, MODELS.logits[2])
    assert by_name.references.names == tuple(f"experiment-{k}_5" for k in (0, 2, 3, 4))
    np.testing.assert_array_equal(by_name.references.inside, MODELS.inside[[1, 3, 4, 0]])
    np.testing.assert_array_equal(by_name.references.outputs[:, :, 0], MODELS.logits[[1, 3, 4, 0]])
    with pytest.raises(InputError, match="Expected one of the models experiment-0_5"):
        read_signals(folder, model="experiment-9_5")


def test_privacy_meter_leaves_out_the_twin(tmp_path):
    found = read_signals(write_privacy_meter(tmp_path / "logs", MODELS))
    assert found.signal == "loss" and found.references.number is None
    np.testing.assert_allclose(found.outputs[:, 0], MODELS.loss[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found.references.outputs[:, :, 0, 0], MODELS.loss[1:], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(found.references.inside, MODELS.inside[1:])
    assert "model 1 is left out" in found.notes[0]


@pytest.mark.parametrize("shuffled", [False, True])
def test_leakpro_matches_rows_by_their_indices(tmp_path, shuffled):
    found = read_signals(write_leakpro(tmp_path / "out", MODELS, shuffled=shuffled))
    rows = found.ids.astype(int) - 5
    np.testing.assert_array_equal(found.outputs, MODELS.logits[0][rows])
    np.testing.assert_array_equal(found.member, MODELS.inside[0][rows])
    np.testing.assert_array_equal(found.labels, MODELS.labels[rows])
    np.testing.assert_array_equal(found.references.inside, MODELS.inside[1:][:, rows])
    np.testing.assert_allclose(
        found.references.outputs[:, :, 0], MODELS.logits[1:][:, rows], rtol=1e-6
    )


def test_leakpro_of_two_classes_has_one_logit(tmp_path):
    models = plant_models(n=40, models=5, classes=2)
    folder = write_leakpro(tmp_path / "out", models)
    for path in (folder / "attack_cache").glob("*_logits.npy"):
        logits = np.load(path)
        np.save(path, logits[:, 1] - logits[:, 0])
    found = read_signals(folder)
    rows = found.ids.astype(int) - 5
    difference = models.logits[:, rows, 1] - models.logits[:, rows, 0]
    np.testing.assert_array_equal(found.outputs[:, 0], 0)
    np.testing.assert_allclose(found.references.outputs[:, :, 0, 1], difference[1:], rtol=1e-6)


def _remove(path):
    path.unlink()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def _pickle(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("experiment-2_5/keep.npy", _cut, "Expected a complete NPY file"),
        ("experiment-2_5/logits/0000000100.npy", _cut, "Expected a complete NPY file"),
        ("experiment-2_5/logits/0000000100.npy", _pickle, "could run code"),
        ("y_train.npy", _remove, "Expected the labels of the 60 records"),
    ],
)
def test_broken_lira_folders_are_named(tmp_path, name, change, words):
    folder = write_lira(tmp_path / "exp", MODELS)
    change(folder / name)
    with pytest.raises((InputError, UnsafeFileError), match=words):
        read_signals(folder)


def test_privacy_meter_of_a_part_of_the_records_is_refused(tmp_path):
    folder = write_privacy_meter(tmp_path / "logs", MODELS)
    signals = np.load(folder / "signals" / "rmia_signals.npy")
    np.save(folder / "signals" / "rmia_signals.npy", signals[:20])
    with pytest.raises(InputError, match="drew a part of the records"):
        read_signals(folder)


def test_leakpro_without_plain_membership_says_what_to_write(tmp_path):
    folder = write_leakpro(tmp_path / "out", MODELS)
    (folder / "membership.npz").unlink()
    with pytest.raises(InputError, match="pickles, which are not opened"):
        read_signals(folder)


def test_a_folder_of_two_tools_needs_a_word(tmp_path):
    write_lira(tmp_path / "both", MODELS)
    write_leakpro(tmp_path / "both", MODELS)
    with pytest.raises(InputError, match=r"lira and leakpro.*--signals-layout"):
        read_signals(tmp_path / "both")
    assert read_signals(tmp_path / "both", layout="leakpro").signal == "logits"
    with pytest.raises(InputError, match="Expected the layout lira, privacy-meter, leakpro"):
        read_signals(tmp_path / "both", layout="art")
