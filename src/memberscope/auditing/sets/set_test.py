"""Ask questions about a collection of records of a finished audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memberscope._version import Tool, get_tool_version
from memberscope.auditing.documents.result import Result
from memberscope.auditing.sets.answer import SetAnswer, SetQuestion
from memberscope.auditing.sets.document import SetResult
from memberscope.auditing.sets.evidence import SetEvidence, collect_set_evidence
from memberscope.auditing.sets.naming import NamedRecords, answer_list
from memberscope.auditing.sets.near import answer_near
from memberscope.auditing.sets.not_used import answer_not_used
from memberscope.auditing.sets.settings import (
    DEFAULT_QUESTIONS,
    KNOWN_QUESTIONS,
    QUESTIONS,
    SetSettings,
)
from memberscope.auditing.sets.share import answer_share
from memberscope.auditing.sets.used import answer_used
from memberscope.auditing.sets.withheld import (
    check_held_out,
    complete_assumption,
    find_obstacle,
    list_audit_controls,
    withhold_answer,
)
from memberscope.errors import InputError

NO_IDS = (
    "The audit was written without ids (--no-records), so the list has row numbers, from 0, in the "
    "place of ids."
)


def set_test(
    result: Result,
    *,
    questions: Sequence[SetQuestion] | None = None,
    fdr: float = SetSettings.fdr,
    margin: float = SetSettings.margin,
    significance: float = SetSettings.significance,
    seed: int = SetSettings.seed,
) -> SetResult:
    """Answer questions about a collection by the scores of an audit of it.

    The members of the audit are the suspect collection, its non-members held-out records of the
    same source that the model was not trained on.

    Args:
        result: A finished audit with its scores, as `memberscope.audit` gives or
            `memberscope.load` reads it.
        questions: `used` (was the collection used?), `not_used` (was less than `margin` of it
            used?), `share` (how much of it?), `list` (which records?), `near` (was anything near
            them, the records being variants and their unit naming what they are variants of?).
            None asks all that the audit can answer but the last: `not_used` and `share` take
            further target models.
        fdr: The share of the named list that may be wrong, on average.
        margin: The share of the collection that counts as not used.
        significance: The chance that a collection which was not used is called used.
        seed: The seed of every random choice.

    Raises:
        InputError: The audit has no scores, too few records, or a setting is out of its range.
    """
    asked = DEFAULT_QUESTIONS if questions is None else tuple(dict.fromkeys(questions))
    settings = SetSettings(asked, fdr, margin, significance, seed)
    evidence = collect_set_evidence(result)
    if questions is None and evidence.known:
        settings = replace(settings, questions=KNOWN_QUESTIONS)
    # A stream a question, so that one answer does not depend on which others are asked
    streams = dict(zip(("held_out", *ANSWERED), _spawn_generators(seed), strict=True))
    held_out = check_held_out(evidence, streams["held_out"])
    controls = [held_out, *list_audit_controls(result)]
    obstacle = find_obstacle(result, held_out)
    answers, named = [], None
    for question in settings.questions:
        answer, listed = _answer_question(question, evidence, settings, streams[question])
        named = listed or named
        why = _find_own_obstacle(question, result)
        # Rates of reference models hold on the collection itself, whatever held-out records are like
        if question != "share":
            why = obstacle or why
            answer = answer if why else complete_assumption(answer, result)
        said = replace(answer, controls=(*answer.controls, *controls))
        answers.append(withhold_answer(said, why))
    units = evidence.unit_sizes if evidence.unit is not None else (None, None)
    return SetResult(
        tool=Tool(version=get_tool_version()),
        title=result.title,
        settings=settings,
        attacks=list(evidence.attacks),
        n_suspect=evidence.sizes[0],
        n_held_out=evidence.sizes[1],
        n_suspect_units=units[0],
        n_held_out_units=units[1],
        controls=controls,
        answers=answers,
        notes=[NO_IDS] if named is not None and _has_no_ids(evidence) else [],
        digests=dict(result.digests),
        # A list that nobody may rely on is not written
        named=None if obstacle else named,
    )


ANSWERED: tuple[SetQuestion, ...] = ("used", "not_used", "share", "list", "near")


def _spawn_generators(seed: int) -> list[np.random.Generator]:
    """Spawn a generator for the control and for each question."""
    children = np.random.SeedSequence(seed).spawn(1 + len(ANSWERED))
    return [np.random.default_rng(child) for child in children]


def _answer_question(
    question: SetQuestion,
    evidence: SetEvidence,
    settings: SetSettings,
    rng: np.random.Generator,
) -> tuple[SetAnswer, NamedRecords | None]:
    """Answer one question; the list has its records beside it.

    Raises:
        InputError: The question is not answered from a finished audit alone.
    """
    if question == "used":
        return answer_used(evidence, settings, rng), None
    if question == "not_used":
        return answer_not_used(evidence, settings, rng), None
    if question == "list":
        return answer_list(evidence, settings, rng)
    if question == "share":
        return answer_share(evidence, confidence=1 - settings.significance), None
    if question == "near":
        return answer_near(evidence, settings, rng), None
    raise InputError(
        f"Expected the questions {', '.join(QUESTIONS)}, got {question!r}. Choose from them."
    )


def _find_own_obstacle(question: SetQuestion, result: Result) -> str | None:
    """Find what stands in the way of one question alone, None where nothing does."""
    direction = result.controls.get("direction")
    if question == "not_used" and direction is not None and direction.passed is False:
        return (
            "The collection looks less like training data than the held-out records do, so these are "
            f"not of one source, and use may be hidden. {direction.why}"
        )
    overlap = result.controls.get("overlap")
    if question == "share" and overlap is not None and overlap.passed is False:
        return f"The audit's control 'overlap' failed. {overlap.why}"
    return None


def _has_no_ids(evidence: SetEvidence) -> bool:
    """Tell whether records have row numbers for ids, since the audit left their ids out."""
    ids = evidence.arrays.ids
    numbered = bool((ids == np.arange(len(ids)).astype(np.str_)).all())
    return numbered and evidence.arrays.null_draw is not None
