"""The page of campaigns in a real browser: no scripts, no requests, nothing out of sight."""

from __future__ import annotations

import pytest
from browsers import open_browser

from memberscope.guard.alerting.membership_digest import DIGEST
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.replay.campaigns import Calibration, Day, Replay, Threshold
from memberscope.guard.replay.campaigns_page import write_replay

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"
START, DAY = 1_780_272_000.0, 86400.0


def name(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def busy() -> Replay:
    """Ten days with a boundary walk, one family probed by many, a sweep and digests.

    And hostile names throughout.
    """
    many = tuple(name(n) for n in range(40, 70))
    alarms = [
        Alarm(START + 1.1 * DAY, "boundary", "client", name(1), 31.2, 11.5, 412, (name(1),)),
        Alarm(START + 1.2 * DAY, "probing", "client", name(1), 18.0, 12.0, 1650, (name(1),)),
        Alarm(
            START + 1.25 * DAY, "membership", "pool", DIGEST, 15.0, 5.0, 2000, (name(1), name(90))
        ),
        *(
            Alarm(
                START + 4 * DAY + 900 * n,
                "probing",
                "family",
                str(17 + n),
                14.0 + n,
                12.0,
                240 + n,
                many,
            )
            for n in range(6)
        ),
        Alarm(START + 8.3 * DAY, "coverage", "client", HOSTILE, 44.0, 15.0, 20_000, (HOSTILE,)),
        Alarm(
            START + 8.4 * DAY, "volume", "client", HOSTILE, float("inf"), 15.0, 60_000, (HOSTILE,)
        ),
    ]
    asked = (11_000, 12_500, 9_800, 12_100, 31_000, 12_400, 6_100, 5_900, 71_300, 11_900)
    days = [
        Day(
            START + n * DAY, queries, sum(int((alarm.time - START) // DAY) == n for alarm in alarms)
        )
        for n, queries in enumerate(asked)
    ]
    return Replay.of(
        f"access {HOSTILE}.log",
        alarms,
        start=START,
        end=START + 10 * DAY,
        n_queries=sum(asked),
        n_clients=412,
        n_client_days=2871,
        skipped=3,
        days=tuple(days),
        thresholds=tuple(
            Threshold(detector, scope, 9.5 + n, 0.0002)
            for n, detector in enumerate(("boundary", "probing", "coverage", "volume"))
            for scope in ("client", "pool")
        ),
        calibration=Calibration(
            0.00092,
            0.00047,
            0.00161,
            0.95,
            12_000,
            f"Half of the days of {HOSTILE} set the thresholds.",
        ),
    )


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    write_replay(busy(), folder)
    return folder / "campaigns.html"


@pytest.fixture
def opened(browser, page_file):
    """Opens the page with these settings; whatever it says or asks for fails the test."""
    troubles, requests, contexts = [], [], []

    def make(width=1200, **settings):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri())
        return page

    yield make
    assert troubles == []
    assert set(requests) == {page_file.as_uri()} and len(requests) == len(contexts)
    for context in contexts:
        context.close()


def test_it_starts_with_the_verdict_then_campaigns_then_what_is_invisible_then_calibration(opened):
    page = opened()
    assert (
        page.locator("h1").inner_text() == "3 campaigns, by 32 of 412 clients, in 184,000 queries"
    )
    assert page.locator(".badge").inner_text() == "CAMPAIGNS"
    assert page.locator("h2").all_inner_texts() == [
        "Campaigns",
        "What remains invisible",
        "Day by day",
        "How far to trust the alarms",
        "Alarms",
        "The log",
    ]
    cards = page.locator(".campaign")
    assert cards.count() == 3 and "walk along the boundary" in cards.first.inner_text()
    assert "and 22 more in replay.json" in cards.nth(1).inner_text()
    assert page.locator("table").last.locator("tbody tr").count() == 11
    assert "without bound" in page.locator("table").last.locator("tbody tr").last.inner_text()


def test_hostile_names_are_text_and_nothing_runs(opened):
    page = opened()
    assert (
        HOSTILE in page.locator(".reason").inner_text()
        and HOSTILE in page.locator(".campaign").last.inner_text()
    )
    assert HOSTILE in page.locator("td.who").last.inner_text()
    assert page.locator("script, img, iframe, link, form, object").count() == 0


def test_the_style_is_let_in_and_scripts_are_not(opened):
    page = opened()
    assert page.evaluate("getComputedStyle(document.querySelector('.badge')).borderRadius") == "8px"
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert "default-src 'none'; script-src 'none'; style-src 'sha256-" in policy


def test_the_picture_tells_the_days(opened):
    page = opened()
    assert (
        page.locator("svg.days").bounding_box()["height"] > 100
        and page.locator("svg.days .bar").count() == 10
    )
    heights = [float(bar.get_attribute("height")) for bar in page.locator("svg.days .bar").all()]
    assert heights[8] / heights[0] == pytest.approx(71_300 / 11_000, rel=0.01)
    assert page.locator("svg.days text.alarms").all_text_contents() == ["3", "6", "2"]
    words = page.locator("svg.days").get_attribute("aria-label")
    assert "2026-06-05: 31,000 queries, 6 alarms" in words


@pytest.mark.parametrize("width", [1200, 390])
def test_no_page_scrolls_sideways_and_no_table_is_cut_off_on_a_wide_screen(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert width < 1200 or page.evaluate(wide) == 0
    beyond = "[...document.querySelectorAll('.card *, .invisible *, dd')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    assert page.evaluate(beyond) == 0


CONTRAST = """() => {
  const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 })
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] }
  const under = e => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(b) && b !== 'transparent') return b } return 'rgb(255,255,255)' }
  return [...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest('svg'))
    .map(e => { const a = light(getComputedStyle(e).color), b = light(under(e)); return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.textContent.slice(0, 30)] })
    .filter(found => found[0] < 4.5)
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_contrasts_with_what_is_under_it(opened, scheme):
    page = opened(color_scheme=scheme)
    colours = page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] "
        "})()"
    )
    ink, paper = (sum(map(float, colour.strip("rgb()").split(","))) for colour in colours)
    assert abs(ink - paper) > 450 and (ink < paper) == (scheme == "light")
    assert page.evaluate(CONTRAST) == []


def test_the_page_has_one_of_each_landmark_and_its_tables_have_heads(opened):
    page = opened()
    assert page.locator("main, h1").count() == 2 and page.locator("html[lang=en]").count() == 1
    assert (
        page.locator("table").count()
        == page.locator("table:has(caption):has(thead th[scope=col])").count()
        == 2
    )
    assert page.locator("svg[role=img][aria-label]").count() == page.locator("svg").count() == 1
    ids = "[...document.querySelectorAll('[aria-labelledby]')].every(e => document.getElementById(e.getAttribute('aria-labelledby')))"
    assert page.evaluate(ids)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_it_prints_with_no_column_out_of_sight(opened, tmp_path):
    page = opened(718)
    page.emulate_media(media="print")
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(wide) == 0
    page.pdf(path=tmp_path / "campaigns.pdf")
    assert (tmp_path / "campaigns.pdf").read_bytes()[:5] == b"%PDF-"


def test_a_log_without_campaigns_promises_nothing(browser, tmp_path):
    quiet = Replay.of(
        "access.log", (), start=START, end=START + DAY, n_queries=50, n_clients=3, n_client_days=3
    )
    write_replay(quiet, tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "campaigns.html").as_uri())
    assert (
        page.locator(".badge").inner_text() == "NOTHING SEEN"
        and page.locator("header.pass").count() == 0
    )
    assert (
        "Nothing seen does not mean that nothing happened" in page.locator(".reason").inner_text()
    )
    page.close()
