"""Add noise to probabilities that is the same for the same answer, so that nothing averages out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless, WholeProbabilities
from memberscope.outputs.noise_keys import (
    check_noise_key,
    digest_noise_key,
    draw_words_by_keys,
    map_to_uniform,
    require_noise_key,
)
from memberscope.outputs.rounding import pick_top_classes
from memberscope.types import Floats


@dataclass(frozen=True)
class OutputNoise(WholeProbabilities, Stateless):
    """Multiply each probability by exp(`scale` times normal noise) and normalise.

    The top class keeps the largest, and a probability of zero stays zero.

    The noise is a function of the answer to six decimals and of the secret `key`: the last digits,
    which differ between batch sizes and machines, change nothing. A `seed` in the place of a key
    makes noise that everybody can undo, for experiments. Inputs that are varied a little get other
    noise where the answer changes, which can be averaged.

    >>> answers = np.array([[0.6, 0.3, 0.1]])
    >>> noise = OutputNoise(0.5, key=bytes(32))
    >>> once, twice = noise(answers), noise(answers)
    >>> bool((once == twice).all()), int(once.argmax()), round(float(once.sum()), 9)
    (True, 0, 1.0)
    """

    scale: float = 0.5
    seed: int | None = None
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale >= 0):
            raise InputError(
                f"Expected a noise scale of at least 0, got {self.scale:g}. Give noise:0.5."
            )
        check_noise_key(self.seed, self.key, "noise:0.5:1")

    @property
    def name(self) -> str:
        """Name `noise:s`, with the seed if there is one."""
        return f"noise:{self.scale:.15g}" + ("" if self.seed is None else f":{self.seed}")

    @property
    def digest(self) -> str:
        """Name, with a hash of the secret key if there is one."""
        return self.name if self.key is None else f"{self.name}@{digest_noise_key(self.key)}"

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k).

        Raises:
            InputError: There is neither a key nor a seed.
        """
        key = require_noise_key(self.name, self.seed, self.key)
        return multiply_noise(outputs, self.draw_by_keys(outputs, [key])[0])

    def draw_by_keys(self, outputs: Floats, keys: Sequence[bytes]) -> Floats:
        """Draw the noise (len(keys), n, k) of the logarithms of answers (n, k) by each key."""
        name = f"noise:{self.scale:.15g}"
        return self.scale * draw_keyed_normals(outputs, keys, name)


def multiply_noise(outputs: Floats, noise: Floats) -> Floats:
    """Multiply answers (n, k) by exp(`noise`), with the same top class and the same sum."""
    noisy = np.maximum(outputs, 0.0) * np.exp(noise)
    rows, top, best = np.arange(len(outputs)), pick_top_classes(outputs), pick_top_classes(noisy)
    # Where noise made another class the top one, the two change places
    noisy[rows, top], noisy[rows, best] = noisy[rows, best], noisy[rows, top].copy()
    # Hidden classes are NaN; those that are shown keep the sum that they had
    total = np.nansum(noisy, axis=1, keepdims=True)
    answered: Floats = (
        noisy * np.nansum(outputs, axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
    )
    return answered


def draw_keyed_normals(answers: Floats, keys: Sequence[bytes], name: str) -> Floats:
    """Draw normal numbers (len(keys), n, k) for answers (n, k) by each key.

    They depend on the answer, the column, the key and `name` alone.

    >>> rows = np.array([[0.1, 0.9], [0.1, 0.9], [0.2, 0.8]])
    >>> drawn = draw_keyed_normals(rows, [bytes(32)], "noise:1")[0]
    >>> bool((drawn[0] == drawn[1]).all()), bool((drawn[0] == drawn[2]).any())
    (True, False)
    """
    words = draw_words_by_keys(answers, keys, name, answers.shape[1])
    return np.asarray(ndtri(map_to_uniform(words)), dtype=np.float64)
