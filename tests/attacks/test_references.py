"""Attacks with reference models.

Published answers, naive definitions, and chance where nothing leaks at any number of models.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from memberscope.attacks import BASE, RMIA, AttackR, Calibrated, LiRA, RobustLiRA, Shokri
from memberscope.attacks import _reference_stats as blocked
from memberscope.attacks.lira_robust import student_log_density
from memberscope.attacks.rmia import choose_offline_a, compute_dominated_share
from memberscope.statistics import auc_value, roc
from memberscope.types import Evidence

RNG = np.random.default_rng


def scene(
    n: int,
    m: int,
    shift: float,
    seed: int,
    *,
    views: int = 1,
    spread: float = 1.0,
    signal: str = "logit_confidence",
):
    """Records of difficulty N(0, spread).

    Seen by m balanced reference models and a target that knows the first half.
    """
    rng = RNG(seed)
    member = rng.random(n) < 0.5
    inside = np.argsort(rng.random((m, n)), axis=0) < m // 2
    difficulty = spread * rng.standard_normal((n, 1))
    target = difficulty + rng.standard_normal((n, views)) + shift * member[:, None]
    refs = difficulty + rng.standard_normal((m, n, views)) + shift * inside[:, :, None]
    if signal == "log_confidence":
        target, refs = -np.logaddexp(0, -target), -np.logaddexp(0, -refs)
    hidden = np.full(n, -1, dtype=np.int8)
    labels = np.zeros(n, dtype=int)
    return Evidence(
        signal, target[:, :, None], labels, hidden, references=refs[..., None], inside=inside
    ), member


def test_lira_gives_the_published_log_densities():
    """TensorFlow Privacy's test: one-sided densities under the models trained with the record (negative there)."""
    stat_in, target = np.array([[-1.0, 1], [0, 2], [0, 20]]), np.array([1.0, 0, 0])
    refs = np.concatenate([stat_in.T, stat_in.T])[:, :, None, None]
    inside = np.array([[True] * 3] * 2 + [[False] * 3] * 2)
    hidden = np.full(3, -1, dtype=np.int8)
    evidence = Evidence(
        "logit_confidence",
        target[:, None, None],
        np.zeros(3, int),
        hidden,
        references=refs,
        inside=inside,
    )
    own = LiRA("offline", "per_example", sides="two").score(evidence, RNG(0))
    np.testing.assert_allclose(own, [1.41893853, 1.41893853, 3.72152363], rtol=1e-8)
    pooled = LiRA("offline", "fixed", sides="two").score(evidence, RNG(0))
    np.testing.assert_allclose(pooled, [2.69682468, 2.69682468, 4.15270703], rtol=1e-8)
    np.testing.assert_allclose(LiRA("online", "per_example").score(evidence, RNG(0)), 0, atol=1e-12)


def test_two_sided_offline_punishes_both_sides_alike_and_one_sided_does_not():
    refs = RNG(0).standard_normal((4000, 2, 1, 1))
    inside = np.zeros((4000, 2), dtype=bool)
    hidden = np.full(2, -1, dtype=np.int8)
    target = np.array([4.0, -4.0])[:, None, None]
    evidence = Evidence(
        "logit_confidence", target, np.zeros(2, int), hidden, references=refs, inside=inside
    )
    two = LiRA("offline", "fixed", sides="two").score(evidence, RNG(0))
    one = LiRA("offline", "fixed").score(evidence, RNG(0))
    assert two == pytest.approx([8.92, 8.92], abs=0.4) and one == pytest.approx(
        [4.0, -4.0], abs=0.1
    )


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("variance", ["fixed", "per_example"])
@pytest.mark.parametrize("centre", ["mean", "median"])
def test_lira_equals_a_loop_over_records(views, variance, centre):
    evidence, _ = scene(90, 12, 1.0, 0, views=views)
    middle = np.mean if centre == "mean" else np.median
    refs, inside = evidence.references[..., 0], evidence.inside
    residuals = [
        [refs[g, j] - refs[g, j].mean(0) for j in range(90) for g in [inside[:, j] == side]]
        for side in (True, False)
    ]
    pooled = [np.sqrt((np.concatenate(side) ** 2).mean(axis=0)) for side in residuals]
    expected, offline = [], []
    for j in range(90):
        ratio = []
        for v in range(views):
            parts = []
            for side in (0, 1):
                own = refs[inside[:, j] == (side == 0), j, v]
                sd = pooled[side][v] if variance == "fixed" else own.std()
                parts.append(
                    (norm.logpdf(evidence.target[j, v, 0], middle(own), sd), middle(own), sd)
                )
            ratio.append(
                (parts[0][0] - parts[1][0], (evidence.target[j, v, 0] - parts[1][1]) / parts[1][2])
            )
        expected.append(np.mean([r[0] for r in ratio]))
        offline.append(np.mean([r[1] for r in ratio]))
    got = LiRA("online", variance, centre=centre).score(evidence, RNG(0))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        LiRA("offline", variance, centre=centre).score(evidence, RNG(0)), offline, rtol=1e-9
    )


