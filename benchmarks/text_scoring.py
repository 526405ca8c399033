"""Attacks on stored token signals: 10,000 texts of 512 tokens, in processor time of one thread.

Each is compared with a loop over texts, one numpy expression each, which is measured on a sample
and scaled; on that sample the scores must agree. `token_classifier` learns on eight references'
features, whose computation is listed by itself; `token_dynamics` is fitted as ten folds do it.

    python benchmarks/text_scoring.py
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from aims import judge
from memberscope.attacks import TEXT_ATTACKS, build_fold_scorer, compute_token_features
from memberscope.texts import TokenSignals
from memberscope.types import Attack, Evidence, SignalSpec

N, LENGTH, MODELS, SAMPLE, FOLDS = 10_000, 512, 8, 300, 10
AIM = 20.0  # seconds of all attacks on two cores, here of one thread
WINDOWS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)


def draw_tokens(rng: np.random.Generator, gain: np.ndarray) -> TokenSignals:
    """Texts of 412 to 612 tokens, `gain` (n,) nats a token likelier than under the base."""
    counts = rng.integers(LENGTH - 100, LENGTH + 101, N)
    counts[-1] += N * LENGTH - counts.sum()
    t = int(counts.sum())
    base = -rng.exponential(2.5, t).astype(np.float32)
    noise = rng.standard_normal(t, dtype=np.float32) * np.float32(0.5)
    own = np.minimum(base + noise + np.repeat(gain, counts).astype(np.float32), 0)
    return TokenSignals(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        own,
        mean=np.full(t, -2.5, np.float32),
        variance=rng.uniform(1, 6, t).astype(np.float32),
        is_top=rng.random(t, dtype=np.float32) < 0.4,
        base=base,
        n_bytes=4 * counts,
        zlib_bytes=2 * counts + 12,
        copies={name: -rng.exponential(2.5, N) for name in ("lowercase", "recall")},
    )


def build_evidence(attack: Attack, tokens: TokenSignals, scene: Evidence) -> Evidence:
    """Evidence in the form that the attack reads."""
    (signal, *_) = attack.needs.signals
    if signal in ("tokens", "token_features"):
        return replace(scene, signal=signal, tokens=tokens)
    losses = np.concatenate([-tokens.mean_log_probability()[None], -scene.references[:, :, 0, 0]])
    if signal == "logit_confidence":
        losses = losses + np.log(-np.expm1(-losses))
    sign = 1.0 if signal == "loss" else -1.0
    values = (sign * losses)[:, :, None, None].astype(np.float32)
    return replace(scene, signal=signal, target=values[0], references=values[1:])


def windows(d: np.ndarray) -> float:
    shares = []
    for width in WINDOWS:
        sums = np.convolve(d, np.ones(min(width, len(d))), mode="valid")
        shares.append(np.mean(sums > 1e-9))
    return float(np.mean(shares))


def errors(d: np.ndarray, top: np.ndarray) -> float:
    kept = d if top.all() else d[~top]
    return float(np.log((kept[kept > 0].sum() + 1) / (1 - kept[kept < 0].sum())))


def lowest(values: np.ndarray) -> float:
    return float(np.sort(values)[: max(1, int(0.2 * len(values)))].mean())


LOOPS: dict[str, Callable[[dict[str, np.ndarray]], float]] = {
    "zlib": lambda r: r["own"].sum() / r["zlib"],
    "lowercase": lambda r: r["lowercase"] / r["own"].mean(),
    "recall": lambda r: r["recall"] / r["own"].mean(),
    "base_difference": lambda r: (r["own"] - r["base"]).mean(),
    "base_ratio": lambda r: r["base"].mean() / r["own"].mean(),
    "min_k": lambda r: lowest(r["own"]),
    "min_k_plus_plus": lambda r: lowest((r["own"] - r["mu"]) / np.sqrt(r["var"])),
    "wbc": lambda r: windows(r["own"] - r["base"]),
    "ez": lambda r: errors(r["own"] - r["base"], r["top"]),
}


def loop_over_texts(name: str, tokens: TokenSignals) -> np.ndarray:
    """Score the first texts one after another."""
    found = np.empty(SAMPLE)
    for i in range(SAMPLE):
        part = slice(tokens.offsets[i], tokens.offsets[i + 1])
        row = {
            "own": tokens.log_probability[part].astype(np.float64),
            "base": tokens.base[part].astype(np.float64),
            "mu": tokens.mean[part].astype(np.float64),
            "var": tokens.variance[part].astype(np.float64),
            "top": tokens.is_top[part],
            "zlib": tokens.zlib_bytes[i],
            **{key: values[i] for key, values in tokens.copies.items()},
        }
        found[i] = LOOPS[name](row)
    return found


def measure(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Processor time in seconds, and what the work gave."""
    started = time.process_time()
    found = work()
    return time.process_time() - started, found


def score_folds(attack: Attack, evidence: Evidence, member: np.ndarray) -> np.ndarray:
    """Score as cross-fitting does: each fold, and each pair of folds, by a fit on the others."""
    score, fold = build_fold_scorer(attack), np.arange(N) % FOLDS
    scores = np.empty(N)
    for first in range(FOLDS):
        for second in range(first, FOLDS):
            hidden = (fold == first) | (fold == second)
            known = np.where(hidden, -1, member).astype(np.int8)
            found = score(replace(evidence, known=known), np.random.default_rng(0))
            if first == second:
                scores[hidden] = found[hidden]
    return scores


def main() -> None:
    from sklearn.linear_model import LogisticRegression  # noqa: F401  its import is not scoring

    rng = np.random.default_rng(0)
    member = np.arange(N) % 2 == 0
    tokens = draw_tokens(rng, 0.1 * member)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    feature_time, features = measure(lambda: compute_token_features(tokens))
    inside = np.argsort(rng.random((MODELS, N)), axis=0) < MODELS // 2
    # What references show is drawn, since only its size matters to time
    references = features + 0.1 * rng.standard_normal((MODELS, N, features.shape[1]))
    scene = Evidence(
        "token_features",
        features[:, None],
        np.zeros(N, int),
        np.full(N, -1, np.int8),
        references=references[:, :, None],
        inside=inside,
    )
    total = feature_time
    words = judge("token features of a model", feature_time, "s")
    print(f"token features, {N} texts of {LENGTH} tokens: {feature_time:.2f} s {words}")
    for attack in TEXT_ATTACKS:
        # Measured on the model itself, and then one number a text
        if attack.needs.spec in (SignalSpec("generations"), SignalSpec("gradient_norm")):
            continue
        evidence = build_evidence(attack, tokens, scene)
        learns = attack.needs.known != "none"

        def work(attack=attack, evidence=evidence, learns=learns) -> np.ndarray:
            if learns:
                return score_folds(attack, evidence, member)
            return attack.score(evidence, np.random.default_rng(0))

        took, scores = measure(work)
        total += took
        line = f"{attack.name}: {took:.2f} s {judge(attack.name, took, 's')}"
        if attack.name in LOOPS:
            slow, expected = measure(lambda name=attack.name: loop_over_texts(name, tokens))
            np.testing.assert_allclose(scores[:SAMPLE], expected, rtol=1e-6, atol=1e-9)
            line += f"; a loop over texts takes {slow * N / SAMPLE / took:.1f} times as long"
        print(line)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"all attacks: {total:.1f} s {judge('all attacks', total, 's', at_most=AIM)}")
    print(f"memory beyond the signals: {more:.0f} MB {judge('memory', more, 'MB')}")


if __name__ == "__main__":
    main()
