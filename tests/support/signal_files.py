"""Tables of signals as a user would give them to `--signals`."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_signals(path: Path, n: int = 400, shift: float = 2.0, base: float = 0.0) -> Path:
    rng = np.random.default_rng(0)
    member = np.arange(2 * n) < n
    labels = rng.integers(0, 2, 2 * n)
    logit = rng.standard_normal(2 * n) + base + shift * member
    p = 1 / (1 + np.exp(-np.where(labels == 1, logit, -logit)))
    lines = ["id,member,label,p0,p1,sex,x0"]
    lines += [
        f"r{i},{int(member[i])},{labels[i]},{1 - p[i]:.9f},{p[i]:.9f},{'fm'[i % 2]},{rng.standard_normal():.6f}"
        for i in range(2 * n)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
