"""PRADA and Blacklight from their papers and official code.

For comparison with the guard's own detectors.

`python benchmarks/guard_rivals.py check` prints what both do on inputs with known answers.
Blacklight's SHA-256 is replaced by a keyed 64-bit hash: its largest fifty are as random a choice of
windows as the largest fifty reversed hexadecimal texts; the check compares the two.

References:
    [1] M. Juuti, S. Szyller, S. Marchal, N. Asokan, "PRADA: Protecting Against DNN Model Stealing
        Attacks", EuroS&P 2019, arXiv:1805.02628.
    [2] H. Li, S. Shan, E. Wenger, J. Zhang, H. Zheng, B. Zhao, "Blacklight: Scalable Defense for
        Neural Networks against Query-Based Black-Box Attacks", USENIX Security 2022,
        arXiv:2006.14042.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections import Counter

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import shapiro

DELTA, EVERY, LEAST, KEPT = (
    0.95,
    10,
    10,
    100,
)  # PRADA: threshold of W, queries between tests, distances a class and in all
Q, WINDOW, TOP, SHARED = (
    50,
    20,
    50,
    25,
)  # Blacklight: quantisation, window at step 1, hashes of a fingerprint, and those of an attack
DENSE = 4000  # distinct inputs of a class up to which all distances are taken at once
# Times as many of the largest hashes as are needed are sorted first, since windows may repeat
FEW = 8


class Growing:
    """PRADA's state for one class of one client's distinct inputs (m, f).

    How far each is from the growing set, and the threshold.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points, self.nearest = points, np.full(len(points), np.inf)
        self.n, self.total, self.squares, self.threshold = (
            1,
            0.0,
            0.0,
            0.0,
        )  # of the growing set's distances, which start with a 0
        self.distance = between(points) if len(points) <= DENSE else None

    def see(self, i: int) -> float:
        """The distance of input `i` from the growing set, which it joins beyond the threshold.

        Infinite for the first.
        """
        nearest = float(self.nearest[i])
        if nearest > self.threshold:
            self.join(i)
            if np.isfinite(nearest):
                self.n, self.total, self.squares = (
                    self.n + 1,
                    self.total + nearest,
                    self.squares + nearest**2,
                )
                mean = self.total / self.n
                self.threshold = max(
                    self.threshold, mean - max(self.squares / self.n - mean**2, 0.0) ** 0.5
                )
        return nearest

    def join(self, i: int) -> None:
        """Input `i` is in the growing set from now on."""
        dense = self.distance is not None
        apart = (
            self.distance[i]
            if dense
            else np.sqrt(((self.points - self.points[i]) ** 2).sum(axis=1))
        )
        np.minimum(self.nearest, apart, out=self.nearest)


def between(points: np.ndarray) -> np.ndarray:
    """Distances (m, m) between points (m, f), zero from each to itself."""
    squares = (points**2).sum(axis=1)
    found = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))
    np.fill_diagonal(found, 0.0)
    return found


def prada(x: np.ndarray, row: np.ndarray, label: np.ndarray) -> np.ndarray:
    """W (n,) after each of one client's queries, rows (n,) of x (p, f) answered by classes (n,).

    Infinite where it is not tested.
    """
    distinct, first, where = np.unique(row, return_index=True, return_inverse=True)
    points, classes = x[distinct].astype(np.float64), label[first]
    names, own = np.unique(classes, return_inverse=True)
    place = np.zeros(len(distinct), dtype=np.int64)
    for c in range(len(names)):
        place[own == c] = np.arange(int((own == c).sum()))
    growing = [Growing(points[own == c]) for c in range(len(names))]
    values, kinds, found, n = (
        np.zeros(len(row)),
        np.zeros(len(row), dtype=np.int64),
        np.full(len(row), np.inf),
        0,
    )
    for step, i in enumerate(where.tolist()):
        apart = growing[own[i]].see(int(place[i]))
        if np.isfinite(apart):
            values[n], kinds[n] = apart, own[i]
            n += 1
        if (step + 1) % EVERY == 0 and n > KEPT:
            found[step] = normality(values[:n], kinds[:n])
    return found


