"""The Markdown summary, read by a parser of GitHub's dialect."""

from __future__ import annotations

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from memberscope.reports.formats.markdown import MARK, render_markdown
from memberscope.reports.formats.markdown_parts import MOST_ROWS, build_table
from memberscope.reports.formats.plain_text import escape_markdown, fence_command

LARGEST_COMMENT = 65_536  # characters of a comment on a pull request
HARSH = (
    "a|b `c` ``` <b>x</b> [l](u) ![i](u) *e* _f_ ~~s~~ # h > q $m$ &lt; \\ | @me #1 http://x www.x"
)


def parse(text: str) -> list:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def shape(text: str) -> list[str]:
    """The blocks of a text, without their words."""
    return [token.type for token in parse(text) if token.type != "inline"]


def read_words(text: str) -> str:
    """What a reader sees of a text."""
    return "".join(
        child.content
        for token in parse(text)
        if token.type == "inline"
        for child in token.children
        if child.type in ("text", "text_special", "code_inline")
    )


def count_tables(text: str) -> int:
    return shape(text).count("table_open")


@pytest.mark.parametrize(
    ("name", "heading", "tables"),
    [
        ("fail", "FAIL", 2),
        ("pass", "PASS", 2),
        ("inconclusive", "INCONCLUSIVE", 2),
        ("not run", "INCONCLUSIVE", 2),
        ("limited", "PASS (limited)", 2),
        ("unjudged", "not judged, as no policy was given", 1),
        ("empty", "not judged, as no policy was given", 0),
    ],
)
def test_it_says_first_what_the_verdict_is(cases, name, heading, tables):
    text = render_markdown(cases[name], "out")
    assert text.startswith(f"{MARK}\n\n## Membership inference: {heading}\n")
    assert count_tables(text) == tables and len(text) < LARGEST_COMMENT


def test_it_has_headline_access_worst_group_controls_and_the_next_command(result):
    text = render_markdown(result, "memberscope-out")
    words = read_words(text)
    assert "The strongest attack (" in words and "5% of the non-members" in words
    for level in ("| label |", "logits |"):
        assert level in text
    assert "Worst group: " in words and "The audit's own checks: " in words
    (fence,) = [token for token in parse(text) if token.type == "fence"]
    assert fence.content.strip() == (
        "memberscope audit … --restrict top:1+round:2 --out memberscope-restricted"
    )


def test_a_limited_pass_is_marked_in_its_rows(cases):
    text = render_markdown(cases["limited"])
    assert "| PASS (limited) |" in text


def test_hostile_texts_make_no_block_no_link_and_no_html(cases, result):
    text = render_markdown(cases["harsh"], "out")
    plain = render_markdown(result, "out")
    html = [token.content for token in parse(text) if token.type == "html_block"]
    assert html == [token.content for token in parse(plain) if token.type == "html_block"]
    inline = [child for token in parse(text) for child in token.children or ()]
    assert not {child.type for child in inline} & {"link_open", "image", "s_open", "em_open"}
    assert {child.content for child in inline if child.type == "html_inline"} <= {
        "<sub>",
        "</sub>",
    }
    assert "\x1b" not in text and "\u202e" not in text
    headings = [kind for kind in shape(text) if kind == "heading_open"]
    assert len(headings) == 3 and count_tables(text) == 2


def test_escaped_text_reads_as_it_was():
    shown = read_words(f"x {escape_markdown(HARSH)}").replace("\u200b", "")
    assert shown == f"x {HARSH}"
    (row,) = build_table(("a",), [(HARSH,)])[2:]
    table = "\n".join([*build_table(("a", "b"), []), row.removesuffix("|") + "| end |"])
    cells = [token.content for token in parse(table) if token.type == "inline"]
    assert cells[-1] == "end" and len(cells) == 4


@pytest.mark.parametrize("text", ["@team", "#12", "https://x.example", "www.x.example"])
def test_nobody_is_mentioned_and_nothing_linked(text):
    escaped = escape_markdown(text)
    assert "&#8203;" in escaped and text not in escaped


def test_a_command_cannot_end_its_block():
    (fence,) = parse(fence_command("memberscope check ```x\n```\n# y"))
    assert fence.type == "fence" and fence.content == "memberscope check ```x ``` # y\n"


def test_many_findings_and_levels_stay_below_the_largest_comment(result):
    entry = next(finding for finding in result.findings if finding.estimate)
    many = [replace(entry, claim=f"{n} {'|' * 900}", advice="<" * 900) for n in range(5000)]
    rows = [estimate for estimate in result.estimates if estimate.attack == "strongest"]
    levels = [replace(row, restriction=f"top:{n}{'|' * 300}") for n in range(60) for row in rows]
    found = result.model_copy(update={"findings": many, "estimates": levels, "reason": "`" * 9999})
    text = render_markdown(found)
    assert len(text) < LARGEST_COMMENT
    assert f"{5000 - MOST_ROWS} more are in result.json." in text
