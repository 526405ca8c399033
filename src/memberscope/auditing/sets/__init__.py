"""Questions about a collection of records: was it used, how much of it, and which records."""

from memberscope.auditing.sets.answer import SetAnswer, SetControl, SetDecision, SetQuestion

__all__ = ["SetAnswer", "SetControl", "SetDecision", "SetQuestion"]
