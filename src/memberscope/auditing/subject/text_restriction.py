"""Put the language model of an audit behind what the threat model says its endpoint does."""

from __future__ import annotations

from dataclasses import replace

from memberscope.auditing.subject.subject import Subject
from memberscope.facts import read_target_facts
from memberscope.outputs import parse_restriction
from memberscope.signals import RestrictedTextTarget
from memberscope.types import ThreatModel


def restrict_text_subject(subject: Subject, threat: ThreatModel) -> Subject:
    """Put a language model behind the restriction of the threat model, if there is one.

    A classifier stays as it is: its answers are restricted after they came.

    Raises:
        InputError: The model cannot be seen through the restriction.
    """
    facts = read_target_facts(subject.target)
    if facts.task != "text" or threat.restriction is None:
        return subject
    defence = parse_restriction(threat.restriction)
    # What the model says of itself already is not applied twice
    if facts.restriction == defence.name:
        return subject
    return replace(subject, target=RestrictedTextTarget(subject.target, defence))
