"""Ragged token signals, and the statistics of one text as a loop over its tokens."""

from __future__ import annotations

from math import log

import numpy as np

from memberscope.texts import TokenSignals

WIDTHS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)


def draw_signals(counts: np.ndarray, seed: int = 0, gain: float = 0.3) -> TokenSignals:
    """Ragged float32 signals with every part."""
    rng = np.random.default_rng(seed)
    t, n = int(counts.sum()), len(counts)
    own = -rng.exponential(2.0, t)
    return TokenSignals(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        own.astype(np.float32),
        mean=-rng.exponential(2.0, t).astype(np.float32),
        variance=rng.exponential(3.0, t).astype(np.float32),
        is_top=rng.random(t) < 0.4,
        base=(own - gain * rng.standard_normal(t)).astype(np.float32),
        n_bytes=4 * counts,
        zlib_bytes=10 + 2 * counts,
        copies={"lowercase": -rng.exponential(2.0, n), "recall": -rng.exponential(2.0, n)},
    )


COUNTS = np.concatenate([[1, 1, 2, 3, 700], np.random.default_rng(3).integers(1, 130, 60)])
TOKENS = draw_signals(COUNTS)


def lowest(values: list[float], fraction: float) -> float:
    kept = sorted(values)[: max(1, int(fraction * len(values)))]
    return sum(kept) / len(kept)


def window_share(d: list[float]) -> float:
    shares = []
    for width in WIDTHS:
        width = min(width, len(d))
        sums = [sum(d[i : i + width]) for i in range(len(d) - width + 1)]
        shares.append(sum(value > 1e-9 for value in sums) / len(sums))
    return sum(shares) / len(shares)


def error_zone(d: list[float], top: list[bool]) -> float:
    kept = d if all(top) else [value for value, hit in zip(d, top, strict=True) if not hit]
    return log((sum(max(v, 0) for v in kept) + 1) / (sum(max(-v, 0) for v in kept) + 1))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def split_records(tokens: TokenSignals) -> list[dict]:
    rows = []
    for i in range(len(tokens)):
        part = slice(tokens.offsets[i], tokens.offsets[i + 1])
        own, base, mu, var = (
            [float(v) for v in getattr(tokens, name)[part]]
            for name in ("log_probability", "base", "mean", "variance")
        )
        rows.append(
            {
                "own": own,
                "base": base,
                "d": [a - b for a, b in zip(own, base, strict=True)],
                "z": [(a - m) / v**0.5 for a, m, v in zip(own, mu, var, strict=True)],
                "top": [bool(v) for v in tokens.is_top[part]],
                "zlib": int(tokens.zlib_bytes[i]),
                **{name: float(values[i]) for name, values in tokens.copies.items()},
            }
        )
    return rows


ROWS = split_records(TOKENS)
