"""Ask questions one after the other: each answer is checked as it is given, none is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope._text import suggest_nearest
from memberscope.cli.output import print_error, print_line
from memberscope.errors import InputError


@dataclass(frozen=True)
class Question:
    """A question about one option.

    `read` makes the value of an answer, and raises InputError for one that no audit can use.
    `choices` are the answers there are, each with what it means.
    """

    name: str
    text: str
    default: str
    read: Callable[[str], Any] = str
    choices: Mapping[str, str] | None = None

    def read_answer(self, answer: str) -> Any:
        """Read an answer: one of the choices by its number or name, or what `read` makes of it.

        Raises:
            InputError: The answer is of no use.

        >>> ask = Question("harm", "How bad?", "low", choices={"low": "", "high": ""})
        >>> ask.read_answer("2"), ask.read_answer("HIGH")
        ('high', 'high')
        """
        if self.choices is None:
            return self.read(answer)
        names = list(self.choices)
        name = answer.strip().lower().replace("-", "_")
        if name.isdecimal() and 1 <= int(name) <= len(names):
            return names[int(name) - 1]
        if name not in names:
            raise InputError(
                f"Expected {self.name} {', '.join(names[:-1])} or {names[-1]}, got {answer!r}."
                f"{suggest_nearest(name, names)} Choose one of them."
            )
        return name


def ask_questions(
    questions: Sequence[Question], given: Mapping[str, Any], draft: Path
) -> dict[str, Any]:
    """Ask what `given` does not answer, and give all answers by name.

    Where the asking ends early, the answers so far are written to `draft`, and the next time it is
    offered to go on from there.

    Raises:
        InputError: An answer that was given beforehand is of no use, or no more answers come.
        KeyboardInterrupt: The asking was interrupted.
    """
    answers = {
        question.name: question.read_answer(str(given[question.name]))
        for question in questions
        if given[question.name] is not None
    }
    asked = [question for question in questions if question.name not in answers]
    kept = _read_draft(draft, asked)
    try:
        if kept and _is_wanted(draft, kept):
            answers |= kept
        else:
            kept = {}
        for question in asked:
            if question.name not in kept:
                kept[question.name] = answers[question.name] = _ask_until_usable(question)
    except (EOFError, KeyboardInterrupt) as stop:
        print_line("")
        if kept:
            _write_draft(draft, kept)
        if isinstance(stop, KeyboardInterrupt):
            raise
        raise InputError(
            "Expected an answer to each question, got none. Give the answers as options."
        ) from None
    return answers


def drop_draft(draft: Path) -> None:
    """Remove the answers that were kept, once they are used."""
    draft.unlink(missing_ok=True)


def _ask_until_usable(question: Question) -> Any:
    """Ask until the answer can be used; an empty one is the default."""
    print_line(question.text)
    for number, (name, meaning) in enumerate((question.choices or {}).items(), 1):
        print_line(f"  {number}  {name:<14}{meaning}")
    while True:
        answer = input(f"[{question.default}]: ").strip() or question.default
        try:
            return question.read_answer(answer)
        except InputError as error:
            print_error(str(error))


def _is_wanted(draft: Path, kept: Mapping[str, Any]) -> bool:
    """Ask whether to go on from the answers that were kept."""
    print_line(f"{draft} has answers of a call that was interrupted:")
    for name, value in kept.items():
        print_line(f"  {name:<8}{value}")
    while True:
        answer = input("Go on from there (yes, no)? [yes]: ").strip().lower() or "yes"
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        print_error(f"Expected yes or no, got {answer!r}. Answer again.")


def _read_draft(draft: Path, asked: Sequence[Question]) -> dict[str, Any]:
    """Read the answers that were kept and can still be used, by name."""
    try:
        stored = json.loads(draft.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {}
    for question in asked:
        try:
            found[question.name] = question.read_answer(str(stored[question.name]))
        except (InputError, KeyError, TypeError):
            continue
    return found


def _write_draft(draft: Path, answers: Mapping[str, Any]) -> None:
    """Write the answers so far, whole or not at all."""
    from memberscope._files import write_bytes

    write_bytes(draft, json.dumps(answers, ensure_ascii=False, indent=1).encode())
    print_line(f"Kept {len(answers)} answers in {draft}.")