def normality(values: np.ndarray, kinds: np.ndarray) -> float:
    """Shapiro and Wilk's W of distances (n,), of classes that have ten.

    Within three standard deviations; infinite if they are few.
    """
    pooled = values[(np.bincount(kinds) >= LEAST)[kinds]]
    inside = pooled[np.abs(pooled - pooled.mean()) <= 3 * pooled.std()] if len(pooled) else pooled
    if len(inside) <= KEPT or np.ptp(inside) == 0:
        return np.inf
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # its p-value, which is not used, is inexact beyond 5,000 values
        return float(shapiro(inside).statistic)


def prada_stream(
    x: np.ndarray, client: np.ndarray, row: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """W (n,) after each query of a stream.

    Its clients, rows of the pool x (p, ...), and answered classes, each (n,).
    """
    flat, found = x.reshape(len(x), -1), np.full(len(client), np.inf)
    order = np.argsort(client, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(client[order])) + 1):
        found[own] = prada(flat, row[own], label[own])
    return found


def quantised(x: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """Inputs x (n, f) in [0, 1], salted by position (f,) and rounded to multiples of q.

    As int16.
    """
    return (np.rint((255 * x.astype(np.float64) + salt) % 255 / Q) * Q).astype(np.int16)


def fingerprints(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """The largest 50 different hashes of all windows of inputs x (n, ...) in [0, 1], (n.

    50) uint64; zeros where there are fewer.
    """
    flat = x.reshape(len(x), -1)
    rng = np.random.default_rng(seed)
    salt, found = 255 * rng.random(flat.shape[1]), np.zeros((len(flat), TOP), dtype=np.uint64)
    odd = rng.integers(0, 2**63, WINDOW).astype(np.uint64) * np.uint64(2) + np.uint64(1)
    if flat.shape[1] < WINDOW:
        return found
    step = max(1, 2**22 // flat.shape[1])
    for start in range(0, len(flat), step):
        found[start : start + step] = largest(
            hashed(quantised(flat[start : start + step], salt), odd)
        )
    return found


def hashed(values: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """Hashes (n, windows) of every 20 successive values of (n, f).

    A keyed sum, mixed as in SplitMix64.
    """
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
    top = np.sort(
        np.partition(hashes, most - few, axis=1)[:, most - few :] if few < most else hashes, axis=1
    )[:, ::-1]
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


class Index:
    """Blacklight's inverted index.

    The rows that have each hash, and the rows that have each whole fingerprint.
    """

    def __init__(self, prints: np.ndarray, row: np.ndarray) -> None:
        """The index of rows (n,) with fingerprints (p, 50)."""
        self.holders: dict[int, list[int]] = {}
        self.whole: dict[bytes, list[int]] = {}
        self.rows: set[int] = set()
        for i in np.unique(row).tolist():
            self.enter(prints[i], i)

    def enter(self, values: np.ndarray, row: int) -> None:
        """One more row; where a hundred share a hash no more are kept.

        So that the most may be understated.
        """
        self.rows.add(row)
        self.whole.setdefault(values.tobytes(), []).append(row)
        for value in values[values > 0].tolist():
            holders = self.holders.setdefault(value, [])
            if len(holders) < KEPT:
                holders.append(row)

    def most(self, values: np.ndarray, row: int) -> int:
        """Most hashes that another row shares."""
        if any(other != row for other in self.whole.get(values.tobytes(), ())):
            return int((values > 0).sum())
        counts = Counter(
            holder
            for value in values[values > 0].tolist()
            for holder in self.holders.get(value, ())
        )
        counts.pop(row, None)
        return max(counts.values(), default=0)


def blacklight(
    prints: np.ndarray, row: np.ndarray, index: Index | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Most hashes (n,) that each query of a stream shares with an earlier one.

    And the same where repeats count for nothing.

    `row` (n,) says which of the fingerprints (p, 50) a query has; a row asked again shares all of
    its own. The index is global and never reset; an `index` of earlier queries is read and left as
    it is.
    """
    own, repeats, alone = (
        Index(prints, row[:0]),
        (prints > 0).sum(axis=1)[row],
        np.zeros(len(row), dtype=np.int64),
    )
    for place in np.sort(np.unique(row, return_index=True)[1]):
        values, i = prints[row[place]], int(row[place])
        alone[place] = max(own.most(values, i), index.most(values, i) if index else 0)
        if not index or i not in index.rows:
            repeats[place] = alone[place]
        own.enter(values, i)
    return repeats, alone


def literal(x: np.ndarray, salt: np.ndarray) -> set[str]:
    """One input's fingerprint (f,) as the official code makes it, window by window with SHA-256."""
    values = quantised(x[None], salt)[0]
    windows = [values[i : i + WINDOW] for i in range(len(values) - WINDOW + 1)]
    texts = {hashlib.sha256(window.tobytes()).hexdigest()[::-1] for window in windows}
    return set(sorted(texts, reverse=True)[:TOP])


def matches(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hashes (n,) that fingerprints (n, 50) share with others (n, 50), row by row."""
    return np.array(
        [
            len(np.intersect1d(left[left > 0], right[right > 0]))
            for left, right in zip(a, b, strict=True)
        ]
    )


def smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Smooth images (n, 3, 32, 32) in [0, 1]."""
    x = gaussian_filter(rng.standard_normal((n, 3, 32, 32)), (0, 0, 4, 4))
    return np.clip(0.5 + 0.2 * x / x.std(), 0, 1)


def check_blacklight() -> None:
    """Matches of noisy, mirrored and moved copies, of short rows and of rows of bits.

    The hash beside SHA-256.
    """
    rng = np.random.default_rng(0)
    x = smooth(rng, 100)
    salt = 255 * np.random.default_rng(0).random(x[0].size)
    kept = fingerprints(x)
    sha = [literal(image.ravel(), salt) for image in x[:30]]
    print("| copies | hashes shared, of 50 | the same with SHA-256 |\n|---|---|---|")
    copies = {
        f"noise {s:g}": np.clip(x + s * rng.standard_normal(x.shape), 0, 1)
        for s in (0.002, 0.005, 0.01, 0.03)
    }
    copies |= {
        "mirrored": x[..., ::-1],
        "moved by a pixel": np.roll(x, 1, axis=-1),
        "unrelated": x[::-1],
    }
    for name, copy in copies.items():
        theirs = np.mean(
            [len(a & literal(image.ravel(), salt)) for a, image in zip(sha, copy, strict=False)]
        )
        print(f"| {name} | {matches(kept, fingerprints(copy)).mean():.1f} | {theirs:.1f} |")
    bits = fingerprints(rng.integers(0, 2, (100, 600)).astype(float))
    print(f"rows of 600 bits share {matches(bits[:-1], bits[1:]).mean():.1f} of 50")
    narrow = fingerprints(np.repeat(rng.random((50, 30)), 2, axis=0))
    print(
        f"equal rows of 30 features share {blacklight(narrow, np.arange(100))[0].max()}, of 14 "
        f"{fingerprints(x[:, 0, 0, :14]).max()}"
    )


def toy(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """2,000 points of ten Gaussian classes in 60 dimensions, and their classes."""
    label = rng.integers(0, 10, 2000)
    centres = 3 * rng.standard_normal((10, 60))
    return (centres[label] + rng.standard_normal((2000, 60))).astype(np.float32), label


def check_prada() -> None:
    """The first alarm on ordinary records, on noisy copies of a hundred one by one and at random.

    And on points moved step by step.
    """
    rng = np.random.default_rng(0)
    x, label = toy(rng)
    copies = (np.repeat(x[:100], 20, axis=0) + 0.3 * rng.standard_normal((2000, 60))).astype(
        np.float32
    )
    own, order = np.repeat(label[:100], 20), rng.permutation(2000)
    steps = (
        x[:100, None] + np.arange(20)[:, None] * 0.1 * np.sign(rng.standard_normal((100, 1, 60)))
    ).astype(np.float32)
    cases = {
        "2,000 ordinary records": (x, label),
        "20 noisy copies of 100 records, one by one": (copies, own),
        "the same at random": (copies[order], own[order]),
        "100 ordinary records, then 20 steps away from each": (np.vstack([x[:100], steps.transpose(1, 0, 2).reshape(-1, 60)]),
                                                      np.concatenate([label[:100], np.tile(label[:100], 20)])),
    }  # fmt: skip
    print("\n| queries | least W | first alarm |\n|---|---|---|")
    for name, (points, classes) in cases.items():
        w = prada(points, np.arange(len(points)), classes)
        alarm = np.flatnonzero(w < DELTA)
        print(f"| {name} | {w.min():.3f} | {alarm[0] + 1 if len(alarm) else 'none'} |")


if __name__ == "__main__":
    if sys.argv[1:] != ["check"]:
        sys.exit("Expected check. Detection beside ours: python benchmarks/guard_detection.py.")
    check_blacklight()
    check_prada()
