"""Links between pages lead somewhere, and every page can be reached from the first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
    ),
]
LINK = re.compile(r"(?<!`)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(`{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = 6
# What belongs to one workplace, and means nothing to a reader
PRIVATE = re.compile(r"/(?:work|root|home/\w+)/|localhost:\d{4}/simple|\b(?:extra-)?index[-]url\b")


def read_text(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def list_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST name them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", read_text(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def list_trees(page: Path) -> list[Path]:
    """The pages that a page's tables of contents name."""
    found = []
    for tree in TREE.findall(page.read_text(encoding="utf-8")):
        names = [line.strip() for line in tree.splitlines()]
        found += [
            (page.parent / f"{name}.md").resolve()
            for name in names
            if name and not name.startswith(":")
        ]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(read_text(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        leads_to = (page.parent / name).resolve() if name else page
        if not leads_to.exists() or (
            anchor and leads_to.suffix == ".md" and anchor not in list_anchors(leads_to)
        ):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_first_by_six_sections():
    first = DOCS / "index.md"
    assert len(list_trees(first)) == SECTIONS
    reached, pending = set(), [first]
    while pending:
        page = pending.pop()
        assert page.exists(), f"{page} is in a table of contents and not there"
        reached.add(page)
        pending += [inner for inner in list_trees(page) if inner not in reached]
    pages = {page for page in PAGES if page.is_relative_to(DOCS)}
    assert sorted(str(page.relative_to(DOCS)) for page in pages - reached) == []


def test_no_page_is_in_two_tables_of_contents():
    listed = [inner for page in PAGES for inner in list_trees(page)]
    assert sorted({page.name for page in listed if listed.count(page) > 1}) == []


def test_every_job_of_the_first_page_has_a_link():
    table = (DOCS / "index.md").read_text(encoding="utf-8").partition("| job |")[2]
    jobs = re.findall(r"^\| \*\*(.+?)\*\* \|(.*)$", table, re.MULTILINE)
    assert [job for job, _ in jobs] == [
        "Audit my model",
        "Audit my endpoint",
        "Gate my releases",
        "Choose a defence",
        "Guard my service",
        "Research",
    ]
    assert all(LINK.search(cells) for _, cells in jobs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_say_nothing_of_one_workplace(page):
    assert PRIVATE.findall(page.read_text(encoding="utf-8")) == []
