"""The built documentation: no warning, one search box, six sections, nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """Counts search boxes, and collects what a page loads and the first level of its sidebar."""

    def __init__(self) -> None:
        super().__init__()
        self.searches = 0
        self.depth = 0  # of elements within the sidebar's tree
        self.loaded: list[str] = []
        self.sections: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.searches += tag == "form" and given.get("role") == "search"
        source = given.get("src") or (given.get("href") if tag == "link" else None)
        self.loaded += [source] if source else []
        kinds = (given.get("class") or "").split()
        if tag == "div" and (self.depth or "sidebar-tree" in kinds):
            self.depth += 1
        if tag == "li" and self.depth and "toctree-l1" in kinds:
            self.sections.append(" ".join(kinds))

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "div" and self.depth > 0


def test_the_site_builds_without_a_warning_and_has_one_search_box(tmp_path):
    if find_spec("sphinx") is None or find_spec("furo") is None:
        pytest.skip("needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = [page for page in (tmp_path / "site").rglob("*.html") if "_modules" not in page.parts]
    assert len(pages) > 40
    for path in pages:
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        remote = [source for source in page.loaded if re.match(r"(https?:)?//", source)]
        assert remote == [], path.name
        # The page of results has the box in the sidebar too, and searches in its own words
        assert page.searches == 1 or path.name == "search.html", path.name
        assert len(page.sections) == 6, path.name
