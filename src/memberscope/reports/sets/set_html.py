"""Render `set-report.html`: the answers about a collection, as one file that works offline."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope._html import build_content_policy, keep_options_whole, read_template
from memberscope._text import format_number, format_percentage
from memberscope.auditing import SetAnswer, SetResult
from memberscope.reports.sets.set_words import (
    describe_sides,
    list_assumptions,
    name_counted,
    write_decision,
    write_question,
)

TONES = {"YES": "fail", "NO": "pass", "WITHHELD": "inconclusive", "NOT_RUN": "inconclusive"}


@dataclass(frozen=True)
class Badge:
    """What stands above all answers: a word, the tone of its colour, and a sentence."""

    word: str
    tone: str
    sentence: str


def choose_badge(found: SetResult) -> Badge:
    """Choose what stands above the answers: shown use before missing answers before all else."""
    questions = {entry.decision: entry for entry in reversed(found.answers)}
    if "YES" in questions:
        return Badge("Use shown", "fail", questions["YES"].statement)
    for decision in ("WITHHELD", "NOT_RUN"):
        if decision in questions:
            word = "No answer" if decision == "NOT_RUN" else "Withheld"
            return Badge(word, "inconclusive", questions[decision].statement)
    first = found.answers[0]
    tone = TONES.get(first.decision, "")
    word = "Estimated" if first.decision == "ESTIMATED" else "Use not shown"
    return Badge("Not used" if first.decision == "NO" else word, tone, first.statement)


def list_numbers(answer: SetAnswer) -> list[tuple[str, str]]:
    """List the numbers behind an answer, each with its name; only the sizes where it is withheld.

    >>> answer = SetAnswer("share", 0.5, 0.45, 0.55, None, (), "ESTIMATED", "", "", None, 90, 80, None, "duci")
    >>> list_numbers(answer)
    [('share of the collection that was used', '50% (45% to 55%)'), ('compared', '90 records with 80 held-out records')]
    """
    counted = name_counted(answer)
    found: list[tuple[str, str]] = []
    if answer.value is not None and answer.withheld is None:
        found.append((_name_value(answer), _format_value(answer)))
    if answer.p_value is not None and answer.withheld is None:
        found.append(("p-value", f"{answer.p_value:.2g}"))
    units = "" if answer.n_units is None else f" in {answer.n_units} {counted}"
    compared = f"{answer.n_suspect} records{units} with {answer.n_held_out} held-out records"
    return [*found, ("compared", compared)]


def _name_value(answer: SetAnswer) -> str:
    """Name what the value of an answer is."""
    counted = name_counted(answer)
    one = counted.removesuffix("s")
    return {
        "used": f"difference of mean scores, in standard deviations of a {one}",
        "list": f"{counted} named",
        "near": "records near which something was trained on",
    }.get(answer.question, "share of the collection that was used")


def _format_value(answer: SetAnswer) -> str:
    """Format the value of an answer, with its limits where it has some."""
    shares = answer.question in ("share", "not_used")
    assert answer.value is not None
    if answer.question in ("list", "near"):
        return f"{answer.value:.0f}"
    write = format_percentage if shares else format_number
    if answer.low is None or answer.high is None:
        return write(answer.value)
    return f"{write(answer.value)} ({write(answer.low)} to {write(answer.high)})"


def render_set_result(found: SetResult) -> str:
    """Render the answers as one HTML text without scripts; no record is named in it."""
    # Imported here, since most commands render nothing
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, own_style = read_template("plain_page.css"), read_template("set.css")
    # Escaping is on: the title comes from users
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": format_percentage, "options": keep_options_whole}
    environment.globals |= {
        "list_numbers": list_numbers,
        "name_counted": name_counted,
        "write_decision": write_decision,
        "write_question": write_question,
    }
    text = environment.from_string(read_template("set.html.j2")).render(
        found=found,
        badge=choose_badge(found),
        tones=TONES,
        sides=describe_sides(found),
        assumptions=list_assumptions(found),
        policy=Markup(build_content_policy([], [style, own_style])),
        style=Markup(style),
        own_style=Markup(own_style),
    )
    return str(text)
