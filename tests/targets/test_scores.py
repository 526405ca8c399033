"""Scores are found in whatever a model returns, and records in whatever it takes."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from memberscope.errors import InputError
from memberscope.frames.datasets import read_dataset
from memberscope.frames.several_inputs import Inputs, read_inputs
from memberscope.targets.answers.scores import as_rows, find_scores, pick_scores
from memberscope.targets.answers.tolerance import compute_simplex_tolerance

N, K = 7, 3
Z = torch.randn(N, K, generator=torch.Generator().manual_seed(0))
P = Z.softmax(1)
H = torch.zeros(N, 64)
LOSS = torch.tensor(0.3)
Named = namedtuple("Named", "logits aux_logits")


@dataclass
class Answer:
    loss: Any
    pred: Any
    features: Any


class Plain:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        (Z, ()),
        ((Z, H), (0,)),
        ([H, Z], (1,)),
        ((LOSS, Z), (1,)),
        ({"logits": Z, "hidden": H}, ("logits",)),
        ({"hidden": H, "probs": P, "logits": Z}, ("logits",)),
        ({"output": {"logits": Z}, "x": H}, ("output", "logits")),
        (Named(Z, Z + 1), ("logits",)),
        ({"out": Z, "aux": Z + 1}, ("out",)),
        ((Z, P), (0,)),
        ((P, Z), (1,)),
        (Answer(LOSS, Z, H), ("pred",)),
        (Plain(scores=Z, z=H), ("scores",)),
        (((H, (Z, LOSS)), None), (0, 1, 0)),
        ((Z, Z.argmax(1)), (0,)),
        ({"output": H, "pred": Z}, ("pred",)),
        (Z.numpy(), ()),
        (Z.tolist(), ()),
        ([torch.zeros(N, K, 4), Z[:, :, None]], (1,)),
    ],
)
def test_scores_are_found(answer, place):
    assert find_scores(answer, N, K) == place
    expected = Z if place != ("scores",) else answer.scores
    np.testing.assert_allclose(as_rows(pick_scores(answer, place), N), expected.numpy())


def test_one_column_serves_two_classes_and_wider_answers_than_the_labels_show():
    assert find_scores((torch.zeros(N, 64), torch.zeros(N, 1)), N, 2) == (1,)
    assert find_scores((torch.zeros(N, 5), torch.zeros(N)), N, 3) == (0,)
    assert find_scores({"logits": torch.zeros(N, 5), "hidden": torch.zeros(N, K)}, N, K) == (
        "logits",
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (Z, Z + 1),
            r"Expected one tensor of scores in the model's answer, got 0 of shape \(7, 3\), 1 of shape \(7, 3\)",
        ),
        (LOSS, r"row of scores for each of 7 records, got a tensor of shape \(\)"),
        (Z.T, r"row of scores for each of 7 records, got a tensor of shape \(3, 7\)"),
        (torch.zeros(N, 5, K), r"got a tensor of shape \(7, 5, 3\)"),
        ({"text": "yes"}, "got an answer of type dict without tensors"),
        (None, "got an answer of type NoneType without tensors"),
    ],
)
def test_what_is_not_one_answer_is_one_sentence(answer, words):
    with pytest.raises(InputError, match=words):
        find_scores(answer, N, K)


def test_a_dropped_dimension_of_one_record_comes_back():
    assert as_rows(torch.zeros(K), 1).shape == (1, K) and as_rows(torch.tensor(2.0), 1).shape == (
        1,
        1,
    )
    assert as_rows(torch.zeros(N, K, 1, 1), N).shape == (N, K)
    assert as_rows(torch.zeros(N, K, dtype=torch.bfloat16), N).shape == (N, K)


def test_the_tolerance_follows_how_the_numbers_are_written():
    rng = np.random.default_rng(0)
    for k in (2, 10, 1000, 50000):
        p = rng.dirichlet(np.full(k, 0.5), 20)
        half = p.astype(np.float16).astype(np.float64)
        brain = torch.tensor(p).to(torch.bfloat16).double().numpy()
        levels = np.rint(p * 255) / 255
        for seen in (p, p.round(3), p.round(4), p.astype(np.float32).round(4), half, brain, levels):
            seen = np.asarray(seen, dtype=np.float64)
            if seen.any():  # rows of zeros alone say nothing
                assert np.abs(seen.sum(axis=1) - 1).max() <= compute_simplex_tolerance(seen)
    assert compute_simplex_tolerance(rng.random((20, 3))) == 1e-3


def test_records_of_several_arrays_are_taken_together():
    codes, numbers = np.arange(6), torch.zeros(6, 4, requires_grad=True)
    both, named = (
        read_inputs((codes, numbers), 6),
        read_inputs({"codes": codes, "numbers": numbers}, 6),
    )
    assert (
        isinstance(both, Inputs)
        and len(both) == 6
        and both.names == ()
        and named.names == ("codes", "numbers")
    )
    some = both[np.array([5, 0])]
    assert (
        some.parts[0].tolist() == [5, 0] and some.parts[1].shape == (2, 4) and len(both[2:4]) == 2
    )
    assert np.asarray(both).shape == (6, 5) and both.digest != named.digest
    again = both.rebuilt(np.asarray(both, dtype=np.float64))
    assert again.parts[0].dtype == codes.dtype and again.digest == both.digest
    assert len(both.joined(some)) == 8
    with pytest.raises(
        InputError, match="Expected the same 2 inputs of members and of non-members"
    ):
        both.joined(named)


def test_lists_of_tensors_and_of_rows_are_arrays_and_texts_stay():
    rows = [torch.ones(4) * i for i in range(5)]
    assert read_inputs(rows, 5).shape == (5, 4) and read_inputs([[1, 2]] * 5, 5).shape == (5, 2)
    assert read_inputs(["a", "b"], 2) == ["a", "b"] and read_inputs(
        [["a", 1.0], ["b", 2.0]], 2
    ) == [["a", 1.0], ["b", 2.0]]
    assert read_inputs(torch.ones(2, 3, dtype=torch.bfloat16), 2).dtype == np.float32
    assert read_inputs([torch.ones(3), torch.ones(4)], 2)[1].shape == (4,)


class Dicts(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return {"ids": torch.tensor([i, i]), "mask": np.ones(2), "labels": i % 2}


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([(np.full(3, float(i)), i % 2) for i in range(6)])


def test_data_sets_and_loaders_give_records_with_labels_in_order():
    from torch.utils.data import (
        ConcatDataset,
        DataLoader,
        Subset,
        SubsetRandomSampler,
        TensorDataset,
    )

    whole = TensorDataset(torch.arange(12.0).reshape(6, 2), torch.tensor([[0], [1]] * 3))
    for side in (
        whole,
        DataLoader(whole, 4),
        DataLoader(whole, 4, shuffle=True, drop_last=True),
        ConcatDataset([Subset(whole, range(3)), Subset(whole, [3, 4, 5])]),
    ):
        x, y = read_dataset(side)
        assert x.tolist() == whole.tensors[0].tolist() and y.ravel().tolist() == [0, 1] * 3
    x, y = read_dataset(DataLoader(whole, 2, sampler=SubsetRandomSampler([4, 1, 2])))
    assert x[:, 0].tolist() == [2.0, 4.0, 8.0] and y.ravel().tolist() == [1, 0, 0]
    x, y = read_dataset(Dicts())
    assert x.names == ("ids", "mask") and y.tolist() == [0, 1] * 3
    three = TensorDataset(torch.arange(6), torch.zeros(6, 2), torch.arange(6) % 2)
    x, y = read_dataset(DataLoader(three, 5))
    assert [part.shape for part in x.parts] == [(6,), (6, 2)] and y.tolist() == [0, 1] * 3
    x, y = read_dataset(Stream())
    assert x.shape == (6, 3) and y.tolist() == [0, 1] * 3
    pair = (np.zeros(3), np.zeros(3))
    assert read_dataset(pair) is pair


def test_a_data_set_without_labels_is_one_sentence():
    from torch.utils.data import TensorDataset

    with pytest.raises(
        InputError, match=r"gives records with their labels, got a list. Give a pair \(x, y\)"
    ):
        read_dataset(TensorDataset(torch.zeros(4, 2)))