def test_variance_switches_at_sixty_four_models():
    for m, twin in ((62, "fixed"), (64, "per_example")):
        evidence, _ = scene(40, m, 1.0, 0)
        same = LiRA("online", twin).score(evidence, RNG(0))
        np.testing.assert_array_equal(LiRA().score(evidence, RNG(0)), same)


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30),
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30),
)
def test_rmia_by_sorting_equals_all_pairs_bit_for_bit(record, population):
    x, z = np.array(record), np.array(population)
    for gamma in (1.0, 1.1, 2.0, 3.0):
        both = np.concatenate([x, z * gamma])  # borders, where rounding decides
        naive = (both[:, None] / z[None, :] >= gamma).mean(axis=1)
        np.testing.assert_array_equal(compute_dominated_share(both, z, gamma), naive)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_rmia_equals_its_definition(mode):
    evidence, _ = scene(60, 8, 1.0, 1, signal="log_confidence")
    others, _ = scene(50, 8, 0.0, 2, signal="log_confidence")
    population = replace(others, inside=np.zeros_like(others.inside))
    p, refs = np.exp(evidence.target[:, 0, 0]), np.exp(evidence.references[:, :, 0, 0])
    pz = np.exp(population.target[:, 0, 0]) / np.exp(population.references[:, :, 0, 0]).mean(axis=0)
    expected = []
    for j in range(60):
        inside = evidence.inside[:, j]
        p_in, p_out = refs[inside, j].mean(), refs[~inside, j].mean()
        average = (p_in + p_out) / 2 if mode == "online" else (1.4 * p_out + 0.6) / 2
        expected.append(np.mean((p[j] / average) / pz >= 2.0))
    got = RMIA(mode, a=0.4).score(replace(evidence, population=population), RNG(0))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_rmia_of_one_view_ranks_as_its_ratio_whatever_the_population():
    evidence, member = scene(400, 8, 2.0, 3, signal="log_confidence")
    ratio = BASE().score(evidence, RNG(0))  # balanced design: the same ratio, untied
    score = RMIA(gamma=1.0).score(evidence, RNG(0))
    np.testing.assert_array_equal(rankdata(ratio, "max"), rankdata(score, "max"))
    assert auc_value(roc(score, member)) == pytest.approx(auc_value(roc(ratio, member)), abs=1e-12)


def test_the_offline_constant_is_chosen_on_references_alone():
    evidence, _ = scene(300, 8, 2.0, 4, signal="log_confidence")
    chosen = choose_offline_a(evidence)
    assert chosen == choose_offline_a(replace(evidence, target=-evidence.target))
    np.testing.assert_array_equal(
        RMIA("offline").score(evidence, RNG(0)), RMIA("offline", a=chosen).score(evidence, RNG(0))
    )


