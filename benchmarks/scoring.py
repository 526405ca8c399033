"""LiRA and RMIA scored at 50,000 records.

Against the usual Python loop and the full pairwise matrix, in one run.

Both slow ways are measured on a sample of the records and scaled; on that sample the scores must
agree, RMIA's bit for bit. The loop over records is written in the style of LeakPro's, with one
scipy density a record and side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.stats import norm

from aims import judge
from memberscope.attacks import BASE, RMIA, AttackR, Calibrated, LiRA, RobustLiRA
from memberscope.types import Attack, Evidence

N, MODELS, OTHERS = 50_000, 64, 50_000
LOOPED, PAIRED, BLOCK = (
    2_000,
    2_000,
    500,
)  # records of the slow ways, and rows a block of the pairwise matrix
AIM = 0.1  # seconds of LiRA and of RMIA online


def scene(signal: str, n: int, seed: int, *, outside: bool = False) -> Evidence:
    """Records of unlike difficulty under balanced reference models.

    One float32 a model and record, as the fleet stores it.
    """
    rng = np.random.default_rng(seed)
    inside = np.argsort(rng.random((MODELS, n)), axis=0) < (0 if outside else MODELS // 2)
    member = (rng.random(n) < 0.5) & (not outside)
    difficulty = rng.standard_normal(n)
    values = [
        difficulty + rng.standard_normal(n) + 2 * member,
        difficulty + rng.standard_normal((MODELS, n)) + 2 * inside,
    ]
    if signal == "log_confidence":
        values = [-np.logaddexp(0, -part) for part in values]
    target, refs = (part.astype(np.float32)[..., None, None] for part in values)
    hidden = np.full(n, -1, dtype=np.int8)
    return Evidence(signal, target, np.zeros(n, dtype=int), hidden, references=refs, inside=inside)


def fastest(work: Callable[[], np.ndarray], repeats: int = 7) -> tuple[float, np.ndarray]:
    """The shortest of some runs, in seconds, and what it gave."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - started)
    return min(times), found


def lira_loop(evidence: Evidence, n: int) -> np.ndarray:
    """Online LiRA with a variance for each record, one record after another."""
    refs, target = (
        evidence.references[:, :, 0, 0].astype(np.float64),
        evidence.target[:, 0, 0].astype(np.float64),
    )
    scores = np.empty(n)
    for j in range(n):
        mask = evidence.inside[:, j]
        own, others = refs[mask, j], refs[~mask, j]
        in_density = norm.logpdf(target[j], np.mean(own), np.std(own) + 1e-30)
        scores[j] = in_density - norm.logpdf(target[j], np.mean(others), np.std(others) + 1e-30)
    return scores


def ratios(evidence: Evidence) -> np.ndarray:
    """RMIA's ratio of each record by its definition, with masks.

    Target over the mean of both kinds of model.
    """
    p, inside = np.exp(evidence.references[:, :, 0, 0].astype(np.float64)), evidence.inside
    out = np.mean(p, axis=0, where=~inside)
    average = (np.mean(p, axis=0, where=inside) + out) / 2 if inside.any() else out
    return np.exp(evidence.target[:, 0, 0].astype(np.float64)) / average


def rmia_pairs(record: np.ndarray, population: np.ndarray, gamma: float) -> np.ndarray:
    """Share of population records beaten, from every pair, some rows at a time."""
    scores = np.empty(len(record))
    for start in range(0, len(record), BLOCK):
        rows = slice(start, start + BLOCK)
        scores[rows] = (record[rows, None] / population[None, :] >= gamma).mean(axis=1)
    return scores


def lira_row(evidence: Evidence) -> None:
    """LiRA's time and its ratio to the loop."""
    attack, rng = LiRA("online", "per_example"), np.random.default_rng(0)
    fast, scores = fastest(lambda: attack.score(evidence, rng))
    slow, looped = fastest(lambda: lira_loop(evidence, LOOPED), 1)
    slow *= N / LOOPED
    apart = np.max(np.abs(scores[:LOOPED] - looped) / np.maximum(np.abs(looped), 1e-3))
    read = evidence.references.nbytes / fast / 1e9
    print(
        f"LiRA online, {N} records x {MODELS} models: {fast * 1e3:.1f} ms ({read:.1f} GB/s of "
        f"references) {judge('LiRA online', fast, 's', at_most=AIM)}"
    )
    print(
        f"  loop over records {slow:.1f} s (scaled from {LOOPED}): ratio {slow / fast:.0f}; "
        f"relative difference {apart:.1e} (no aim)"
    )


def rmia_row(evidence: Evidence) -> None:
    """RMIA's time and its ratio to all pairs."""
    attack, rng = RMIA(), np.random.default_rng(0)
    fast, scores = fastest(lambda: attack.score(evidence, rng))
    record, population = ratios(evidence), ratios(evidence.population)
    slow, paired = fastest(lambda: rmia_pairs(record[:PAIRED], population, attack.gamma), 1)
    slow *= N / PAIRED
    equal = np.mean(scores[:PAIRED] == paired)
    print(
        f"RMIA online, {N} records x {OTHERS} population records x {MODELS} models: "
        f"{fast * 1e3:.1f} ms {judge('RMIA online', fast, 's', at_most=AIM)}"
    )
    print(
        f"  all pairs {slow:.1f} s (scaled from {PAIRED}, {N * OTHERS * 8 / 1e9:.0f} GB if held "
        "at once): ",
        end="",
    )
    print(
        f"ratio {slow / fast:.0f}; equal bit for bit on {100 * equal:.4g}% of {PAIRED} records, ",
        end="",
    )
    print(
        f"largest difference {np.abs(scores[:PAIRED] - paired).max() * OTHERS:.0f} of {OTHERS} "
        "pairs (no aim)"
    )


def main() -> None:
    logits, confidence = scene("logit_confidence", N, 0), scene("log_confidence", N, 1)
    confidence = replace(confidence, population=scene("log_confidence", OTHERS, 2, outside=True))
    lira_row(logits)
    rmia_row(confidence)
    others: list[Attack] = [
        LiRA("online", "fixed"),
        LiRA("offline"),
        LiRA(centre="median"),
        RobustLiRA(),
        Calibrated(),
    ]
    others += [RMIA("offline"), BASE(), AttackR()]
    for attack in others:
        evidence = logits if attack.needs.signals[0] == "logit_confidence" else confidence
        took, _ = fastest(
            lambda attack=attack, evidence=evidence: attack.score(
                evidence, np.random.default_rng(0)
            ),
            3,
        )
        print(f"{attack.name}: {took * 1e3:.1f} ms {judge(attack.name, took, 's')}")


if __name__ == "__main__":
    main()
