"""One table over every attack.

Shapes, determinism, order, refusals, and AUCs known from closed forms.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from memberscope.attacks import (
    ATTACKS,
    BASE,
    OUTPUT_ATTACKS,
    RMIA,
    TABLE_ATTACKS,
    TEXT_ATTACKS,
    VARIANTS,
    WHITE_BOX,
    Confidence,
    Entropy,
    Gap,
    GradientNorm,
    LiRA,
    Logit,
    Loss,
    Margin,
    MinK,
    MinKPlusPlus,
    ModifiedEntropy,
    Quantile,
    find_attacks,
    is_shipped,
    list_attacks,
)
from memberscope.errors import InputError, UnmetNeedError
from memberscope.statistics import auc_value, roc
from memberscope.texts import TokenSignals
from memberscope.types import Access, Attack, Evidence

TABLE = (
    *ATTACKS,
    *VARIANTS,
    *WHITE_BOX,
    RMIA("offline", gamma=1.0, temperature=1.0, a=0.3, correct_population=True),
    BASE("offline", temperature=1.0),
    BASE(temperature=1.0),
    # The others of texts stand above
    *(attack for attack in TEXT_ATTACKS if attack.needs.tasks == ("text",)),
    *OUTPUT_ATTACKS,
    MinK(0.5),
    MinKPlusPlus(1.0),
    *TABLE_ATTACKS,
)
IDS = [attack.name for attack in TABLE]
# Gap, entropy and two-sided LiRA have forms of their own; attack R sees 33 levels; offline BASE
# needs no difficulty to subtract. Which labels are right has steps, and errors of a course are no
# normals.
APART = ("gap", "entropy", "attack_r", "base_offline", "label_gap", "lira_series")
# Tokens of every text, and how the log-probability of each differs from their mean
LENGTH = 60
COURSE = 3.0 * ndtri((np.random.default_rng(9).permutation(LENGTH) + 0.5) / LENGTH)
SLOW_TO_FIT = ("nasr", "quantile", "shokri", "error_quantile")
# How far below the truth a model predicts of which nothing else is known
SHORT = 20.0
CONTINUOUS = [
    attack
    for attack in TABLE
    if not attack.name.startswith(APART) and "two_sided" not in attack.name
]


def binary_evidence(
    n: int,
    shift: float,
    seed: int,
    attack: Attack,
    signal: str | None = None,
    n_references: int = 8,
    known_share: float = 0.5,
) -> tuple[Evidence, np.ndarray]:
    """Two classes whose logit of the true class is N(0, 1) for non-members and N(shift.

    1) for members, the first half.

    Reference models see the same: N(shift, 1) where the record is inside, each record in half of
    the models.
    """
    rng = np.random.default_rng(seed)
    member = np.arange(n) < n // 2
    labels = rng.integers(0, 2, n)
    signal = signal or usable(attack)[-1]
    if signal == "prediction":
        labels = labels[:, None].astype(float)
    elif signal == "label_probabilities":
        labels = labels[:, None]
    target = observed(rng.standard_normal(n) + shift * member, labels, signal)
    known = np.where(rng.random(n) < known_share, member.astype(np.int8), -1).astype(np.int8)
    evidence = Evidence(signal, target[:, None, :], labels, known, features=rng.normal(size=(n, 3)))
    if signal == "tokens":
        evidence = replace(evidence, tokens=token_signals(target[:, 0]))
    if not sum(attack.needs.references):
        return evidence, member
    inside = np.argsort(rng.random((n_references, n)), axis=0) < n_references // 2
    logits = rng.standard_normal((n_references, n)) + shift * inside
    references = np.stack([observed(row, labels, signal) for row in logits])[:, :, None, :].astype(
        np.float32
    )
    return replace(evidence, references=references, inside=inside), member


def observed(logit: np.ndarray, labels: np.ndarray, signal: str) -> np.ndarray:
    """What `signal` shows (n, d) of a model whose true-class logit is `logit` and whose other logit is zero."""
    if signal in (
        "tokens",
        "generations",
        "logit_confidence",
        "boundary",
        "noise",
        "augmentation",
        "transfer",
        "gradient_norm",
    ):
        return logit[:, None]
    if signal == "prediction":
        return labels - SHORT + logit[:, None]
    if signal == "label_probabilities":
        return 1 / (1 + np.exp(np.where(labels > 0, -1, 1) * logit[:, None]))
    if signal in ("gradient_layers", "activations", "token_features"):
        return np.column_stack(
            [logit, np.random.default_rng(len(logit)).normal(size=(len(logit), 5))]
        )
    # What the population shows of each record is alike
    if signal == "proximity":
        return np.column_stack([logit, logit, np.zeros((len(logit), 2))])
    if signal == "influence":
        return np.column_stack([logit, np.zeros((len(logit), 2)), -logit])
    if signal in ("loss", "log_confidence"):
        return np.logaddexp(0, -logit)[:, None] * (1 if signal == "loss" else -1)
    outputs = np.zeros((len(logit), 2))
    outputs[np.arange(len(logit)), labels] = logit
    if signal == "probabilities":
        outputs = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    return outputs.argmax(axis=1)[:, None].astype(float) if signal == "labels" else outputs


def token_signals(level: np.ndarray) -> TokenSignals:
    """Texts whose tokens all follow one course, `level` (n,) higher; all else is alike.

    So every attack that reads tokens orders the texts as `level` does.
    """
    n = len(level)
    values = -20 + level[:, None] + COURSE
    return TokenSignals(
        np.arange(n + 1) * LENGTH,
        values.ravel(),
        mean=np.full(n * LENGTH, -20.0),
        variance=np.full(n * LENGTH, 4.0),
        is_top=np.tile(np.arange(LENGTH) % 3 == 0, n),
        base=np.full(n * LENGTH, -20.0),
        zlib_bytes=np.full(n, 150),
        copies={"lowercase": np.full(n, -21.0), "recall": np.full(n, -21.0)},
    )


def usable(attack: Attack) -> list[str]:
    return list(attack.needs.signals)


@pytest.mark.parametrize("attack", TABLE, ids=IDS)
def test_shape_and_nan_exactly_where_not_hidden(attack):
    for signal in usable(attack):
        evidence, _ = binary_evidence(300, 1.0, 0, attack, signal)
        scores = attack.score(evidence, np.random.default_rng(0))
        assert scores.shape == (300,) and scores.dtype == np.float64
        assert np.array_equal(np.isnan(scores), ~evidence.hidden)


@pytest.mark.parametrize("attack", TABLE, ids=IDS)
def test_same_inputs_same_scores_and_evidence_untouched(attack):
    evidence, _ = binary_evidence(300, 1.0, 1, attack)
    before = evidence.target.copy()
    first, second = (attack.score(evidence, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(evidence.target, before)


@pytest.mark.parametrize("attack", TABLE, ids=IDS)
def test_the_order_of_records_does_not_matter(attack):
    evidence, _ = binary_evidence(300, 1.0, 2, attack)
    order = np.random.default_rng(0).permutation(300)
    moved = replace(
        evidence,
        target=evidence.target[order],
        labels=evidence.labels[order],
        known=evidence.known[order],
        features=evidence.features[order],
        references=None if evidence.references is None else evidence.references[:, order],
        inside=None if evidence.inside is None else evidence.inside[:, order],
        tokens=None if evidence.tokens is None else evidence.tokens.take(order),
    )
    rng = np.random.default_rng
    # Trees and means sum in the order of the records, so the last digits may move.
    np.testing.assert_allclose(
        attack.score(moved, rng(0)), attack.score(evidence, rng(0))[order], rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("attack", TABLE, ids=IDS)
def test_hidden_truth_cannot_change_a_score(attack):
    """The truth of hidden records is not in the evidence.

    So a fresh draw of it leaves scores alone.
    """
    evidence, _ = binary_evidence(300, 1.0, 3, attack)
    assert set(np.unique(evidence.known)) == {-1, 0, 1}
    scores = attack.score(evidence, np.random.default_rng(0))
    assert np.isfinite(scores[evidence.hidden]).all()


@pytest.mark.parametrize("attack", TABLE, ids=IDS)
def test_unmet_needs_are_refused_in_a_sentence(attack):
    evidence, _ = binary_evidence(60, 1.0, 0, attack)
    missing = next(
        (s for s in ("labels", "loss", "probabilities", "logits") if s not in attack.needs.signals),
        None,
    )
    if missing:
        with pytest.raises(
            UnmetNeedError, match=rf"Expected .* for the attack {attack.name}, got {missing}"
        ):
            attack.score(replace(evidence, signal=missing), np.random.default_rng(0))
    if attack.needs.known != "none":
        with pytest.raises(UnmetNeedError, match="known"):
            attack.score(
                replace(evidence, known=np.full(60, -1, dtype=np.int8)), np.random.default_rng(0)
            )
    if sum(attack.needs.references):
        with pytest.raises(UnmetNeedError, match="Expected reference models"):
            attack.score(replace(evidence, references=None, inside=None), np.random.default_rng(0))
        with pytest.raises(UnmetNeedError, match=r"Expected at least \d reference model"):
            everyone = np.ones_like(evidence.inside)
            attack.score(replace(evidence, inside=everyone), np.random.default_rng(0))
    if evidence.tokens is not None:
        with pytest.raises(UnmetNeedError, match=f"each token for the attack {attack.name}, got"):
            attack.score(replace(evidence, tokens=None), np.random.default_rng(0))
        bare = TokenSignals(evidence.tokens.offsets, evidence.tokens.log_probability)
        if attack.needs.tokens:
            with pytest.raises(UnmetNeedError, match=f"Expected .* for the attack {attack.name}"):
                attack.score(replace(evidence, tokens=bare), np.random.default_rng(0))
    if attack.needs.features:
        with pytest.raises(UnmetNeedError, match="features"):
            attack.score(replace(evidence, features=None), np.random.default_rng(0))


@pytest.mark.parametrize("attack", TABLE, ids=IDS)
def test_chance_where_nothing_leaks(attack):
    # Where nothing leaks the AUC is one half in the mean whatever was fitted, and spreads by the
    # records scored. So attacks that fit trees are fitted 6 times to as many known records, and
    # score as many in all as the others do in 30 draws
    slow = attack.name.startswith(SLOW_TO_FIT)
    runs, n, known_share = (6, 1800, 1 / 6) if slow else (30, 600, 1 / 2)
    areas = []
    for seed in range(runs):
        evidence, member = binary_evidence(n, 0.0, seed, attack, known_share=known_share)
        scores = attack.score(evidence, np.random.default_rng(seed))
        areas.append(auc_value(roc(scores[evidence.hidden], member[evidence.hidden])))
    spread = np.sqrt(601 / (12 * 150 * 150)) / np.sqrt(30)
    assert abs(np.mean(areas) - 0.5) < 4 * spread


@pytest.mark.parametrize("attack", CONTINUOUS, ids=[attack.name for attack in CONTINUOUS])
def test_gaussian_shift_gives_the_closed_form_auc(attack):
    evidence, member = binary_evidence(24_000, 1.0, 7, attack, n_references=64)
    hidden = evidence.hidden
    area = auc_value(roc(attack.score(evidence, np.random.default_rng(0))[hidden], member[hidden]))
    # Fitted attacks lose a little to their thresholds; one score, one class: the same curve for all
    # the others.
    tolerance = 0.012 if attack.needs.known == "none" else 0.03
    assert area == pytest.approx(ndtr(1 / 2**0.5), abs=tolerance)


def test_entropy_alone_sees_the_size_of_the_logit():
    evidence, member = binary_evidence(24_000, 2.0, 8, Entropy())
    evidence = replace(evidence, known=np.full(24_000, -1, dtype=np.int8))
    area = auc_value(roc(Entropy().score(evidence, np.random.default_rng(0)), member))
    rng = np.random.default_rng(1)
    expected = np.mean(np.abs(rng.standard_normal(10**6) + 2) > np.abs(rng.standard_normal(10**6)))
    assert area == pytest.approx(expected, abs=0.01)


def test_gap_attack_is_the_generalisation_gap():
    rng = np.random.default_rng(0)
    right = np.where(np.arange(4000) < 2000, rng.random(4000) < 0.95, rng.random(4000) < 0.6)
    evidence = Evidence(
        "labels",
        np.where(right, 0.0, 1.0)[:, None, None],
        np.zeros(4000, int),
        np.full(4000, -1, np.int8),
    )
    scores = Gap().score(evidence, rng)
    assert scores[:2000].mean() - scores[2000:].mean() == right[:2000].mean() - right[2000:].mean()


def test_published_statistics_from_logits():
    logits = np.array([[1.0, 2, -3], [-1, 1, 0]])
    evidence = Evidence("logits", logits[:, None, :], np.array([1, 2]), np.full(2, -1, np.int8))
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(
        Confidence().score(evidence, rng), [0.72747516, 0.24472847], rtol=1e-7
    )
    np.testing.assert_allclose(-Loss().score(evidence, rng), [0.31817543, 1.40760596], rtol=1e-7)
    np.testing.assert_allclose(Logit().score(evidence, rng), [0.98185009, -1.12692802], rtol=1e-7)
    np.testing.assert_allclose(Margin().score(evidence, rng), [1.0, -1.0], rtol=1e-12)


def test_published_losses_from_logits():
    logits = np.array([[1.0, 2, 0, -1], [1, 2, 0, -1], [-1, 3, 0, 0]])
    evidence = Evidence("logits", logits[:, None, :], np.array([0, 3, 1]), np.full(3, -1, np.int8))
    np.testing.assert_allclose(
        -Loss().score(evidence, np.random.default_rng(0)),
        [1.4401897, 3.4401897, 0.11144278],
        rtol=1e-7,
    )


def test_modified_entropy_by_its_formula():
    p = np.array([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [1.0, 0.0, 0.0]])
    y = np.array([0, 2, 0])
    evidence = Evidence("probabilities", p[:, None, :], y, np.full(3, -1, np.int8))
    expected = []
    for row, label in zip(p, y, strict=True):
        others = [j for j in range(3) if j != label]
        log = [np.log(max(value, 1e-30)) for value in 1 - row]
        expected.append(
            -(1 - row[label]) * np.log(max(row[label], 1e-30))
            - sum(row[j] * log[j] for j in others)
        )
    np.testing.assert_allclose(
        -ModifiedEntropy().score(evidence, np.random.default_rng(0)),
        expected,
        rtol=1e-6,
        atol=1e-12,
    )


def test_logits_do_not_saturate_where_probabilities_do():
    logits = np.array([[40.0, 0], [60, 0], [80, 0]])
    evidence = Evidence("logits", logits[:, None, :], np.zeros(3, int), np.full(3, -1, np.int8))
    scores = Logit().score(evidence, np.random.default_rng(0))
    np.testing.assert_allclose(scores, [40.0, 60.0, 80.0])


def test_class_thresholds_follow_the_published_rule():
    """Per class: the strictest observed value with the best balanced accuracy on known records.

    Zero is the decision.
    """
    rng = np.random.default_rng(0)
    n = 400
    labels, member = rng.integers(0, 3, n), rng.random(n) < 0.5
    p = rng.uniform(0.05, 0.95, n)
    outputs = np.zeros((n, 3))
    outputs[np.arange(n), labels] = p
    outputs[np.arange(n), (labels + 1) % 3] = 1 - p
    known = np.where(np.arange(n) < 300, member, -1).astype(np.int8)
    evidence = Evidence("probabilities", outputs[:, None, :], labels, known)
    scores = Confidence("per_class").score(evidence, rng)
    for label in range(3):
        learn = (labels == label) & (known >= 0)
        values = sorted(p[learn], reverse=True)
        gains = [(p[learn & member] >= v).mean() - (p[learn & ~member] >= v).mean() for v in values]
        threshold = values[int(np.argmax(np.round(gains, 12)))]
        test = (labels == label) & (known < 0)
        np.testing.assert_allclose(scores[test], p[test] - threshold, atol=1e-12)


def test_quantile_regression_removes_difficulty_that_features_explain():
    """Scores that vary with x alone hide the leak from one threshold and not from one a record."""
    rng = np.random.default_rng(0)
    n = 8000
    member = np.arange(n) < n // 2
    x = rng.uniform(-3, 3, (n, 2))
    logit = 3 * x[:, 0] + rng.standard_normal(n) + 1.0 * member
    outputs = np.stack([logit, np.zeros(n)], axis=1)
    known = np.where(rng.random(n) < 0.5, member, -1).astype(np.int8)
    evidence = Evidence("logits", outputs[:, None, :], np.zeros(n, int), known, features=x)
    hidden = evidence.hidden

    def area(attack: Attack) -> float:
        return auc_value(
            roc(attack.score(evidence, np.random.default_rng(0))[hidden], member[hidden])
        )

    best = ndtr(1 / 2**0.5)
    assert area(Logit()) < 0.58
    for attack in (Quantile(), Quantile(model="pinball")):
        assert best - 0.03 < area(attack) <= best + 0.02


def test_names_are_unique_and_looked_up():
    assert len(set(IDS)) == len(IDS)
    assert [attack.name for attack in find_attacks(("gap", "quantile"))] == ["gap", "quantile"]
    inside = {
        name
        for name, attack in list_attacks().items()
        if attack.needs.access > Access.PROBABILITIES
    }
    assert inside == {attack.name for attack in WHITE_BOX}, "only these look inside a model"
    assert not {attack.name for attack in VARIANTS} & set(list_attacks()), (
        "variants run only where a plan names them"
    )
    assert all(attack.needs.access is Access.WHITE_BOX for attack in WHITE_BOX)
    assert find_attacks(("gradient_norm", "lira_gradient_norm")) == (
        GradientNorm(),
        LiRA(signal="gradient_norm"),
    )
    assert list(list_attacks("text"))[: len(TEXT_ATTACKS)] == [one.name for one in TEXT_ATTACKS]
    assert set(list_attacks()) - set(list_attacks("text")) == {"calibrated"}, "its loss runs there"
    assert all(find_attacks((name,)) == (one,) for name, one in list_attacks("text").items())
    assert all(map(is_shipped, list_attacks("text")))
    assert find_attacks(("lira_offline_two_sided", "rmia_gamma1")) == (
        LiRA("offline", sides="two"),
        RMIA(gamma=1.0),
    )
    with pytest.raises(InputError, match="got 'lyra'"):
        find_attacks(("lyra",))


def test_parameters_show_in_the_repr():
    assert repr(Loss("per_class")) == "Loss(thresholds='per_class')"
