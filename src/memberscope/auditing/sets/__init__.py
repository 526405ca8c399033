"""Questions about a collection of records: was it used, how much of it, and which records."""

from memberscope.auditing.sets.answer import SetAnswer, SetControl, SetDecision, SetQuestion
from memberscope.auditing.sets.document import SET_FORMAT, SetResult
from memberscope.auditing.sets.naming import NamedRecords
from memberscope.auditing.sets.near import answer_near
from memberscope.auditing.sets.reference_scores import score_references
from memberscope.auditing.sets.set_test import set_test
from memberscope.auditing.sets.settings import (
    DEFAULT_QUESTIONS,
    QUESTIONS,
    SetSettings,
    list_questions,
)
from memberscope.auditing.sets.share import answer_share, state_share

__all__ = [
    "DEFAULT_QUESTIONS",
    "NamedRecords",
    "QUESTIONS",
    "SET_FORMAT",
    "SetAnswer",
    "SetControl",
    "SetDecision",
    "SetQuestion",
    "SetResult",
    "SetSettings",
    "answer_near",
    "answer_share",
    "list_questions",
    "score_references",
    "set_test",
    "state_share",
]
