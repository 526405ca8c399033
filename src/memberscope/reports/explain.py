"""Answer briefly what people ask about an audit, each with a command that shows it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

import numpy as np

from memberscope._text import format_percentage, suggest_nearest
from memberscope.auditing import AuditArrays
from memberscope.errors import InputError

# Ends of attacks' names that a topic's name lacks, from the last on
SETTINGS = ("-per-class", "-t1", "-gamma1")


@cache
def _read_topics() -> dict[str, dict[str, str]]:
    """Read every topic with its title, text and command."""
    text = (files("memberscope.reports") / "explain.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = tomllib.loads(text)
    return found


def list_topics() -> tuple[str, ...]:
    """List the names that `explain` knows.

    >>> "only-overfitted" in list_topics()
    True
    """
    return tuple(_read_topics())


def explain(topic: str) -> str:
    """Explain a topic: title, a few lines and a command.

    Raises:
        InputError: The topic is unknown.

    >>> print(explain("gap").splitlines()[0])
    The gap attack
    """
    name = topic.strip().lower().replace("_", "-")
    # Attacks that calibrate by class, or have other constants, share the topic of those that do not
    for suffix in SETTINGS:
        name = name.removesuffix(suffix)
    # So do those with references that never saw the record, where nothing stands of them alone
    if name not in _read_topics():
        name = name.replace("-offline", "", 1)
    if name not in _read_topics():
        raise InputError(
            f"Expected a topic among {', '.join(list_topics())}, got "
            f"{topic!r}.{suggest_nearest(name, list_topics())} Or give --result DIR with a "
            "record's id."
        )
    found = _read_topics()[name]
    return f"{found['title']}\n\n{found['text'].strip()}\n\nSee it: {found['command']}"


def explain_record(arrays: AuditArrays, record: str, prior: float) -> str:
    """Explain how each attack ranks one record, by its id or by the hash that reports show.

    Raises:
        InputError: There is no such record.
    """
    from memberscope.auditing import hash_ids

    # Ids first: a user's id may look like a hash
    where = np.flatnonzero(arrays.ids == record)
    if not len(where):
        where = np.flatnonzero(np.array(hash_ids(arrays.ids)) == record)
    if not len(where):
        raise InputError(
            f"Expected the id or hash of a record of this audit, got {record!r}. See records.csv."
        )
    i = int(where[0])
    kind = "a member" if arrays.member[i] else "a non-member"
    own = arrays.group_values["class"][arrays.groups["class"][i]]
    # Records of texts, numbers, several labels and released tables have no class of their own
    of_class = f" of class {own}" if len(arrays.group_values["class"]) > 1 else ""
    lines = [
        f"Record {arrays.ids[i]} is {kind}{of_class}. At a prior of "
        f"{format_percentage(prior)}, an adversary would believe:"
    ]
    # The attack that is surest of this record comes first
    for name in sorted(arrays.posterior, key=lambda entry: -arrays.posterior[entry][i]):
        above = float(
            np.mean(arrays.comparable[name][~arrays.member] >= arrays.comparable[name][i])
        )
        belief = format_percentage(float(arrays.posterior[name][i]))
        lines.append(
            f"  {name}: {belief} likely a member; {format_percentage(above)} of non-members score "
            "as high or higher"
        )
    return "\n".join(lines)
