"""What is asked about a collection, and the levels at which it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from memberscope import _check
from memberscope.auditing.sets.answer import SetQuestion
from memberscope.errors import InputError

QUESTIONS: tuple[SetQuestion, ...] = ("used", "not_used", "list")


@dataclass(frozen=True)
class SetSettings:
    """The questions, and what their answers allow.

    `fdr` is the share of a named list that may be wrong, `margin` the share of the collection that
    counts as not used, `level` the chance that a collection which was not used is called used, and
    `seed` that of every random choice.

    >>> SetSettings(fdr=2.0)
    Traceback (most recent call last):
    memberscope.errors.InputError: Expected fdr strictly between 0 and 1, got 2.0. Give it as a fraction, ...
    """

    questions: tuple[SetQuestion, ...] = QUESTIONS
    fdr: float = 0.1
    margin: float = 0.1
    level: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("fdr", "margin", "level"):
            _check.check_rate(name, getattr(self, name))
        if self.seed < 0:
            raise InputError(f"Expected a seed of at least 0, got {self.seed}. Correct it.")
        known = get_args(SetQuestion)
        for question in self.questions:
            if question not in known:
                raise InputError(
                    f"Expected the questions {', '.join(known)}, got {question!r}. Choose from them."
                )
        if not self.questions:
            raise InputError(
                f"Expected at least one question of {', '.join(known)}, got none. Name one."
            )