@given(st.integers(0, 10**6), st.sampled_from([3, 4, 5, 9]))
def test_the_offline_constant_equals_a_loop_over_models(seed, m):
    rng = RNG(seed)
    inside, p = rng.random((m, 50)) < 0.5, rng.random((m, 50))
    expected = np.zeros(11)
    for model in range(min(4, m)):
        ratios, truth = [], []
        for j in range(50):
            without = [p[k, j] for k in range(m) if k != model and not inside[k, j]]
            if without:
                ratios.append(
                    [
                        p[model, j] / (((1 + a / 10) * np.mean(without) + 1 - a / 10) / 2)
                        for a in range(11)
                    ]
                )
                truth.append(inside[model, j])
        expected += [
            auc_value(roc(np.array(column), np.array(truth)))
            for column in zip(*ratios, strict=True)
        ]
    hidden, zeros = np.full(50, -1, dtype=np.int8), np.zeros((50, 1, 1))
    refs = np.log(p)[:, :, None, None]
    evidence = Evidence(
        "log_confidence", zeros, np.zeros(50, int), hidden, references=refs, inside=inside
    )
    assert expected[round(10 * choose_offline_a(evidence))] == pytest.approx(
        expected.max(), abs=1e-12
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_the_area_under_the_staircase_is_the_share_of_pairs_won(pairs):
    scores, member = np.array([float(s) for s, _ in pairs]), np.array([m for _, m in pairs])
    member[:2] = [True, False]
    gaps = scores[member][:, None] - scores[~member][None, :]
    pairs_won = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    assert auc_value(roc(scores, member)) == pytest.approx(pairs_won, abs=1e-14)


def test_scores_do_not_depend_on_the_block_or_on_where_the_references_lie(monkeypatch, tmp_path):
    evidence, _ = scene(500, 6, 1.0, 5)
    np.save(tmp_path / "references.npy", evidence.references)
    mapped = replace(evidence, references=np.load(tmp_path / "references.npy", mmap_mode="r"))
    attacks = (LiRA(), LiRA("offline", centre="median"), RobustLiRA(), Calibrated())
    whole = [attack.score(evidence, RNG(0)) for attack in attacks]
    in_blocks = blocked.iterate_reference_blocks
    monkeypatch.setattr(
        blocked, "iterate_reference_blocks", lambda evidence: in_blocks(evidence, 64)
    )
    for attack, expected in zip(attacks, whole, strict=True):
        np.testing.assert_allclose(attack.score(mapped, RNG(0)), expected, rtol=1e-12)


def test_calibration_removes_difficulty():
    evidence, member = scene(4000, 32, 1.5, 6, spread=4.0)
    plain = auc_value(roc(evidence.target[:, 0, 0], member))
    for attack in (LiRA(), LiRA("offline"), Calibrated(), RobustLiRA()):
        assert auc_value(roc(attack.score(evidence, RNG(0)), member)) > plain + 0.15


def test_student_density_and_few_models():
    x = np.linspace(-3, 3, 7)
    expected = student.logpdf(x, 3.0, loc=0.5, scale=2.0)
    np.testing.assert_allclose(
        student_log_density(x, np.array(0.5), np.array(4.0), np.array(3.0)), expected, rtol=1e-12
    )


@pytest.mark.parametrize("m", [4, 8])
def test_robust_lira_is_best_where_few_models_disagree_in_spread(m):
    """Records whose spread differs twentyfold.

    Pooled variance is wrong for all, own variance hardly known.
    """
    gains = []
    for seed in range(4):
        rng = RNG(seed)
        n = 6000
        member, inside = rng.random(n) < 0.5, np.argsort(rng.random((m, n)), axis=0) < m // 2
        spread, difficulty = np.exp(rng.normal(0, 1.0, n)), 2 * rng.standard_normal(n)
        target = difficulty + spread * rng.standard_normal(n) + 2 * member
        refs = difficulty + spread * rng.standard_normal((m, n)) + 2 * inside
        hidden = np.full(n, -1, dtype=np.int8)
        evidence = Evidence(
            "logit_confidence",
            target[:, None, None],
            np.zeros(n, int),
            hidden,
            references=refs[:, :, None, None],
            inside=inside,
        )
        area = {
            v: auc_value(roc(LiRA("online", v).score(evidence, RNG(0)), member))
            for v in ("fixed", "per_example")
        }
        robust = auc_value(roc(RobustLiRA().score(evidence, RNG(0)), member))
        gains.append((robust - area["fixed"], robust - area["per_example"]))
    assert np.mean(gains, axis=0).min() > 0.01, gains


EVERY = (
    *(
        LiRA(mode, variance)
        for mode in ("online", "offline")
        for variance in ("fixed", "per_example")
    ),
    *(LiRA("offline", sides="two"), RobustLiRA(), RMIA(), RMIA("offline")),
    *(BASE(), BASE("offline"), Calibrated(), AttackR()),
)


@pytest.mark.parametrize("m", [4, 8, 16, 64])
@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_zero_leakage_is_chance_at_any_number_of_models(attack, m):
    """50 audits of a target whose outputs do not depend on membership.

    Mean AUC .500 +- .005, each within its interval.
    """
    signal = attack.needs.signals[0]
    areas = []
    for seed in range(50):
        evidence, member = scene(4000, m, 0.0, seed, signal=signal)
        areas.append(auc_value(roc(attack.score(evidence, RNG(0)), member)))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.005)
    assert np.std(areas) == pytest.approx(np.sqrt(1 / (3 * 4000)), rel=0.4)


@pytest.mark.parametrize("given", ["outputs", "statistics"])
@pytest.mark.parametrize("m", [4, 16])
def test_shadow_classifiers_are_chance_where_nothing_leaks(given, m):
    areas = []
    # A fit takes `max_rows` whatever the number of records, so a few fits score many each
    for seed in range(13):
        evidence, member = scene(4000, m, 0.0, seed)
        two = [
            np.stack([values, -values], axis=-1)
            for values in (evidence.target[..., 0], evidence.references[..., 0])
        ]
        known = np.where(RNG(seed + 1000).random(4000) < 0.5, 0, -1).astype(np.int8)
        seen = replace(evidence, signal="logits", target=two[0], references=two[1], known=known)
        scores = Shokri(given, max_rows=2000).score(seen, RNG(seed))[seen.hidden]
        areas.append(auc_value(roc(scores, member[seen.hidden])))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.011)  # half the records: 4 standard errors
