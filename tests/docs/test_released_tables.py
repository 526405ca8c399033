"""The example on released tables prints what the page says."""

import doctest
from pathlib import Path

import pytest

pytest.importorskip("pandas")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "released-tables.md"


def test_the_example_prints_what_the_page_says():
    text = PAGE.read_text(encoding="utf-8")
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(example.examples) > 10
    assert doctest.DocTestRunner().run(example).failed == 0
