"""LiRA with other members in the place of the record: as written out, and blind where it must be."""

import numpy as np
import pytest
from scipy.stats import norm

from memberscope.attacks import ProxyLiRA
from memberscope.errors import UnmetNeedError
from memberscope.types import Evidence

M, N = 6, 30


def draw_evidence(seed=0, n_classes=3):
    """References that give 2 more to what they were trained on, and more to some classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % n_classes
    half = np.argsort(rng.random((M // 2, N)), axis=1) < N // 2
    inside = np.concatenate([half, ~half])
    references = rng.normal(size=(M, N)) + labels + 2 * inside
    target = rng.normal(size=N) + labels
    return Evidence(
        "logit_confidence",
        target[:, None, None],
        labels,
        np.full(N, -1, dtype=np.int8),
        references=references[:, :, None, None],
        inside=inside,
    )


def score(evidence):
    return ProxyLiRA().score(evidence, np.random.default_rng(0))


def test_scores_are_those_of_the_definition():
    evidence = draw_evidence()
    values, inside = evidence.references[:, :, 0, 0], evidence.inside
    squares = sum(
        ((column := values[~inside[:, j], j]) - column.mean()) @ (column - column.mean())
        for j in range(N)
    )
    out = np.sqrt(squares / (N * (M // 2 - 1)))
    wanted = []
    for j in range(N):
        others = (evidence.labels == evidence.labels[j]) & (np.arange(N) != j)
        pool = values[:, others][inside[:, others]]
        v = evidence.target[j, 0, 0]
        ratio = norm(pool.mean(), pool.std()).logpdf(v)
        wanted.append(ratio - norm(values[~inside[:, j], j].mean(), out).logpdf(v))
    np.testing.assert_allclose(score(evidence), wanted, rtol=1e-9)


def test_models_trained_on_the_record_itself_do_not_count():
    evidence = draw_evidence()
    before = score(evidence)
    own = np.flatnonzero(evidence.inside[:, 4])
    evidence.references[own, 4] += 100.0
    assert score(evidence)[4] == pytest.approx(before[4], rel=1e-9)
    assert not np.allclose(np.delete(score(evidence), 4), np.delete(before, 4))


def test_a_record_alone_in_its_class_is_compared_with_all_others():
    evidence = draw_evidence(n_classes=N)
    assert np.isfinite(score(evidence)).all()


def test_references_that_learned_none_of_the_records_are_refused():
    evidence = draw_evidence()
    evidence.inside[:] = False
    with pytest.raises(UnmetNeedError, match="trained on some of the records"):
        score(evidence)
