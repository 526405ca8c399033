"""Fitted defences on disk: the same answers to the last bit.

And a sentence for every broken file.
"""

from __future__ import annotations

import json
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from memberscope.errors import InputError
from memberscope.outputs.chain import Chain, parse_restriction
from memberscope.outputs.fitted_file import (
    FORMAT,
    META,
    fit_parts,
    load_fitted,
    save_fitted,
    with_fitted,
)
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.rounding import Rounding
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK


def answers(n: int, k: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, k]).dirichlet(np.full(k, 0.4), n)


@pytest.fixture(scope="module")
def fitted():
    outputs = answers(300)
    return fit_parts(
        parse_restriction("temperature:2+memguard:1:300:undecided:7+hamp_output:3+round:4"),
        outputs,
        outputs[:, 0] > 0.2,
        answers(90, seed=2),
    )


@pytest.fixture
def file(tmp_path, fitted):
    save_fitted([fitted], tmp_path / "f.safetensors")
    return tmp_path / "f.safetensors"


def rewritten(file, change) -> None:
    """The file with its arrays and its table changed by `change(arrays, table)`."""
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        table = json.loads(opened.metadata()[META])
    arrays = load(file.read_bytes())
    change(arrays, table)
    file.write_bytes(save(arrays, metadata={META: json.dumps(table)}))


def test_what_is_read_back_answers_the_same_to_the_last_bit(file, fitted):
    found = with_fitted(parse_restriction(fitted.name), load_fitted(file), 4)
    assert found.digest == fitted.digest and "@" in found.digest
    for seed in range(3):
        asked = answers(200, seed=10 + seed)
        assert np.array_equal(found(asked), fitted(asked))
    assert list(load_fitted(file)) == [
        "temperature:2+memguard:1",
        "temperature:2+memguard:1+hamp_output",
    ], "seeds are not kept"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_one_file_holds_several_and_each_keeps_its_place(tmp_path):
    outputs = answers(300)
    plain = MemGuard(1.0).fit(outputs, outputs[:, 0] > 0.2)
    behind = fit_parts(parse_restriction("temperature:3+memguard:1"), outputs, outputs[:, 0] > 0.2)
    assert behind.parts[1].digest != plain.digest
    assert save_fitted([plain, behind, Chain((plain, TopK(1)))], tmp_path / "f") == (
        "memguard:1",
        "temperature:3+memguard:1",
    )
    found = load_fitted(tmp_path / "f")
    assert with_fitted(parse_restriction("memguard:1"), found).digest == plain.digest
    assert (
        with_fitted(parse_restriction("temperature:3+memguard:1+top:1"), found).parts[1].digest
        == behind.parts[1].digest
    )


def test_parts_fitted_together_are_those_that_an_audit_fits():
    outputs, member = answers(80), answers(80)[:, 0] > 0.2
    whole = Chain((Temperature(2.0), MemGuard(1.0))).fit(outputs, member)
    assert (
        fit_parts(parse_restriction("temperature:2+memguard:1"), outputs, member).digest
        == whole.digest
    )
    random = answers(50, seed=3)
    assert (
        fit_parts(parse_restriction("hamp_output"), outputs, member, random).digest
        == HampOutput().fit(random, random[:, 0] > 2).digest
    )
    with pytest.raises(InputError, match="random"):
        fit_parts(parse_restriction("hamp_output"), outputs, member)


@pytest.mark.parametrize("defence", [Rounding(2), MemGuard(1.0), Chain((TopK(1), HampOutput()))])
def test_what_is_not_fitted_is_not_saved(tmp_path, defence):
    with pytest.raises(InputError, match="Expected a fitted"):
        save_fitted([defence], tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_two_that_differ_under_one_name_are_refused(tmp_path):
    outputs = answers(300)
    two = [MemGuard(1.0).fit(outputs, outputs[:, 0] > cut) for cut in (0.2, 0.6)]
    with pytest.raises(InputError, match="two that differ"):
        save_fitted(two, tmp_path / "f")


def test_another_number_of_classes_is_refused(file, fitted):
    with pytest.raises(InputError, match=r"temperature:2\+memguard:1 fitted to 5 classes, got 4"):
        with_fitted(parse_restriction(fitted.name), load_fitted(file), 5)


@given(cut=st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_truncated_file_is_one_sentence(tmp_path_factory, fitted, cut):
    file = tmp_path_factory.mktemp("f") / "f.safetensors"
    save_fitted([fitted], file)
    data = file.read_bytes()
    file.write_bytes(data[: cut % len(data)])
    with pytest.raises(InputError, match=r"Expected complete fitted defences in .*Fit them again"):
        load_fitted(file)


def flip(name):
    def change(arrays, table):
        arrays[name] = arrays[name].copy()
        arrays[name].flat[0] += arrays[name].dtype.type(1e-3)

    return change


CHANGES = {
    "a weight": flip("0/w1"),
    "an offset": flip("0/b3"),
    "a score": flip("1/scores"),
    "the digest": lambda arrays, table: table["parts"][0].update(
        digest="memguard:1@0000000000000000"
    ),
    "the name": lambda arrays, table: table["parts"][0].update(name="memguard:2"),
    "a seed": lambda arrays, table: table["parts"][0].update(
        name="memguard:1:300:undecided:7", key="temperature:2+memguard:1:300:undecided:7"
    ),
    "the kind": lambda arrays, table: table["parts"][1].update(name="memguard:1", key="memguard:1"),
    "an unknown name": lambda arrays, table: table["parts"][0].update(name="magic", key="magic"),
    "a name without a fit": lambda arrays, table: table["parts"][0].update(
        name="top:1", key="top:1"
    ),
    "the format": lambda arrays, table: table.update(format=FORMAT + "0"),
    "a missing part": lambda arrays, table: table["parts"].pop(),
    "no list": lambda arrays, table: table.update(parts=3),
    "a missing layer": lambda arrays, table: arrays.pop("0/w1"),
    "another type": lambda arrays, table: arrays.update(
        {"0/w1": arrays["0/w1"].astype(np.float64)}
    ),
    "another shape": lambda arrays, table: arrays.update(
        {"0/w1": np.ascontiguousarray(arrays["0/w1"][:, :-1])}
    ),
    "two outputs": lambda arrays, table: arrays.update(
        {"0/w3": np.zeros((64, 2), "f4"), "0/b3": np.zeros(2, "f4")}
    ),
    "infinity": lambda arrays, table: arrays.update({"0/b0": np.full_like(arrays["0/b0"], np.inf)}),
    "rising scores": lambda arrays, table: arrays.update(
        {"1/scores": np.ascontiguousarray(arrays["1/scores"][:, ::-1])}
    ),
    "flat scores": lambda arrays, table: arrays.update(
        {"1/scores": arrays["1/scores"].reshape(-1)}
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_one_sentence(file, name):
    load_fitted(file)
    rewritten(file, CHANGES[name])
    with pytest.raises(InputError, match=r"Expected complete fitted defences in .*Fit them again"):
        load_fitted(file)


def test_a_file_of_something_else_is_one_sentence(tmp_path):
    (tmp_path / "f").write_bytes(save({"a": np.zeros(3)}))
    for path in (tmp_path / "f", tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="fitted defences"):
            load_fitted(path)
