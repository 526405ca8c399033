"""Neighbours made by a user's function, and shipped attacks on that signal."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from memberscope.attacks import (
    list_attacks,
    list_signal_attacks,
    make_neighbourhood_signal,
)
from memberscope.auditing import Plan, add_own_attacks
from memberscope.auditing.documents.plan import fit_plan_to_task
from memberscope.errors import InputError
from memberscope.statistics import auc_value, roc
from memberscope.texts import Completion
from memberscope.types import Access, Evidence, Records


class LetterModel:
    """A text target: a text's log-probability is that of its letters, and known texts have more."""

    task, access, signal, n_classes = "text", Access.TOKEN_PROBABILITIES, "loss", 1
    digest, n_parameters = None, None

    def __init__(self, known: set[str]) -> None:
        self.known, self.asked = known, []

    def query(self, x: np.ndarray) -> np.ndarray:
        self.asked.append(len(x))
        return np.array([[self.loss(text)] for text in x])

    def loss(self, text: str) -> float:
        return sum(map(ord, text)) / len(text) / 50 - (1.0 if text in self.known else 0.0)


def change_letter(text: str, rng: np.random.Generator) -> str:
    at = rng.integers(len(text))
    return text[:at] + "abcdefgh"[rng.integers(8)] + text[at + 1 :]


def as_records(texts: list) -> Records:
    x = np.empty(len(texts), dtype=object)
    x[:] = texts
    ids = np.array([str(i) for i in range(len(texts))])
    return Records(x, np.zeros(len(texts), np.int64), ids)


RNG = np.random.default_rng(0)
TEXTS = ["".join(RNG.choice(list("abcdefgh"), 30)) for _ in range(200)]
KNOWN = set(TEXTS[:100])


def test_the_signal_is_the_text_minus_the_mean_of_its_neighbours():
    made = []

    def remember(text, rng):
        made.append((text, change_letter(text, rng)))
        return made[-1][1]

    target = LetterModel(KNOWN)
    signal = make_neighbourhood_signal(remember, 4)
    found = signal.measure_records(target, as_records(TEXTS[:5]))
    expected = [
        -target.loss(text) + np.mean([target.loss(new) for old, new in made if old == text])
        for text in TEXTS[:5]
    ]
    np.testing.assert_allclose(found, expected)
    assert target.asked == [5] * 5 and signal.queries == 5


def test_equal_texts_have_equal_neighbours_wherever_they_stand():
    signal = make_neighbourhood_signal(change_letter, 3)
    found = signal.measure_records(LetterModel(KNOWN), as_records(TEXTS))
    turned = signal.measure_records(LetterModel(KNOWN), as_records(TEXTS[::-1]))
    np.testing.assert_array_equal(found, turned[::-1])
    other = make_neighbourhood_signal(change_letter, 3, seed=1)
    assert not np.array_equal(found, other.measure_records(LetterModel(KNOWN), as_records(TEXTS)))


def test_the_digest_tells_functions_and_settings_apart_and_workers_get_the_code():
    signal = make_neighbourhood_signal(change_letter, 3)
    assert signal.digest == make_neighbourhood_signal(change_letter, 3).digest
    assert signal.digest != make_neighbourhood_signal(change_letter, 4).digest
    assert signal.digest != make_neighbourhood_signal(lambda text, rng: text + "a", 3).digest
    again = pickle.loads(pickle.dumps(signal))
    records = as_records(TEXTS[:9])
    np.testing.assert_array_equal(
        again.measure_records(LetterModel(KNOWN), records),
        signal.measure_records(LetterModel(KNOWN), records),
    )


def test_completions_are_given_to_the_function_whole():
    seen = []

    class PairModel(LetterModel):
        def loss(self, text):
            return super().loss(text.completion)

    def keep(record, rng):
        seen.append(record)
        return Completion(record.prompt, change_letter(record.completion, rng))

    pairs = [Completion("ask", text) for text in TEXTS[:3]]
    signal = make_neighbourhood_signal(keep, 1)
    assert np.isfinite(signal.measure_records(PairModel(set()), as_records(pairs))).all()
    assert seen == pairs


def test_attacks_on_it_are_of_texts_and_know_no_classes():
    attacks = list_signal_attacks(make_neighbourhood_signal(change_letter))
    assert [attack.name for attack in attacks] == [
        "neighbourhood",
        "lira_neighbourhood",
        "lira_offline_neighbourhood",
        "lira_robust_neighbourhood",
        "rmia_neighbourhood_gamma1",
        "rmia_offline_neighbourhood_gamma1",
    ]
    for attack in attacks:
        assert attack.needs.tasks == ("text",)
        assert attack.needs.access is Access.TOKEN_PROBABILITIES


def test_a_plan_with_the_signal_still_has_all_attacks_on_texts():
    signal = make_neighbourhood_signal(change_letter)
    plan = fit_plan_to_task(add_own_attacks(Plan(), signals=[signal]), "text")
    assert plan.attacks[: len(list_attacks("text"))] == tuple(list_attacks("text"))
    assert plan.attacks[-6:] == tuple(one.name for one in list_signal_attacks(signal))
    named = fit_plan_to_task(add_own_attacks(Plan(), ["loss"], [signal]), "text")
    assert named.attacks[:2] == ("loss", "neighbourhood")


def test_threshold_lira_and_rmia_find_the_known_texts():
    signal = make_neighbourhood_signal(change_letter, 5)
    records = as_records(TEXTS)
    inside = np.argsort(RNG.random((4, 200)), axis=0) < 2
    values = [
        signal.measure_records(LetterModel({TEXTS[i] for i in np.flatnonzero(row)}), records)
        for row in inside
    ]
    evidence = Evidence(
        "custom",
        signal.measure_records(LetterModel(KNOWN), records)[:, None, None],
        np.zeros(200, int),
        np.full(200, -1, np.int8),
        references=np.stack(values)[:, :, None, None],
        inside=inside,
    )
    member = np.arange(200) < 100
    for attack in list_signal_attacks(signal):
        found = attack.score(evidence, np.random.default_rng(0))
        assert auc_value(roc(found, member)) > 0.99, attack.name


@pytest.mark.parametrize(("perturb", "n"), [("swap", 5), (change_letter, 0)])
def test_what_is_no_function_or_no_neighbour_is_refused(perturb, n):
    with pytest.raises(InputError, match="function perturb"):
        make_neighbourhood_signal(perturb, n)
