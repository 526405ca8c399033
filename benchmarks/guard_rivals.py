"""PRADA and Blacklight from their papers and official code, for comparison with the guard's own detectors.

`python benchmarks/guard_rivals.py check` prints what both do on inputs with known answers. Blacklight's SHA-256 is replaced by a keyed
64-bit hash: its largest fifty are as random a choice of windows as the largest fifty reversed hexadecimal texts; the check compares
the two.

References:
    [1] M. Juuti, S. Szyller, S. Marchal, N. Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks", EuroS&P 2019,
        arXiv:1805.02628.
    [2] H. Li, S. Shan, E. Wenger, J. Zhang, H. Zheng, B. Zhao, "Blacklight: Scalable Defense for Neural Networks against
        Query-Based Black-Box Attacks", USENIX Security 2022, arXiv:2006.14042.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import shapiro

DELTA, EVERY, LEAST, KEPT = 0.95, 10, 10, 100  # PRADA: threshold of W, queries between tests, distances a class and in all
Q, WINDOW, TOP, SHARED = (
    50,
    20,
    50,
    25,
)  # Blacklight: quantisation, window at step 1, hashes of a fingerprint, and those of an attack
FEW = 8  # times as many of the largest hashes as are needed are sorted first, since windows may repeat


@dataclass(eq=False)
class Prada:
    """One client's state: for each answered class its growing set, the distances of that set, all distances, and the threshold."""

    sets: dict[int, np.ndarray] = field(default_factory=dict)
    size: dict[int, int] = field(default_factory=dict)
    grown: dict[int, list[float]] = field(default_factory=dict)
    distances: dict[int, list[float]] = field(default_factory=dict)
    threshold: dict[int, float] = field(default_factory=dict)

    def see(self, x: np.ndarray, label: int) -> None:
        """Take in one query x (f,) that was answered by a class."""
        if label not in self.sets:
            self.sets[label] = np.empty((16, len(x)), dtype=np.float32)
            self.size[label], self.grown[label], self.distances[label], self.threshold[label] = 0, [0.0], [], 0.0
            self.grow(x, label)
            return
        known = self.sets[label][: self.size[label]]
        apart = known - x
        nearest = float(np.sqrt(np.einsum("if,if->i", apart, apart).min()))
        self.distances[label].append(nearest)
        if nearest > self.threshold[label]:
            self.grow(x, label)
            self.grown[label].append(nearest)
            values = np.array(self.grown[label])
            self.threshold[label] = max(self.threshold[label], float(values.mean() - values.std()))

    def grow(self, x: np.ndarray, label: int) -> None:
        """One more input in the growing set of its class."""
        n = self.size[label]
        if n == len(self.sets[label]):
            self.sets[label] = np.concatenate([self.sets[label], np.empty_like(self.sets[label])])
        self.sets[label][n], self.size[label] = x, n + 1

    def normality(self) -> float:
        """Shapiro and Wilk's W of the distances within three standard deviations, or infinity if there are too few."""
        pooled = [values for values in self.distances.values() if len(values) >= LEAST]
        if not pooled:
            return np.inf
        values = np.concatenate(pooled)
        inside = values[np.abs(values - values.mean()) <= 3 * values.std()]
        if len(inside) <= KEPT or np.ptp(inside) == 0:
            return np.inf
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its p-value, which is not used, is inexact beyond 5,000 values
            return float(shapiro(inside).statistic)


def prada(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """W (n,) after each of one client's queries x (n, f) answered by classes (n,); infinite where it is not tested."""
    state, found = Prada(), np.full(len(x), np.inf)
    for place, (point, own) in enumerate(zip(x, label.tolist(), strict=True)):
        state.see(point, own)
        if (place + 1) % EVERY == 0:
            found[place] = state.normality()
    return found


def prada_stream(x: np.ndarray, client: np.ndarray, row: np.ndarray, label: np.ndarray) -> np.ndarray:
    """W (n,) after each query of a stream: its clients, rows of the pool x (p, ...), and answered classes, each (n,)."""
    flat, found = x.reshape(len(x), -1), np.full(len(client), np.inf)
    order = np.argsort(client, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(client[order])) + 1):
        found[own] = prada(flat[row[own]], label[own])
    return found


