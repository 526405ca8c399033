"""Answer with a random input's scores in the record's order of classes: HAMP's output part.

References:
    [1] Z. Chen, K. Pattabiraman, "Overconfidence is a Dangerous Thing: Mitigating Membership
        Inference Attacks by Enforcing Less Confident Prediction", NDSS 2024, arXiv:2307.01610.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import WholeProbabilities
from memberscope.outputs.noise_keys import (
    check_noise_key,
    digest_noise_key,
    draw_keyed_words,
    require_noise_key,
)
from memberscope.types import Bools, Floats

GAP = 1e-9  # by which equal scores are set apart


@dataclass(frozen=True)
class HampOutput(WholeProbabilities):
    """Replace each answer's values by the sorted scores of a random input; only the order stays.

    `fit` takes the model's answers about inputs drawn at random from the whole input space. Which
    of them is used depends on the answer to six decimals and on the secret `key`, or on a `seed`
    that everybody knows, so asking again gives the same. Equal scores are set apart a little, the
    first class of equals leads, and so the top class stays.

    >>> guard = HampOutput(key=bytes(32)).fit(np.array([[0.2, 0.3, 0.5]]), np.array([False]))
    >>> np.round(guard(np.array([[0.01, 0.98, 0.01]])), 6).tolist()
    [[0.3, 0.5, 0.2]]
    """

    seed: int | None = None
    scores_digest: str | None = None
    scores: Floats | None = field(default=None, compare=False, repr=False)
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_noise_key(self.seed, self.key, "hamp_output:1")

    @property
    def name(self) -> str:
        """Name `hamp_output`, with the seed if there is one."""
        return "hamp_output" + ("" if self.seed is None else f":{self.seed}")

    @property
    def digest(self) -> str:
        """Name with the hashes of the random inputs' scores and of the key, if there are any."""
        found = [] if self.scores_digest is None else [self.scores_digest]
        return "@".join([self.name, *found, *([digest_noise_key(self.key)] if self.key else [])])

    def fit(self, outputs: Floats, member: Bools) -> HampOutput:
        """Fit to the model's answers `outputs` (n, k) about random inputs; `member` is not read.

        Raises:
            InputError: There are none, or they are not whole.
        """
        if outputs.ndim != 2 or len(outputs) == 0 or not np.isfinite(outputs).all():
            raise InputError(
                "Expected the model's whole answers (n, k) about random inputs, got shape "
                f"{outputs.shape}. Query it on some."
            )
        k = outputs.shape[1]
        # Equal scores are set apart, so that the top class stays the only one
        falling = -np.sort(-np.maximum(outputs, 0.0), axis=1) + GAP * np.arange(k - 1, -1, -1)
        scores = falling / falling.sum(axis=1, keepdims=True)
        return replace(
            self, scores=scores, scores_digest=hashlib.sha256(scores.tobytes()).hexdigest()[:16]
        )

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k).

        Raises:
            InputError: It is not fitted or has no key, classes are hidden, or their number is
                another.
        """
        if self.scores is None:
            raise InputError(
                f"Expected a fitted {self.name}, got one without scores. Call fit(outputs, member) "
                "with the model's answers about "
                f"random inputs, and use what it returns."
            )
        if (
            outputs.ndim != 2
            or outputs.shape[1] != self.scores.shape[1]
            or not np.isfinite(outputs).all()
        ):
            raise InputError(
                f"Expected whole answers of {self.scores.shape[1]} classes before {self.name}, got "
                f"shape {outputs.shape} "
                f"with {int((~np.isfinite(outputs)).sum())} hidden. Put {self.name} first."
            )
        key = require_noise_key(self.name, self.seed, self.key)
        words = draw_keyed_words(outputs, key, "hamp_output")[:, 0]
        chosen = (words % np.uint64(len(self.scores))).astype(np.int64)
        # The largest score goes to the top class, the first of equals, and so on down
        answered = np.empty(outputs.shape)
        np.put_along_axis(
            answered, np.argsort(-outputs, axis=1, kind="stable"), self.scores[chosen], axis=1
        )
        return answered
