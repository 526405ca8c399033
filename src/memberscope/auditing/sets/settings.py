"""What is asked about a collection, and the levels at which it is answered."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope import _check
from memberscope.auditing.sets.answer import SetQuestion
from memberscope.errors import InputError

# Those that every finished audit can answer, those that take models with known members, and all
DEFAULT_QUESTIONS: tuple[SetQuestion, ...] = ("used", "list")
KNOWN_QUESTIONS: tuple[SetQuestion, ...] = ("used", "not_used", "share", "list")
QUESTIONS: tuple[SetQuestion, ...] = (*KNOWN_QUESTIONS, "near")


def list_questions() -> tuple[str, ...]:
    """List the questions that a finished audit may be asked.

    >>> list_questions()
    ('used', 'not_used', 'share', 'list', 'near')
    """
    return QUESTIONS


@dataclass(frozen=True)
class SetSettings:
    """The questions, and what their answers allow.

    `fdr` is the share of a named list that may be wrong, `margin` the share of the collection that
    counts as not used, `significance` the chance that a collection which was not used is called used, and
    `seed` that of every random choice.

    >>> SetSettings(fdr=2.0)
    Traceback (most recent call last):
    memberscope.errors.InputError: Expected fdr strictly between 0 and 1, got 2.0. Give it as a fraction, ...
    """

    questions: tuple[SetQuestion, ...] = DEFAULT_QUESTIONS
    fdr: float = 0.1
    margin: float = 0.1
    significance: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("fdr", "margin", "significance"):
            _check.check_rate(name, getattr(self, name))
        if self.seed < 0:
            raise InputError(f"Expected a seed of at least 0, got {self.seed}. Correct it.")
        known = QUESTIONS
        for question in self.questions:
            if question not in known:
                raise InputError(
                    f"Expected the questions {', '.join(known)}, got {question!r}. Choose from them."
                )
        if not self.questions:
            raise InputError(
                f"Expected at least one question of {', '.join(known)}, got none. Name one."
            )
