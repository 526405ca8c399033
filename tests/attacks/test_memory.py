"""Memory of scoring: what is held at once does not grow with the number of reference models.

Whose signals lie on disk.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from memberscope.attacks import BASE, RMIA, AttackR, Calibrated, LiRA, RobustLiRA, Shokri
from memberscope.types import Attack, Evidence

N, FEW, MANY = 40_000, 16, 256  # more than one block even of the few
EVERY: tuple[Attack, ...] = (
    *(
        LiRA(),
        LiRA("online", "per_example"),
        LiRA("offline"),
        LiRA("offline", sides="two"),
        LiRA(centre="median"),
    ),
    *(RobustLiRA(), RMIA(), RMIA("offline"), BASE(), BASE("offline"), Calibrated(), AttackR()),
    Shokri("statistics", max_rows=1000),
)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Signals of 256 models in a file.

    One number for each of n records, or two for each of n / 2.
    """
    file = tmp_path_factory.mktemp("references") / "signals"
    signals = np.memmap(file, np.float32, "w+", shape=(MANY, N))
    signals[:] = -np.random.default_rng(0).random((MANY, N), dtype=np.float32)
    signals.flush()
    return np.memmap(file, np.float32, "r", shape=(MANY, N))


def seen(signals: np.memmap, m: int, attack: Attack) -> Evidence:
    """Evidence under the first `m` models, read from disk."""
    rng = np.random.default_rng(1)
    name = attack.needs.signals[-1]
    width = 2 if name == "logits" else 1
    refs = signals[:m].reshape(m, -1, 1, width)
    n = refs.shape[1]
    inside = np.arange(m)[:, None] % 2 == np.zeros(n, dtype=int)
    known = np.where(rng.random(n) < width - 1.5, 0, -1).astype(np.int8)
    labels = rng.integers(0, width, n)
    return Evidence(name, -rng.random((n, 1, width)), labels, known, references=refs, inside=inside)


def peak(attack: Attack, evidence: Evidence) -> int:
    """Bytes that scoring holds at once beyond the evidence."""
    tracemalloc.start()
    try:
        attack.score(evidence, np.random.default_rng(0))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_sixteen_times_the_models_take_no_more_memory(mapped, attack):
    few, many = seen(mapped, FEW, attack), seen(mapped, MANY, attack)
    assert isinstance(many.references, np.memmap)
    attack.score(few, np.random.default_rng(0))  # imports and caches are not the attack's
    more = peak(attack, many) - peak(attack, few)
    added = many.references.nbytes - few.references.nbytes
    assert more < 0.02 * added, (more / 1e6, added / 1e6)


def test_the_measure_sees_an_attack_that_reads_everything(mapped):
    class Greedy(Calibrated):
        def score(self, evidence, rng):
            assert evidence.references is not None
            return super().score(replace(evidence, references=np.array(evidence.references)), rng)

    attack = Greedy()
    few, many = seen(mapped, FEW, attack), seen(mapped, MANY, attack)
    added = many.references.nbytes - few.references.nbytes
    assert peak(attack, many) - peak(attack, few) > 0.9 * added
