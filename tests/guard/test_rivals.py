"""PRADA and Blacklight as the benchmark has them.

On inputs with known answers and beside their literal descriptions.
"""

from __future__ import annotations

import numpy as np
import pytest
from benchmark_scripts import load_benchmark
from scipy.stats import shapiro

rivals = load_benchmark("guard_rivals")


def naive_prada(x, label):
    """The description, line by line: (W, queries) at every test."""
    sets, threshold, grown, apart, found = {}, {}, {}, {}, []
    for place, (point, own) in enumerate(zip(x, label, strict=True), start=1):
        if own not in sets:
            sets[own], threshold[own], grown[own], apart[own] = [point], 0.0, [0.0], []
        else:
            nearest = min(float(np.linalg.norm(other - point)) for other in sets[own])
            apart[own].append(nearest)
            if nearest > threshold[own]:
                sets[own].append(point)
                grown[own].append(nearest)
                threshold[own] = max(threshold[own], np.mean(grown[own]) - np.std(grown[own]))
        if place % 10 == 0:
            values = np.array(
                [value for own_ in apart.values() if len(own_) >= 10 for value in own_]
            )
            if len(values):
                values = values[np.abs(values - values.mean()) <= 3 * values.std()]
                if len(values) > 100:
                    found.append((float(shapiro(values).statistic), place))
    return found


def test_prada_is_its_description():
    x, label = rivals.toy(np.random.default_rng(1))
    w = rivals.prada(x[:400], np.arange(400), label[:400])
    expected = naive_prada(x[:400].astype(float), label[:400].tolist())
    assert [place for _, place in expected] == (np.flatnonzero(np.isfinite(w)) + 1).tolist()
    np.testing.assert_allclose([value for value, _ in expected], w[np.isfinite(w)], rtol=1e-4)
    assert len(expected) > 20


def test_prada_is_blind_to_ordinary_records_and_to_copies_one_by_one_but_not_at_random():
    rng = np.random.default_rng(0)
    x, label = rivals.toy(rng)
    assert rivals.prada(x, np.arange(2000), label).min() >= rivals.DELTA
    copies = (np.repeat(x[:100], 20, axis=0) + 0.3 * rng.standard_normal((2000, 60))).astype(
        np.float32
    )
    own, order = np.repeat(label[:100], 20), rng.permutation(2000)
    assert rivals.prada(copies, np.arange(2000), own).min() >= rivals.DELTA
    alarm = np.flatnonzero(rivals.prada(copies, order, own[order]) < rivals.DELTA)[0] + 1
    assert 100 < alarm <= 200


def test_prada_keeps_clients_apart():
    rng = np.random.default_rng(2)
    x, label = rivals.toy(rng)
    client, row = rng.integers(0, 3, 900), rng.integers(0, 600, 900)
    w = rivals.prada_stream(x, client, row, label[row])
    for own in range(3):
        mine = client == own
        np.testing.assert_array_equal(w[mine], rivals.prada(x, row[mine], label[row[mine]]))


def test_prada_takes_repeated_queries_and_large_classes_alike(monkeypatch):
    rng = np.random.default_rng(11)
    x, label = rivals.toy(rng)
    row = rng.integers(0, 150, 500)
    w = rivals.prada(x, row, label[row])
    expected = naive_prada(x[row].astype(float), label[row].tolist())
    np.testing.assert_allclose([value for value, _ in expected], w[np.isfinite(w)], rtol=1e-4)
    monkeypatch.setattr(rivals, "DENSE", 0)
    np.testing.assert_allclose(rivals.prada(x, row, label[row]), w, rtol=1e-6)


@pytest.mark.parametrize(
    ("noise", "expected"), [(0.002, 40.2), (0.005, 28.5), (0.01, 18.0), (0.03, 2.2)]
)
def test_blacklight_shares_fewer_hashes_with_noisier_copies(noise, expected):
    """Means of 50 found with the official code on smooth images of CIFAR's size."""
    rng = np.random.default_rng(3)
    x = rivals.smooth(rng, 150)
    copies = np.clip(x + noise * rng.standard_normal(x.shape), 0, 1)
    shared = rivals.matches(rivals.fingerprints(x), rivals.fingerprints(copies))
    assert shared.mean() == pytest.approx(expected, abs=max(4 * shared.std() / len(x) ** 0.5, 1.0))


