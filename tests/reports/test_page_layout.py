"""What readers of the page see: the first screen, lengths, phones, paper, and assistive software.

Pictures of every width, scheme and paper are put into the folder that the environment variable
MEMBERSCOPE_PICTURES names.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from memberscope.reports import write_report

WIDTHS = (375, 768, 1280)
PAPER = 718  # pixels of an A4 page between the margins that browsers take
OPEN_ALL = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"
CLOSED = "document.querySelectorAll('main details:not([open])')"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    named = os.environ.get("MEMBERSCOPE_PICTURES")
    folder = Path(named) if named else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def open_page(browser, page_file):
    """Opens the report, or another one, and closes it after the test."""
    opened = []

    def opening(width=1280, height=800, path=page_file, **more):
        page = browser.new_page(viewport={"width": width, "height": height}, **more)
        page.goto(path.as_uri())
        opened.append(page)
        return page

    yield opening
    for page in opened:
        page.close()


def wait_until(page, expression: str) -> None:
    """Wait for an expression, which the page's policy lets no script evaluate from text."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{expression} did not come true")


def measure_bottom(page, chosen: str) -> float:
    box = page.locator(chosen).bounding_box()
    assert box is not None, chosen
    return box["y"] + box["height"]


def write_variant(result, clean, verdict, folder):
    """The report of a verdict; nothing decided is a failure that is open."""
    if verdict == "INCONCLUSIVE":
        findings = [replace(entry, verdict="INCONCLUSIVE") for entry in result.findings[:1]]
        update = {"verdict": verdict, "findings": [*findings, *result.findings[1:]]}
        result = result.model_copy(update=update)
    path = folder / "report.html"
    write_report(clean if verdict == "PASS" else result, path)
    return path


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_the_first_screen_answers_five_questions(open_page, result, clean, tmp_path, verdict):
    page = open_page(path=write_variant(result, clean, verdict, tmp_path))
    # What is the verdict, how sure, for whom worst, what was not tried, what next
    assert verdict in page.locator(".badge").inner_text()
    labels = [
        "How much an attacker finds",
        "Smallest leak this audit would notice",
        "For whom it is worst",
        "What was not tried",
        "What to do next",
    ]
    for label in labels:
        card = page.locator(".card", has_text=label)
        assert card.count() == 1 and len(card.inner_text()) > len(label) + 20
        box = card.bounding_box()
        assert box["y"] + box["height"] <= 800 and box["x"] + box["width"] <= 1280, label
    assert "memberscope " in page.locator(".command").inner_text()
    assert measure_bottom(page, ".badge") <= 800


def test_a_desktop_page_is_at_most_6000_pixels_tall(open_page):
    assert open_page().evaluate("document.documentElement.scrollHeight") <= 6000


def test_contents_stay_beside_the_page_and_are_folded_on_a_phone(open_page):
    page = open_page()
    links = page.locator(".beside a")
    targets = [link.get_attribute("href") for link in links.all()]
    assert len(targets) > 12 and all(page.locator(target).count() == 1 for target in targets)
    page.mouse.wheel(0, 2500)
    wait_until(page, "scrollY > 2000")
    assert 0 <= page.locator(".beside").bounding_box()["y"] < 40
    assert not page.locator(".narrow").is_visible()
    links.nth(8).click()
    at = f"document.querySelector('{targets[8]}').getBoundingClientRect().top"
    wait_until(page, f"{at} > -5 && {at} < 780")
    phone = open_page(375)
    assert not phone.locator(".beside").is_visible()
    assert not phone.locator(".narrow a").first.is_visible()
    phone.locator(".narrow summary").click()
    assert phone.locator(".narrow a").first.is_visible()


