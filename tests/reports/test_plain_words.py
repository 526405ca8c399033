"""Sentences that readers without statistics stumbled over do not come back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from memberscope.auditing import compare
from memberscope.reports import (
    explain,
    list_topics,
    print_comparison,
    print_summary,
    render_comparison,
    render_junit,
    render_report,
)
from memberscope.reports.page.audience_sections import build_sections

SOURCE = Path(__file__).resolve().parents[2] / "src" / "memberscope"
# Each as it stood, without its numbers
STUMBLED_OVER = (
    "smallest true share of members found that fails",
    "corrected by Holm",
    "by Bonferroni over",
    "finds nothing where there is nothing to find",
    "it would have seen",
    "turns exactly this into membership",
    "in 80% of audits",
    "would have failed",
    "Undominated",
    "breaks it",
    "unaware: both",
    "fitted once a fold",
    "non-members a fold resolve",
    "one query a record",
    "Against guessing",
    "where scores tie",
    "accuses",
    "wrongly accused",
    "are accused",
    "of the accused",
)


def print_text(print_to, *arguments, **options) -> str:
    """What a function prints, in lines that are not broken."""
    shown = io.StringIO()
    print_to(*arguments, Console(file=shown, width=100_000, no_color=True), **options)
    return " ".join(shown.getvalue().split())


@pytest.fixture(scope="module")
def texts(result, clean) -> dict[str, str]:
    """Everything that a reader of these two audits gets, by name."""
    found = {f"explain {topic}": explain(topic) for topic in list_topics()}
    for name, audit in (("leaky", result), ("clean", clean)):
        found[f"{name} summary"] = print_text(print_summary, audit)
        found[f"{name} tables"] = print_text(print_summary, audit, verbose=True)
        found[f"{name} page"] = render_report(audit)
        found[f"{name} JUnit"] = render_junit(audit)
        found[f"{name} document"] = json.dumps(audit.model_dump(mode="json"))
    other = result.model_copy(update={"title": "another"})
    compared = compare([result, other])
    found["comparison"] = print_text(print_comparison, compared)
    found["comparison page"] = render_comparison(compared)
    return found


@pytest.mark.parametrize("words", STUMBLED_OVER)
def test_no_text_has_a_sentence_that_readers_stumbled_over(texts, words):
    assert len(texts) > 50
    assert [name for name, text in texts.items() if words in " ".join(text.split())] == []


def test_nothing_that_writes_for_readers_has_such_a_sentence():
    """Rare sentences, which two audits do not show, are looked for in the code."""
    rooms = ("auditing", "reports", "cli", "policygen")
    files = [path for room in rooms for path in (SOURCE / room).rglob("*.py")]
    files += list((SOURCE / "reports" / "templates").glob("*.j2"))
    files += list((SOURCE / "reports").glob("*.toml"))
    assert len(files) > 100
    text = {path.name: path.read_text(encoding="utf-8") for path in files}
    # These stand in docstrings, for people who read code
    in_docstrings = {"corrected by Holm", "would have failed", "accuses", "fitted once a fold"}
    for words in set(STUMBLED_OVER) - in_docstrings:
        assert [name for name, found in text.items() if words in found] == [], words


def test_a_gap_that_is_not_positive_is_not_said_to_show_membership(result):
    found = result.diagnostics
    gap = found.generalisation_gap

    def describe(value: float, low: float, high: float) -> str:
        changed = found.model_copy(
            update={"generalisation_gap": type(gap)(value=value, low=low, high=high)}
        )
        engineer = build_sections(result.model_copy(update={"diagnostics": changed}))[0]
        return engineer.sentences[0]

    assert "the gap attack" in describe(0.2, 0.15, 0.25)
    for limits in ((-0.01, -0.05, 0.03), (-0.2, -0.25, -0.15)):
        words = describe(*limits)
        assert "the gap attack" not in words
        # An interval that holds zero shows neither a gap nor that there is none
        shown = "no sign of overfitting" if limits[2] <= 0 else "This audit cannot tell"
        assert shown in words
