"""The page over past audits in a real browser, from a folder and from a real server."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import timedelta

import pytest
from commands import COMMAND
from past_audits import START, make_past_audit, make_past_number, write_many

from memberscope.reports import write_all
from memberscope.reports.history import (
    append_audit,
    digest_file,
    shorten_report_path,
    summarise_audit,
    write_bundle,
)

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def history(result, tmp_path_factory):
    """Twelve audits of one model, two under one name, one with a report, and a comparison."""
    folder = tmp_path_factory.mktemp("project")
    file = folder / ".memberscope" / "history.sqlite"
    for number in range(12):
        append_audit(file, make_past_audit(number))
    for number in range(2):
        digests = {"model": f"x{number}", "records": f"y{number}"}
        append_audit(
            file, make_past_audit(20 + number, model="reused", title="reused", digests=digests)
        )
    change = make_past_number("probabilities", "tpr", 0.1, low=-0.02)
    append_audit(
        file,
        make_past_audit(
            25, kind="comparison", title="v1 → v2", verdict="LEAKS_MORE", numbers=(change,),
            worst=None, controls={}, digests={},
        ),
    )  # fmt: skip
    write_all(result, folder / "out")
    append_audit(
        file,
        summarise_audit(
            result,
            time=START + timedelta(days=30),
            report=shorten_report_path(folder / "out" / "report.html", file),
            digest=digest_file(folder / "out" / "result.json"),
        ),
    )
    group = make_past_number("label", "tpr", 0.5, group=HOSTILE)
    append_audit(file, make_past_audit(31, model=HOSTILE, title=HOSTILE, worst=group))
    return file


@pytest.fixture(scope="module")
def bundle(history, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    write_bundle(history, folder)
    return folder


class Visit:
    """A page that is open, and what the browser complained of or asked for."""

    def __init__(self, browser, url, **context):
        self.page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **context})
        self.troubles, self.requests = [], []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.troubles.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)


@pytest.fixture
def page(browser, bundle):
    url = (bundle / "index.html").as_uri()
    visit = Visit(browser, url)
    yield visit.page
    assert visit.troubles == []
    assert [asked for asked in visit.requests if not asked.startswith("data:")][:1] == [url]
    assert all(asked.startswith((bundle.as_uri(), "data:")) for asked in visit.requests)
    visit.page.close()


def count_rows(page) -> int:
    return page.locator("#rows tr").count()


def picture(page) -> str:
    page.wait_for_timeout(150)
    return page.evaluate("document.querySelector('#trends canvas')?.toDataURL()")


def test_every_model_has_a_trend_and_every_audit_a_row(page):
    assert count_rows(page) == 17
    assert page.locator("#trends canvas").count() == 3 and page.locator("#trends h3").count() == 4
    names = page.locator("#trends h3").all_inner_texts()
    assert names[0] == HOSTILE and {"reused", "fraud"} <= set(names)
    assert page.locator("main script, main img").count() == 0
    first = page.locator("#rows tr").first
    assert HOSTILE in first.inner_text() and "2026-02-01 12:00" in first.inner_text()
    change = page.locator("#rows tr", has_text="v1 → v2").inner_text()
    assert "LEAKS MORE" in change and "+10 (-2 to +15) points at 1%" in change


def test_the_trend_shows_each_value_and_its_interval(page):
    page.locator("#model").select_option(label="fraud")
    chart = page.locator("#trends .chart")
    assert chart.count() == 1
    described = chart.get_attribute("aria-label")
    assert described.startswith("members found at 1% false positives, fraud: ")
    assert "label last 6.5% (1.5% to 11.5%)" in described
    assert "probabilities last 13% (8% to 18%)" in described
    assert page.locator(".keys li").all_inner_texts() == ["label", "probabilities"]
    before = picture(page)
    # Something is drawn in each line's colour
    colours = page.evaluate(
        "(() => { const c = document.querySelector('#trends canvas'); const d = "
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const s = new Set(); for "
        "(let i = 0; i < d.length; i += 4) s.add(d[i] + ',' + d[i + 1] + ',' + d[i + 2]); return "
        "[...s]; })()"
    )
    assert {"31,119,180", "217,95,2"} <= set(colours)
    page.locator("#number").select_option(label="AUC")
    assert "probabilities last 0.630 (0.580 to 0.680)" in chart.get_attribute("aria-label")
    assert picture(page) != before
    page.locator("#level").select_option("label")
    assert page.locator(".keys li").all_inner_texts() == ["label"]


def test_hovering_tells_an_audit(page):
    page.locator("#model").select_option(label="fraud")
    page.locator("#trends .u-over").scroll_into_view_if_needed()
    box = page.locator("#trends .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
    page.wait_for_timeout(150)
    said = page.locator("#trends .hover").inner_text()
    assert said.startswith("2026-01-12, fraud: label 6.5% (1.5% to 11.5%); probabilities 13%")


def test_audits_of_one_day_stand_beside_one_another_with_their_time(browser, tmp_path):
    file = tmp_path / "h.sqlite"
    minutes = [0, 1, 2, 300]
    for number, minute in enumerate(minutes):
        append_audit(file, make_past_audit(number, time=START + timedelta(minutes=minute)))
    write_bundle(file, tmp_path / "bundle")
    visit = Visit(browser, (tmp_path / "bundle" / "index.html").as_uri())
    plot = visit.page.locator("#trends .u-over")
    plot.scroll_into_view_if_needed()
    box, said = plot.bounding_box(), []
    for place in range(len(minutes)):
        at = box["x"] + (place + 0.5) / len(minutes) * box["width"]
        visit.page.mouse.move(at, box["y"] + box["height"] / 2)
        visit.page.wait_for_timeout(150)
        said.append(visit.page.locator("#trends .hover").inner_text().split(",")[0])
    times = ["12:00", "12:01", "12:02", "17:00"]
    assert said == [f"2026-01-01 {time}" for time in times]
    assert visit.troubles == []
    visit.page.close()


def test_filters_by_model_verdict_and_date(page):
    page.locator("#verdict").select_option("FAIL")
    failed = count_rows(page)
    assert 0 < failed < 17
    assert set(page.locator("#rows .tag").all_inner_texts()) == {"FAIL"}
    page.locator("#model").select_option(label="fraud")
    assert 0 < count_rows(page) < failed
    page.locator("#verdict").select_option("")
    assert count_rows(page) == 13
    page.locator("#from").fill("2026-01-03")
    page.locator("#to").fill("2026-01-04")
    assert count_rows(page) == 2
    assert page.locator("#count").inner_text() == "2 of 17 audits and comparisons."
    page.locator("#to").fill("2025-01-01")
    assert count_rows(page) == 0 and page.locator("#trends canvas").count() == 0


def test_another_model_under_the_same_name_is_another_line(page):
    assert "'reused' stands for 2 different models" in page.locator("#main ul").first.inner_text()
    page.locator("#model").select_option(label="reused")
    assert page.locator(".keys li").all_inner_texts() == [
        "label, series 1", "probabilities, series 1", "label, series 2", "probabilities, series 2",
    ]  # fmt: skip
    assert "series 2" in page.locator("#rows tr").first.inner_text()
    page.locator("#model").select_option(label="fraud")
    assert "other model than before" in page.locator("#rows tr").nth(1).inner_text()


def test_a_report_is_opened_by_keyboard(page):
    page.locator("#rows a").focus()
    assert page.locator("#rows a").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/reports/16\.html$"))
    assert "FAIL" in page.locator(".badge").first.inner_text()


def test_the_keyboard_reaches_the_choices(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    wanted = ["model", "verdict", "from", "to", "number", "level"]
    assert [name for name in dict.fromkeys(reached) if name in wanted] == wanted


@pytest.mark.parametrize("width", [375, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_out_of_sight_on_any_screen(browser, bundle, width, scheme):
    visit = Visit(
        browser,
        (bundle / "index.html").as_uri(),
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    )
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    for cell in visit.page.locator("#rows tr").nth(3).locator("td, th").all():
        box = cell.bounding_box()
        assert box is None or box["x"] + box["width"] <= width
    ink, paper = visit.page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; })()"
    )
    bright = [sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3 for colour in (ink, paper)]
    assert abs(bright[0] - bright[1]) > 150 and (bright[0] > bright[1]) == (scheme == "dark")
    assert visit.troubles == []
    visit.page.close()


def test_on_a_phone_each_number_has_its_name(browser, bundle):
    visit = Visit(browser, (bundle / "index.html").as_uri(), viewport={"width": 375, "height": 800})
    label = visit.page.evaluate(
        "getComputedStyle(document.querySelector('#rows td.figures'), '::before').content"
    )
    assert "members found" in label
    visit.page.close()


def test_without_script_the_newest_audits_are_listed(browser, bundle):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((bundle / "index.html").as_uri())
    assert count_rows(page) == 17
    first = page.locator("#rows tr").nth(4).inner_text()
    assert "12% (7% to 17%) at 1%" in page.locator("#rows").inner_text() and "fraud" not in first
    assert not page.locator("#trends").is_visible() and not page.locator("#model").is_visible()
    context.close()


def test_ten_thousand_audits_are_shown_a_hundred_at_a_time(browser, tmp_path):
    file = tmp_path / "h.sqlite"
    write_many(file, 10_000)
    write_bundle(file, tmp_path / "bundle")
    visit = Visit(browser, (tmp_path / "bundle" / "index.html").as_uri())
    assert count_rows(visit.page) == 100
    visit.page.locator("#more").click()
    assert count_rows(visit.page) == 200
    assert "10000 of 10000 audits" in visit.page.locator("#count").inner_text()
    assert visit.page.locator("#trends canvas").count() == 6
    assert (
        "6 models audited last are drawn, of 10" in visit.page.locator("#trend-note").inner_text()
    )
    assert visit.troubles == []
    visit.page.close()


def test_the_server_shows_the_same_page_and_its_reports(browser, history):
    process = subprocess.Popen(
        [*COMMAND, "view", "--port", "0"],
        cwd=history.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        url = re.search(r"http://\S+/", process.stdout.readline())[0]
        visit = Visit(browser, url)
        assert count_rows(visit.page) == 17 and visit.page.locator("#trends canvas").count() == 3
        visit.page.locator("#rows a").click()
        visit.page.wait_for_url(f"{url}reports/16.html")
        # The charts of the report are drawn under the server's policy too
        assert visit.page.locator("#roc canvas").count() == 1
        assert visit.troubles == []
        assert all(asked.startswith((url, "data:")) for asked in visit.requests)
        visit.page.close()
    finally:
        process.kill()
        process.communicate()
