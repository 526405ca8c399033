"""The report in a real browser: no errors, no requests, no policy violations.

Everything works by keyboard.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from memberscope.auditing import compare
from memberscope.reports import write_comparison_page, write_report
from memberscope.reports.page.chart_data import build_charts

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def page(browser, page_file):
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    troubles, requests = [], []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(page_file.as_uri())
    yield opened
    assert troubles == []
    assert requests == [page_file.as_uri()]
    opened.close()


def picture(page, chart: str) -> str:
    page.wait_for_timeout(150)
    return page.evaluate(f"document.querySelector('{chart} canvas').toDataURL()")


def test_charts_are_drawn_and_nothing_else_is_asked_for(page):
    page.locator("details:has(#reliability) > summary").click()
    page.locator("#reliability canvas").wait_for()
    for chart in ("#roc", "#hist", "#reliability"):
        assert page.locator(f"{chart} canvas").count() == 1
        assert page.locator(f"{chart} canvas").bounding_box()["height"] > 200


def test_attacks_toggle_by_keyboard(page, result):
    boxes = page.locator("#roc-toggles input")
    drawn = len(build_charts(result)["roc"]["curves"])
    assert boxes.count() == drawn > 10
    assert [boxes.nth(i).is_checked() for i in range(4)] == [True, True, True, False]
    before = picture(page, "#roc")
    boxes.nth(3).focus()
    page.keyboard.press("Space")
    assert boxes.nth(3).is_checked() and picture(page, "#roc") != before
    page.keyboard.press("Space")
    assert picture(page, "#roc") == before


def test_the_priors_slider_moves_the_precision_by_bayes_rule(page):
    def last_row() -> tuple[str, ...]:
        return tuple(page.locator("#prior-rows tr").last.locator("th, td").all_inner_texts())

    before = last_row()
    page.locator("#prior").focus()
    page.keyboard.press("End")
    after = last_row()
    assert before[:2] == after[:2] and before[2] != after[2]
    row = page.evaluate(
        "(() => { const d = JSON.parse(document.getElementById('data').textContent);"
        " return d.priors.filter((row) => row.fpr === d.fpr).at(-1); })()"
    )
    prior = 10 ** float(page.locator("#prior").input_value())
    assert prior > 0.9
    exact = 100 * prior * row["tpr"] / (prior * row["tpr"] + (1 - prior) * row["fpr"])
    shown = float(after[2].split("%")[0])
    assert shown == pytest.approx(exact, abs=0.06)
    # Whoever hears the page is told, too
    assert f"{after[2].split('%')[0]}%" in page.locator("#prior-said").inner_text()


def test_the_prior_starts_where_the_threat_model_puts_it(browser, result, tmp_path):
    plan = result.plan.model_copy(update={"threat": replace(result.plan.threat, prior=0.1)})
    write_report(result.model_copy(update={"plan": plan}), tmp_path / "report.html")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("#prior-value").inner_text() == "10%"
    assert float(page.locator("#prior").input_value()) == pytest.approx(-1)
    page.close()


@pytest.mark.parametrize("medium", ["screen", "print"])
def test_no_column_of_the_long_tables_is_out_of_sight(browser, page_file, medium):
    page = browser.new_page(viewport={"width": 1200 if medium == "screen" else 718, "height": 900})
    page.emulate_media(media=medium)
    page.goto(page_file.as_uri())
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText.slice(0, 40))"
    assert page.evaluate(wide) == []
    page.close()


def test_in_print_every_curve_still_has_its_name(page):
    page.emulate_media(media="print")
    shown = [box for box in page.locator("#roc-toggles label").all() if box.is_visible()]
    assert len(shown) == page.locator("#roc-toggles input:checked").count() > 0
    assert page.locator("#hist-attack").is_visible()


def test_another_attacks_histogram(page):
    before = picture(page, "#hist")
    page.locator("#hist-attack").select_option(index=5)
    assert picture(page, "#hist") != before
    assert page.locator("#hist canvas").count() == 1


def test_hovering_tells_values(page):
    page.locator("#roc").scroll_into_view_if_needed()
    box = page.locator("#roc .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(150)
    assert "false positives:" in page.locator("#roc-hover").inner_text()


FOCUSABLE = "a[href], summary, input, select, button, [tabindex='0']"
SEEN = (
    f'[...document.querySelectorAll("{FOCUSABLE}")]'
    ".filter((e) => e.checkVisibility({ visibilityProperty: true }))"
)


def test_keyboard_reaches_every_control(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    wanted = page.evaluate(f"{SEEN}.map((e, i) => {{ e.dataset.stop = i; return i; }})")
    reached = set()
    for _ in range(len(wanted) + 5):
        reached.add(page.evaluate("document.activeElement.dataset.stop"))
        page.keyboard.press("Tab")
    assert {str(i) for i in wanted} <= reached and len(wanted) > 30


def test_the_skip_link_leads_past_the_contents(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_hostile_names_are_shown_as_text(page):
    assert "<script>alert(1)</script>" in page.locator("h1").inner_text()
    assert page.locator("main script, main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_the_page_in_both_schemes(browser, page_file, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(page_file.as_uri())
    colours = page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; "
        "})()"
    )
    ink, paper = (
        sum(float(v) for v in colour.strip("rgba()").split(",")[:3]) / 3 for colour in colours
    )
    assert abs(ink - paper) > 150 and (ink > paper) == (scheme == "dark")
    page.close()


def test_narrow_screens_do_not_scroll_sideways(browser, page_file):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_it_prints(browser, page_file, tmp_path):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes()[:5] == b"%PDF-" and (
        tmp_path / "report.pdf"
    ).stat().st_size > 50_000
    page.close()


def test_without_script_the_tables_still_tell_everything(browser, page_file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert "FAIL" in page.locator(".badge").inner_text()
    assert page.locator("table").count() >= 6
    context.close()


@pytest.fixture(scope="module")
def comparison_file(result, clean, tmp_path_factory):
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    other = result.model_copy(update={"title": "another"})
    write_comparison_page(compare([clean, result, other], names=["v1", HOSTILE, "v3"]), path)
    return path


@pytest.mark.parametrize("width", [1200, 390])
def test_a_comparison_is_still_and_whole(browser, comparison_file, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    troubles, requests = [], []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(comparison_file.as_uri())
    assert page.locator("svg.trend").first.bounding_box()["height"] > 100
    assert HOSTILE in page.locator("h1").inner_text() and page.locator("script, img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.badge')).borderRadius") == "8px"
    ), "the style is let in"
    assert (troubles, requests) == ([], [comparison_file.as_uri()])
    page.close()