def test_blacklights_quick_hash_chooses_as_sha256_does():
    rng = np.random.default_rng(4)
    x = rivals.smooth(rng, 40)
    copies = np.clip(x + 0.01 * rng.standard_normal(x.shape), 0, 1)
    salt = 255 * np.random.default_rng(0).random(x[0].size)
    quick = rivals.matches(rivals.fingerprints(x), rivals.fingerprints(copies))
    literal = [
        len(rivals.literal(a.ravel(), salt) & rivals.literal(b.ravel(), salt))
        for a, b in zip(x, copies, strict=True)
    ]
    assert np.mean(quick) == pytest.approx(
        np.mean(literal), abs=4 * (np.std(quick) + np.std(literal)) / 40**0.5
    )
    assert 10 < np.mean(literal) < 30


def test_blacklight_is_blind_to_mirrored_and_moved_images():
    x = rivals.smooth(np.random.default_rng(5), 50)
    kept = rivals.fingerprints(x)
    assert rivals.matches(kept, rivals.fingerprints(x[..., ::-1])).max() < rivals.SHARED
    assert rivals.matches(kept, rivals.fingerprints(np.roll(x, 1, axis=-1))).max() < rivals.SHARED
    assert rivals.matches(kept, kept).min() == 50


def test_blacklight_takes_all_rows_of_bits_for_one():
    """0 and 255 are the same after the salt."""
    bits = np.random.default_rng(6).integers(0, 2, (60, 600)).astype(float)
    assert rivals.matches(rivals.fingerprints(bits[:-1]), rivals.fingerprints(bits[1:])).min() == 50
    found = rivals.blacklight(rivals.fingerprints(bits), np.arange(60))[0]
    assert found[0] == 0 and (found[1:] == 50).all()


def test_blacklight_never_fires_on_narrow_rows():
    """Thirty features make eleven windows, fewer than the 25 hashes of an attack.

    Fourteen make none.
    """
    rows = np.random.default_rng(7).random((20, 30))
    found = rivals.blacklight(rivals.fingerprints(rows), np.tile(np.arange(20), 2))[0]
    assert (found[:20] == 0).all() and (found[20:] == 11).all() and found.max() < rivals.SHARED
    assert rivals.fingerprints(rows[:, :14]).max() == 0


def test_blacklight_compares_with_every_earlier_query():
    rng = np.random.default_rng(8)
    x = rivals.smooth(rng, 30)
    rows = np.concatenate([x, np.clip(x + 0.004 * rng.standard_normal(x.shape), 0, 1)])
    prints, order = rivals.fingerprints(rows), rng.integers(0, 60, 150)
    found = rivals.blacklight(prints, order)[0]
    for place in range(150):
        earlier = [len(set(prints[order[place]]) & set(prints[other])) for other in order[:place]]
        assert found[place] == max(earlier, default=0)


def test_blacklight_reads_an_index_of_earlier_queries_and_may_pass_over_repeats():
    rng = np.random.default_rng(12)
    x = rivals.smooth(rng, 20)
    prints = rivals.fingerprints(
        np.concatenate([x, np.clip(x + 0.003 * rng.standard_normal(x.shape), 0, 1)])
    )
    order = rng.permutation(np.tile(np.arange(40), 2))
    whole, alone = rivals.blacklight(prints, order)
    later = rivals.blacklight(prints, order[30:], rivals.Index(prints, order[:30]))
    first = np.isin(np.arange(80), np.unique(order, return_index=True)[1])
    np.testing.assert_array_equal(later[0], whole[30:])
    np.testing.assert_array_equal(alone, np.where(first, whole, 0))
    np.testing.assert_array_equal(later[1][first[30:]], alone[30:][first[30:]])


def test_few_different_windows_are_all_found():
    hashes = np.random.default_rng(9).integers(1, 40, (30, 3000)).astype(np.uint64)
    hashes[:10] = np.random.default_rng(10).integers(1, 2**62, (10, 3000))
    hashes[:5, :2990] = 2**62  # one window in nearly all places
    found = rivals.largest(hashes)
    for row, own in zip(hashes, found, strict=True):
        expected = np.unique(row)[::-1][: rivals.TOP]
        np.testing.assert_array_equal(own[: len(expected)], expected)
        assert (own[len(expected) :] == 0).all()