def quantised(x: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """Inputs x (n, f) in [0, 1], salted by position (f,) and rounded to multiples of q, as int16."""
    return (np.rint((255 * x.astype(np.float64) + salt) % 255 / Q) * Q).astype(np.int16)


def fingerprints(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """The largest 50 different hashes of all windows of inputs x (n, ...) in [0, 1], (n, 50) uint64; zeros where there are fewer."""
    flat = x.reshape(len(x), -1)
    rng = np.random.default_rng(seed)
    salt, found = 255 * rng.random(flat.shape[1]), np.zeros((len(flat), TOP), dtype=np.uint64)
    odd = rng.integers(0, 2**63, WINDOW).astype(np.uint64) * np.uint64(2) + np.uint64(1)
    if flat.shape[1] < WINDOW:
        return found
    step = max(1, 2**22 // flat.shape[1])
    for start in range(0, len(flat), step):
        found[start : start + step] = largest(hashed(quantised(flat[start : start + step], salt), odd))
    return found


def hashed(values: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """Hashes (n, windows) of every 20 successive values of (n, f): a keyed sum, mixed as in SplitMix64."""
    n_windows = values.shape[1] - WINDOW + 1
    values = values.astype(np.uint64)
    total = np.zeros((len(values), n_windows), dtype=np.uint64)
    for k in range(WINDOW):
        total += values[:, k : k + n_windows] * odd[k]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        total = (total ^ (total >> np.uint64(shift))) * np.uint64(factor)
    return total ^ (total >> np.uint64(31))


def largest(hashes: np.ndarray) -> np.ndarray:
    """The 50 largest different values of each row of (n, windows), falling, then zeros."""
    found = np.zeros((len(hashes), TOP), dtype=np.uint64)
    most = hashes.shape[1]
    few = min(FEW * TOP, most)
    top = np.sort(np.partition(hashes, most - few, axis=1)[:, most - few :] if few < most else hashes, axis=1)[:, ::-1]
    new = np.concatenate([np.ones((len(top), 1), dtype=bool), top[:, 1:] != top[:, :-1]], axis=1)
    rank = np.cumsum(new, axis=1) - 1
    short = np.flatnonzero((rank[:, -1] < TOP - 1) & (few < most))
    row, column = np.nonzero(new & (rank < TOP))
    found[row, rank[row, column]] = top[row, column]
    for i in short:  # so many windows repeat that all have to be sorted
        distinct = np.unique(hashes[i])[::-1][:TOP]
        found[i] = 0
        found[i, : len(distinct)] = distinct
    return found


def blacklight(prints: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Most hashes (n,) that each query of a stream shares with an earlier one; `row` (n,) says which of the fingerprints it has.

    A row asked again shares all of its own. The index is global and never reset.
    """
    own = (prints > 0).sum(axis=1)
    first = np.unique(row, return_index=True)[1]
    found = own[row]
    index: dict[int, list[int]] = {}
    for place in np.sort(first):
        found[place] = shared(index, prints[row[place]], int(row[place]))
    return found


def shared(index: dict[int, list[int]], values: np.ndarray, row: int) -> int:
    """Most hashes that one earlier row shares, by the inverted index, which then gets this row."""
    counts: dict[int, int] = {}
    for value in values[values > 0].tolist():
        holders = index.setdefault(value, [])
        for holder in holders:
            counts[holder] = counts.get(holder, 0) + 1
        if len(holders) < KEPT:  # where a hundred share a hash, a hundred are compared: the most may be understated
            holders.append(row)
    return max(counts.values(), default=0)


def literal(x: np.ndarray, salt: np.ndarray) -> set[str]:
    """One input's fingerprint (f,) as the official code makes it, window by window with SHA-256."""
    values = quantised(x[None], salt)[0]
    windows = [values[i : i + WINDOW] for i in range(len(values) - WINDOW + 1)]
    texts = {hashlib.sha256(window.tobytes()).hexdigest()[::-1] for window in windows}
    return set(sorted(texts, reverse=True)[:TOP])


def matches(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hashes (n,) that fingerprints (n, 50) share with others (n, 50), row by row."""
    return np.array([len(np.intersect1d(left[left > 0], right[right > 0])) for left, right in zip(a, b, strict=True)])


def smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Smooth images (n, 3, 32, 32) in [0, 1]."""
    x = gaussian_filter(rng.standard_normal((n, 3, 32, 32)), (0, 0, 4, 4))
    return np.clip(0.5 + 0.2 * x / x.std(), 0, 1)


def check_blacklight() -> None:
    """Matches of noisy, mirrored and moved copies, of short rows and of rows of bits; the hash beside SHA-256."""
    rng = np.random.default_rng(0)
    x = smooth(rng, 100)
    salt = 255 * np.random.default_rng(0).random(x[0].size)
    kept = fingerprints(x)
    sha = [literal(image.ravel(), salt) for image in x[:30]]
    print("| copies | hashes shared, of 50 | the same with SHA-256 |\n|---|---|---|")
    copies = {f"noise {s:g}": np.clip(x + s * rng.standard_normal(x.shape), 0, 1) for s in (0.002, 0.005, 0.01, 0.03)}
    copies |= {"mirrored": x[..., ::-1], "moved by a pixel": np.roll(x, 1, axis=-1), "unrelated": x[::-1]}
    for name, copy in copies.items():
        theirs = np.mean([len(a & literal(image.ravel(), salt)) for a, image in zip(sha, copy, strict=False)])
        print(f"| {name} | {matches(kept, fingerprints(copy)).mean():.1f} | {theirs:.1f} |")
    bits = fingerprints(rng.integers(0, 2, (100, 600)).astype(float))
    print(f"rows of 600 bits share {matches(bits[:-1], bits[1:]).mean():.1f} of 50")
    narrow = fingerprints(np.repeat(rng.random((50, 30)), 2, axis=0))
    print(
        f"equal rows of 30 features share {blacklight(narrow, np.arange(100)).max()}, of 14 {fingerprints(x[:, 0, 0, :14]).max()}"
    )


def toy(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """2,000 points of ten Gaussian classes in 60 dimensions, and their classes."""
    label = rng.integers(0, 10, 2000)
    centres = 3 * rng.standard_normal((10, 60))
    return (centres[label] + rng.standard_normal((2000, 60))).astype(np.float32), label


def check_prada() -> None:
    """The first alarm on ordinary records, on noisy copies of a hundred one by one and at random, and on points moved step by step."""
    rng = np.random.default_rng(0)
    x, label = toy(rng)
    copies = (np.repeat(x[:100], 20, axis=0) + 0.3 * rng.standard_normal((2000, 60))).astype(np.float32)
    own, order = np.repeat(label[:100], 20), rng.permutation(2000)
    steps = (x[:100, None] + np.arange(20)[:, None] * 0.1 * np.sign(rng.standard_normal((100, 1, 60)))).astype(np.float32)
    cases = {
        "2,000 ordinary records": (x, label),
        "20 noisy copies of 100 records, one by one": (copies, own),
        "the same at random": (copies[order], own[order]),
        "100 ordinary records, then 20 steps away from each": (np.vstack([x[:100], steps.transpose(1, 0, 2).reshape(-1, 60)]),
                                                      np.concatenate([label[:100], np.tile(label[:100], 20)])),
    }  # fmt: skip
    print("\n| queries | least W | first alarm |\n|---|---|---|")
    for name, (points, classes) in cases.items():
        w = prada(points, classes)
        alarm = np.flatnonzero(w < DELTA)
        print(f"| {name} | {w.min():.3f} | {alarm[0] + 1 if len(alarm) else 'none'} |")


if __name__ == "__main__":
    if sys.argv[1:] != ["check"]:
        sys.exit("Expected check. Detection beside ours: python benchmarks/guard_detection.py.")
    check_blacklight()
    check_prada()
