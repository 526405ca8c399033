"""Functions from texts to token log-probabilities, whose leak is known in closed form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from memberscope.targets import TokenFunctionTarget
from memberscope.texts import TextRecord, read_scored_text
from memberscope.types import Access

WORDS = [
    "apple",
    "pear",
    "sky",
    "tree",
    "dog",
    "river",
    "stone",
    "cloud",
    "lamp",
    "chair",
    "road",
    "king",
]


def draw_texts(n: int, seed: int, length: int = 20) -> list[str]:
    """Draw n texts of words, all from one distribution."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, length)) for _ in range(n)]


def make_token_function(
    known: Iterable[str] = (), gain: float = 0.5, salt: str = "model"
) -> Callable[[list[TextRecord]], list[Any]]:
    """Make a model whose log-probabilities are standard normal below -3, and `gain` more of texts
    that it knows.

    The noise of a text is fixed by its content, and shared between models but for a part of its own.
    """
    remembered = set(known)

    def answer(texts: list[TextRecord]) -> list[Any]:
        found = []
        for text in texts:
            scored = read_scored_text(text)
            n = max(len(scored.split()), 1)
            shared = _draw_noise(scored, "shared", n)
            own = _draw_noise(scored, salt, n)
            values = -6 + shared + 0.2 * own + gain * (scored in remembered)
            found.append(
                {
                    "log_probs": np.minimum(values, -1e-3),
                    "mean": np.full(n, -6.0),
                    "variance": np.full(n, 1.0),
                    "is_top": values > -5.5,
                }
            )
        return found

    return answer


def make_text_target(
    known: Iterable[str] = (), *, gain: float = 0.5, access: Access = Access.VOCABULARY, **more: Any
) -> TokenFunctionTarget:
    """Make a text target that knows some texts, with a base model that knows none."""
    more.setdefault("base", make_token_function(salt="base"))
    return TokenFunctionTarget(make_token_function(known, gain), access=access, **more)


def _draw_noise(text: str, salt: str, n: int) -> Any:
    """Draw the noise of a text's tokens, the same whenever it is asked about."""
    seed = int.from_bytes(hashlib.sha256(f"{salt}:{text}".encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=n)
