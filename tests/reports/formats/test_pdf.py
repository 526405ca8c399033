"""The PDF, printed by a real browser and read back."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys

import pytest

from memberscope.errors import InputError
from memberscope.reports import write_format
from memberscope.reports.formats.pdf import PROGRAMS, render_pdf

pypdf = pytest.importorskip("pypdf")
needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, PROGRAMS)),
    reason="needs chromium: tests/system-packages.sh installs it",
)


@pytest.fixture(scope="module")
def pages(result):
    return pypdf.PdfReader(io.BytesIO(render_pdf(result))).pages


@needs_browser
def test_the_pages_have_the_text_of_the_report_and_its_charts(result, pages):
    texts = [page.extract_text() for page in pages]
    assert 3 <= len(pages) <= 60
    assert "FAIL" in texts[0] and "<script>alert(1)</script>" in texts[0]
    whole = "\n".join(texts)
    for heading in (
        "What each level of access gives",
        "Members found at each rate",
        "Words in plain English",
    ):
        assert heading in whole
    for number, text in enumerate(texts, 1):
        assert f"{number} / {len(pages)}" in text
    drawn = [page.get_contents().get_data().count(b" l\n") for page in pages]
    for axis in ("(false-positive rate)", "score (members", "predicted probability of membership"):
        lines = [n for n, text in zip(drawn, texts, strict=True) if axis in text]
        assert max(lines, default=0) > 200, f"the curve over {axis} is drawn as lines"


@needs_browser
def test_it_is_a4_with_bookmarks_and_tags(result):
    reader = pypdf.PdfReader(io.BytesIO(render_pdf(result)))
    width, height = (float(side) / 72 * 25.4 for side in reader.pages[0].mediabox[2:])
    assert (width, height) == (pytest.approx(210, abs=1), pytest.approx(297, abs=1))
    assert len(reader.outline) >= 1 and "/StructTreeRoot" in reader.trailer["/Root"]


@needs_browser
def test_it_is_written_beside_a_running_loop_as_in_notebooks(clean, tmp_path):
    async def write() -> None:
        write_format(clean, tmp_path / "report.pdf")

    asyncio.run(write())
    text = pypdf.PdfReader(tmp_path / "report.pdf").pages[0].extract_text()
    assert "PASS" in text


def test_without_a_browser_it_is_one_sentence_and_no_file(clean, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    with pytest.raises(
        InputError, match=r"^Expected Chromium or Chrome to write a PDF, got neither"
    ):
        write_format(clean, tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()


def test_a_browser_that_does_not_start_is_one_sentence(clean, tmp_path, monkeypatch):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin", prepend=None)
    with pytest.raises(
        InputError, match=r"^Expected the browser to print the report, got: "
    ) as told:
        render_pdf(clean)
    assert "\n" not in str(told.value)


def test_without_the_extra_it_is_one_sentence(clean, monkeypatch):
    monkeypatch.setitem(sys.modules, "playwright", None)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(InputError, match=r"Run pip install 'memberscope\[pdf\]'"):
        render_pdf(clean)