def test_a_phone_shows_results_with_the_names_of_their_columns(open_page):
    page = open_page(375)
    page.evaluate(OPEN_ALL)
    found = page.evaluate(
        """[...document.querySelectorAll('.scroll td')].filter((cell) => cell.textContent.trim())
        .map((cell) => { const box = cell.getBoundingClientRect();
          return [box.left, box.right, cell.dataset.label || '',
                  getComputedStyle(cell, '::before').display]; })"""
    )
    assert len(found) > 100
    assert [entry for entry in found if entry[0] < 0 or entry[1] > 375 or not entry[2]] == []
    # The name of the column stands above each value, but for what spans the row
    assert sum(before == "block" for *_, before in found) > 0.9 * len(found)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    # Read aloud they are tables still
    assert page.get_by_role("table").count() > 5 and page.get_by_role("columnheader").count() > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_of_every_width_and_scheme(open_page, pictures, width, scheme):
    page = open_page(width, color_scheme=scheme)
    page.wait_for_timeout(200)
    picture = pictures / f"report-{width}-{scheme}.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('.figure, .command, h1, .reason')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(cut) == 0


def test_on_paper_everything_is_open_and_nothing_is_cut(open_page, pictures):
    page = open_page(PAPER, color_scheme="dark")
    folded = page.locator("main details:not([open])").count()
    page.emulate_media(media="print")
    assert folded > 5
    wait_until(
        page, f"{CLOSED}.length === 0 && document.querySelectorAll('main canvas').length > 2"
    )
    page.screenshot(path=pictures / "report-print.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    for chart in page.locator("main canvas").all():
        box = chart.bounding_box()
        assert box["x"] + box["width"] <= PAPER and box["width"] > 300
    assert not page.locator(".contents").first.is_visible()
    # A dark screen prints on white paper
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    breaks = "[...document.querySelectorAll('h1, h2, h3, caption, figcaption, summary')].map((e) => getComputedStyle(e).breakAfter)"
    assert set(page.evaluate(breaks)) == {"avoid"}
    page.emulate_media(media="screen")
    wait_until(page, f"{CLOSED}.length === {folded}")


def test_no_heading_is_the_last_line_of_a_printed_page(open_page, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    page = open_page()
    headings = set(page.locator("main h2, main h3").all_inner_texts())
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    sheets = [sheet.extract_text() for sheet in pypdf.PdfReader(tmp_path / "report.pdf").pages]
    lines = [[line.strip() for line in text.splitlines() if line.strip()] for text in sheets]
    assert len(sheets) > 4
    assert [found[-1] for found in lines if found and found[-1] in headings] == []
    printed = " ".join(" ".join(found) for found in lines)
    # What is folded on the screen is on paper
    assert "SHA-256" in printed and "Finding out whether a certain record" in printed


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "opened"), [(1280, False), (1280, True), (375, True)])
def test_axe_finds_nothing_serious(open_page, width, opened, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(width, color_scheme=scheme)
    if opened:
        page.evaluate(OPEN_ALL)
        page.wait_for_timeout(200)
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 20
    told = [
        (entry["id"], entry["nodes"][0]["html"][:120], entry["nodes"][0]["failureSummary"])
        for entry in found["violations"]
        if entry["impact"] in SERIOUS
    ]
    assert told == []


def test_charts_are_told_in_words(open_page):
    page = open_page()
    roc = page.locator("#roc")
    assert roc.get_attribute("role") == "img"
    before = roc.get_attribute("aria-label")
    assert "Members found at 5% false positives" in before
    page.locator("#roc-toggles input").first.uncheck()
    assert roc.get_attribute("aria-label") != before
    words = page.locator("#hist").get_attribute("aria-label")
    page.locator("#hist-attack").select_option(index=2)
    assert "members are at" in words
    assert page.locator("#hist").get_attribute("aria-label") != words


def test_a_folded_chart_is_drawn_when_it_is_opened(open_page):
    page = open_page()
    assert page.locator("#reliability canvas").count() == 0
    page.locator("details:has(#reliability) > summary").click()
    page.locator("#reliability canvas").wait_for()
    assert page.locator("#reliability canvas").bounding_box()["width"] > 400


@pytest.mark.parametrize("width", WIDTHS)
def test_no_option_of_a_command_breaks_between_lines(open_page, width):
    page = open_page(width=width)
    page.evaluate(OPEN_ALL)
    options = page.locator("main .option")
    assert options.count() > 3
    lines = "(words) => words.map((word) => word.getClientRects().length)"
    assert set(options.evaluate_all(lines)) == {1}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A command is copied as it is typed
    command = page.locator(".command").first.inner_text()
    assert command.startswith("memberscope ") and "\n" not in command
