"""`memberscope list`: what there is."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope._text import suggest_nearest
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument
from memberscope.cli.output import print_line
from memberscope.errors import InputError

KINDS = ("attacks", "metrics", "policies", "standards", "topics", "access")


@dataclass(frozen=True)
class ListOptions:
    """The options of `list`."""

    kind: str = add_argument(f"What to list: {', '.join(KINDS)}.", default=KINDS[0], choices=KINDS)


@take_options(ListOptions)
def print_listing(options: ListOptions) -> None:
    """List attacks with what they need, metrics, policies, standards, topics or access levels."""
    for line in _list_entries(options.kind):
        print_line(line)


def _list_entries(kind: str) -> list[str]:
    """List the entries of a kind, one line each.

    Raises:
        InputError: There is no such kind.
    """
    if kind == "attacks":
        return _format_attack_lines()
    if kind == "metrics":
        from typing import get_args

        from memberscope.types import Metric

        return list(get_args(Metric))
    if kind == "policies":
        from memberscope.auditing import list_bundled_policies, load_policy

        return [
            f"{name}: {' '.join(claim.sentence() for claim in load_policy(name).claims())}"
            for name in list_bundled_policies()
        ]
    if kind == "standards":
        from memberscope.reports.page import read_standards

        return [f"{entry['id']}: {entry['title']}" for entry in read_standards()]
    if kind == "topics":
        from memberscope.reports import list_topics

        return list(list_topics())
    if kind == "access":
        from memberscope.types import list_access_words

        return list_access_words()
    raise InputError(
        f"Expected one of {', '.join(KINDS)}, got {kind!r}.{suggest_nearest(kind, KINDS)}"
    )


def _format_attack_lines() -> list[str]:
    """List the attacks with their access level and what they learn from.

    Those on texts, and on predictions or several labels, come behind the others, and last those
    that run only where they are named.
    """
    from memberscope.attacks import OUTPUT_ATTACKS, TEXT_ATTACKS, VARIANTS, list_attacks

    learns = {
        "none": "",
        "non_members": "; learns from known non-members",
        "both": "; learns from known records",
    }
    found = []
    usual, of_texts = list_attacks(), {attack.name: attack for attack in TEXT_ATTACKS}
    of_outputs = {attack.name: attack for attack in OUTPUT_ATTACKS}
    named = {attack.name: attack for attack in VARIANTS}
    for attack in (usual | of_texts | of_outputs | named).values():
        needs = attack.needs
        inside, outside = needs.references
        words = learns[needs.known] + ("; needs features" if needs.features else "")
        words += (
            f"; needs reference models, {inside} with and {outside} without each record"
            if inside + outside
            else ""
        )
        words += "; on texts too" if attack.name in usual and attack.name in of_texts else ""
        if attack.name not in usual:
            words += (
                "; on texts"
                if attack.name in of_texts
                else f"; on {' and '.join(needs.tasks)}"
                if attack.name in of_outputs
                else "; runs only where it is named"
            )
        found.append(f"{attack.name:<34} {needs.access.word}{words}")
    return found
