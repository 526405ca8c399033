"""Choose by task what an audit must have measured for a policy, and what a guard calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memberscope.auditing import Result
from memberscope.outputs import LABEL, NONE, shorten_defence_name
from memberscope.policygen.guard_evidence import Outputs
from memberscope.types import OUTPUT_TASKS, Access, Task, ThreatModel

VOCABULARY = 1 << 16  # tokens of a usual one, of which top:k shows few


@dataclass(frozen=True)
class EvidenceRules:
    """How the levels of an audit become outputs that a guard can serve, for one task.

    `least` names the most restrictive outputs. `find_served_outputs` says what the server answers,
    `name_level` which outputs a level is (None where a guard does not serve them),
    `count_queries` how often an attacker asked about a record, and `list_gaps` why nothing is
    known of the least outputs, given whether an attack ran there. `n_outputs` counts the values of
    an answer where these are no classes of the audit.
    """

    least: str
    n_outputs: int | None
    find_served_outputs: Callable[[Result, Mapping[str, Any]], Outputs]
    name_level: Callable[[ThreatModel, Outputs, Mapping[str, Any]], tuple[str, Outputs] | None]
    count_queries: Callable[[Result], int]
    list_gaps: Callable[[Result, bool], list[str]]


def select_evidence_rules(task: Task) -> EvidenceRules:
    """Select the rules of a task.

    >>> select_evidence_rules("text").least
    'generated texts'
    """
    if task in OUTPUT_TASKS:
        return _OUTPUTS
    return _TEXTS if task == "text" else _CLASSIFIERS


def _find_class_outputs(result: Result, endpoint: Mapping[str, Any]) -> Outputs:
    """Find what a classifier answers: what its endpoint declared, or the most that was audited."""
    logits = any(threat.access == Access.LOGITS for threat in result.threat_models)
    declared: Outputs = endpoint.get("outputs", "logits" if logits else "probabilities")
    return declared


def _name_class_level(
    threat: ThreatModel, serves: Outputs, endpoint: Mapping[str, Any]
) -> tuple[str, Outputs] | None:
    """Name the outputs of a level of a classifier."""
    name = (
        LABEL if threat.access == Access.LABEL else shorten_defence_name(threat.restriction or NONE)
    )
    unrestricted = name == NONE and threat.access == Access.PROBABILITIES
    # A guard neither shows parameters nor changes what an endpoint answers unrestricted
    if threat.access == Access.WHITE_BOX or (unrestricted and endpoint and serves == "logits"):
        return None
    return name, "probabilities" if unrestricted else serves


def _count_searched(result: Result) -> int:
    """Count the queries of the longest search."""
    return max((entry.budget for entry in result.diagnostics.searches.values()), default=1)


def _list_label_gaps(result: Result, is_measured: bool) -> list[str]:
    """Say why labels alone, on which a guard falls back, were not searched."""
    if result.diagnostics.searches:
        return []
    why = next(
        (entry.why for entry in result.not_run if entry.access == "label"),
        "no such attack was among the plan's.",
    )
    return [
        f"Labels alone were not searched, so nothing is known of what they tell: {why} "
        f"Audit the model itself with the attack boundary and --search-queries 128."
    ]


def _name_text_level(
    threat: ThreatModel, serves: Outputs, endpoint: Mapping[str, Any]
) -> tuple[str, Outputs] | None:
    """Name the outputs of a level of a language model.

    A server's own answers tell at most the vocabulary; levels come weakest first, so that its
    measurement stands for them where there is one.
    """
    if threat.access == Access.GENERATIONS:
        return LABEL, "probabilities"
    if threat.access in (Access.TOKEN_PROBABILITIES, Access.VOCABULARY):
        return shorten_defence_name(threat.restriction or NONE), "probabilities"
    return None


def _count_text_queries(result: Result) -> int:
    """Count the queries of the attack that asked most about a record, copies of it included."""
    return max((entry.queries for entry in result.estimates), default=1)


def _list_text_gaps(result: Result, is_measured: bool) -> list[str]:
    """Say why generated texts, which every guard lets through, were not measured."""
    if is_measured:
        return []
    why = next(
        (entry.why for entry in result.not_run if entry.attack == "ngram_coverage"),
        "no such attack was among the plan's.",
    )
    return [
        f"Generated texts alone were not measured, and a guard always serves them: {why} Audit a "
        "model that writes texts, with the attack ngram_coverage and --effort normal."
    ]


def _name_output_level(
    threat: ThreatModel, serves: Outputs, endpoint: Mapping[str, Any]
) -> tuple[str, Outputs] | None:
    """Name the outputs of a level of a model that predicts numbers or several labels."""
    if threat.access != Access.PREDICTION:
        return None
    return shorten_defence_name(threat.restriction or NONE), serves


_OUTPUTS = EvidenceRules(
    "the most restricted answers",
    None,
    lambda result, endpoint: endpoint.get("outputs", "probabilities"),
    _name_output_level,
    _count_text_queries,
    lambda result, is_measured: [],
)
_CLASSIFIERS = EvidenceRules(
    "labels", None, _find_class_outputs, _name_class_level, _count_searched, _list_label_gaps
)
_TEXTS = EvidenceRules(
    "generated texts",
    VOCABULARY,
    lambda result, endpoint: "probabilities",
    _name_text_level,
    _count_text_queries,
    _list_text_gaps,
)
