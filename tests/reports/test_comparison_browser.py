"""The pages of a comparison, of defences and of a collection in a real browser.

At the widths of a phone, a tablet and a desktop, light, dark and in print.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from memberscope.auditing import Plan, Policy, audit_signals, compare, set_test
from memberscope.auditing.defend.frontier import (
    FrontierRow,
    FrontierView,
    Share,
    build_frontier,
)
from memberscope.auditing.documents.policy import Claim
from memberscope.recipes import GROUP
from memberscope.reports import save_set_result, write_comparison_page
from memberscope.reports.frontier import render_frontier
from memberscope.targets import StoredSignals
from memberscope.types import Estimate

HOSTILE = "<script>alert(1)</script>"
LONG = "/srv/models/a-very-long-path-of-a-release/2026-11-30T12-00-00Z/memberscope-out"
WIDTHS = (375, 768, 1280)
# What reaches beyond the window, or beyond what holds it, is cut or makes the page scroll sideways
CUT = """[...document.querySelectorAll('main *, header *')].filter(e => {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    const hidden = e.closest('thead') && style.position !== 'static' || e.closest('details:not([open])');
    return box.width && !hidden && !e.closest('svg') && getComputedStyle(e.closest('table')?.tHead ?? e).position !== 'absolute'
        && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map(e => e.tagName + ' ' + e.innerText?.slice(0, 40))"""


def estimate(value: float, group: str | None = None, attack: str = "lira") -> Estimate:
    """A rate with an interval, reached by an attack."""
    low, high = max(0.0, value - 0.04), min(1.0, value + 0.05)
    return Estimate(
        "strongest",
        "probabilities",
        "tpr",
        value,
        low,
        high,
        0.95,
        "by hand",
        60,
        58,
        1,
        group=group,
        fpr=0.01,
        reached_by=attack,
    )


def defended(name: str, accuracy: float, average: float, worst: float, **more) -> FrontierRow:
    """A row of a sweep with three kinds of inserted records."""
    kinds = ("mislabelled", "out_of_distribution", "near_duplicate")
    return FrontierRow(
        name,
        f"train = Defence({name!r})(recipe)",
        accuracy=Share(accuracy, accuracy - 0.03, accuracy + 0.03, 1350),
        train_accuracy=Share(0.99, 0.98, 1.0, 1350),
        auc=replace(estimate(0.5 + average / 2), metric="auc", fpr=None),
        average=estimate(average),
        label_only=estimate(average / 3, attack="boundary"),
        canaries=[estimate(worst - 0.1 * k, f"{GROUP}={kind}") for k, kind in enumerate(kinds)],
        worst=replace(
            estimate(worst, f"{GROUP}=out_of_distribution", "lira (undefended)"), fpr=0.15
        ),
        unaware_average=estimate(average / 2),
        unaware_worst=estimate(worst - 0.1),
        measured=[{"epsilon": 3.18, "form": "one_run"}, {"epsilon": 5.64, "form": "f_dp"}],
        attacks=["gap", "loss", "lira", "rmia", "boundary", "noise"],
        seconds=12.3,
        **more,
    )


@pytest.fixture(scope="module")
def frontier_file(tmp_path_factory) -> Path:
    rows = [
        defended("none", 0.474, 0.381, 1.0, meets="breaks"),
        defended("l2:0.003", 0.40, 0.312, 0.98, meets="breaks"),
        defended(
            "hamp:0.5:0.01+hamp_output", 0.47, 0.13, 0.97, meets="undecided", lacking=["noise"]
        ),
        defended("distill:1", 0.503, 0.07, 0.85, meets="meets"),
        defended(
            "dpsgd:eps=8+rate:0.05+set:batch_size=256",
            0.313,
            0.033,
            0.58,
            meets="meets",
            proven={"epsilon": 8.0, "delta": 1e-5},
        ),
        defended("top:1", 0.474, 0.42, 1.0, meets="breaks", notes=["A note about it."]),
        FrontierRow("selena:300:10", "x", why_not="Expected at least 600 records for SELENA."),
    ]
    policy = Policy("gate", (Claim(0.01, 0.1),))
    shown = FrontierView(
        np.ones(1, dtype=bool),
        {"a": np.ones(1, dtype=bool)},
        0.01,
        0.15,
        0.95,
        policy,
        0.05,
        7,
        0.17,
    )
    plan = Plan(title=f"Location-30 {HOSTILE}", policy=policy, references=16)
    file = tmp_path_factory.mktemp("frontier") / "frontier.html"
    file.write_text(render_frontier(build_frontier(plan, policy, rows, shown)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def audits():
    """Three releases of one model: the first leaks little, the others more."""
    found = []
    for shift, title in ((0.1, "of May"), (1.2, "of June"), (1.3, "of July")):
        rng = np.random.default_rng(0)
        member, labels = np.arange(1200) < 600, rng.integers(0, 2, 1200)
        outputs = np.eye(2)[labels] * (rng.normal(size=1200) + shift * member)[:, None]
        ids = np.arange(1200).astype(str)
        stored = StoredSignals("logits", outputs, labels, member, ids, digest=str(shift))
        plan = Plan(title=f"Churn model {title}", attacks=("gap", "loss", "logit"))
        found.append(audit_signals(stored, plan=plan))
    return found


@pytest.fixture(scope="module")
def comparison_file(audits, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    write_comparison_page(compare(audits, names=["v1", LONG, "v3"], baseline="first"), path)
    return path


@pytest.fixture(scope="module")
def set_file(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    member, labels = np.arange(600) < 300, rng.integers(0, 2, 600)
    outputs = np.eye(2)[labels] * (rng.normal(size=600) + member)[:, None]
    stored = StoredSignals("logits", outputs, labels, member, np.arange(600).astype(str))
    plan = Plan(title=f"Letters {HOSTILE}", attacks=("gap", "loss"), assume_exchangeable=True)
    found = set_test(audit_signals(stored, plan=plan), questions=("used", "list", "not_used"))
    return save_set_result(found, tmp_path_factory.mktemp("set")) / "set-report.html"


@pytest.fixture(params=["comparison_file", "frontier_file", "set_file"])
def file(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["comparison_file", "frontier_file"])
def pictured_file(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def visit(browser):
    pages = []

    def open_page(path: Path, width: int = 1280, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        troubles: list[str] = []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: troubles.append(request.url))
        page.goto(path.as_uri())
        assert troubles == [path.as_uri()], "the page asks for nothing and complains of nothing"
        return page

    yield open_page
    for page in pages:
        page.close()


def keep_picture(page, path: Path, name: str) -> None:
    """Keep a picture of the page where a folder for them is named, to be looked at."""
    if folder := os.environ.get("MEMBERSCOPE_PICTURES"):
        page.screenshot(path=Path(folder) / f"{path.stem}-{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_at_any_width(visit, file, width, scheme):
    page = visit(file, width, scheme)
    for details in page.locator("details > summary").all():
        details.click()
    keep_picture(page, file, f"{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_of_a_table_has_its_name(visit, file, width):
    """On a narrow screen rows are cards, and each number stands beside the name of its column."""
    page = visit(file, width)
    tables = page.locator("table")
    assert tables.count() >= 2
    heads = page.evaluate(
        """[...document.querySelectorAll('table')].map(t => {
            const names = [...t.tHead.rows[0].cells].map(c => c.textContent.trim());
            return [...t.tBodies[0].rows].every(r => r.cells.length === names.length
                && [...r.cells].every((c, k) => c.tagName === 'TH' || names[k].startsWith(c.dataset.label)));
        })"""
    )
    assert heads and all(heads)
    names_shown = page.evaluate(
        "getComputedStyle(document.querySelector('td'), '::before').content !== 'none'"
    )
    assert names_shown is (width <= 1000)


def test_print_has_every_column_and_no_dark_ground(visit, file, tmp_path):
    page = visit(file, 718, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(CUT) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).position") == "static"
    keep_picture(page, file, "print")
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes()[:5] == b"%PDF-"


@pytest.mark.parametrize("width", [375, 1280])
def test_pictures_name_their_axes_with_units_in_a_size_that_can_be_read(
    visit, pictured_file, width
):
    page = visit(pictured_file, width)
    pictures = page.locator("svg.plot")
    assert pictures.count() == 2
    for picture in pictures.all():
        names = picture.locator(".axis-name").all_text_contents()
        assert len(names) == 2 and all(names)
        assert any("in %" in name or "0.5 is guessing" in name for name in names)
        sizes = picture.evaluate(
            """e => [...e.querySelectorAll('text')].map(t => t.getBoundingClientRect().height)"""
        )
        assert min(sizes) > 9, "letters of at least nine pixels"
        inside = picture.evaluate(
            """e => { const box = e.getBoundingClientRect();
                return [...e.querySelectorAll('text, circle')].every(t => {
                    const own = t.getBoundingClientRect();
                    return own.left >= box.left - 1 && own.right <= box.right + 1
                        && own.top >= box.top - 1 && own.bottom <= box.bottom + 1; }); }"""
        )
        assert inside, "no letter is cut by the edge of the picture"
        ticks = picture.evaluate(
            """e => { const boxes = [...e.querySelectorAll('text:not(.number)')].map(t => t.getBoundingClientRect());
                return boxes.every((a, i) => boxes.every((b, k) => k <= i || a.right <= b.left || b.right <= a.left
                    || a.bottom <= b.top + 3 || b.bottom <= a.top + 3)); }"""
        )
        assert ticks, "no word of an axis lies on another"


def test_titles_stand_in_place_of_folders(visit, comparison_file):
    page = visit(comparison_file)
    assert page.locator("h1").inner_text() == "Churn model of July compared with Churn model of May"
    reason = page.locator(".reason").inner_text()
    assert reason.startswith("Churn model of July leaks more than Churn model of May: ")
    assert LONG not in reason
    small = page.locator("tbody th code").all_inner_texts()
    assert small == ["v1", LONG, "v3"], "folders stand in small print"
    assert page.locator("header .note").inner_text() == "Folders: v3 compared with v1"


def test_equal_titles_leave_the_names(audits, tmp_path, visit):
    named = [entry.model_copy(update={"title": "churn"}) for entry in audits[:2]]
    write_comparison_page(compare(named, names=["may", "july"]), tmp_path / "c.html")
    page = visit(tmp_path / "c.html")
    assert page.locator("h1").inner_text() == "july compared with may"
    assert page.locator("svg.plot").count() == 0, "two releases are no line"


def test_the_first_screen_answers(visit, comparison_file, frontier_file):
    """Verdict, how sure, and what next stand in the first window of a desktop."""
    for path, words in (
        (comparison_file, ["LEAKS MORE", "rose from", "change", "→"]),
        (
            frontier_file,
            [
                "DEFENCES",
                "the most accurate of them is distill:1",
                "Without a defence",
                "Most accurate that meets the policy",
                "a student of public records",
            ],
        ),
    ):
        page = visit(path)
        shown = page.evaluate(
            """[...document.querySelectorAll('header *, .card, .card *')]
                .filter(e => e.getBoundingClientRect().bottom < 900).map(e => e.innerText).join(' ')"""
        )
        for word in words:
            assert word in shown, (path.name, word)


def test_dots_have_the_numbers_of_the_table(visit, frontier_file):
    page = visit(frontier_file)
    rows = page.locator("#s-table ~ table tbody tr").all()
    names = {row.locator("td").first.inner_text(): row.locator("th").inner_text() for row in rows}
    for picture in page.locator("svg.plot").all():
        for dot in picture.locator("g").all():
            number = dot.locator(".number").text_content()
            title = dot.locator("title").text_content()
            assert names[number].splitlines()[0] == title.split(": test accuracy")[0]
    assert page.locator("svg.plot").first.locator("g.good").count() == 2


@pytest.mark.parametrize("name", ["frontier_file", "set_file"])
def test_hostile_titles_are_text(visit, request, name):
    page = visit(request.getfixturevalue(name))
    assert HOSTILE in page.locator("h1").inner_text()
    assert page.locator("script, img").count() == 0


def test_the_keyboard_reaches_the_results_and_opens_what_is_folded(visit, file):
    page = visit(file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    for summary in page.locator("summary").all():
        summary.focus()
        page.keyboard.press("Enter")
        assert summary.evaluate("e => e.parentElement.open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_axe_finds_nothing(visit, file, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(file, width, scheme)
    for summary in page.locator("summary").all():
        summary.click()
    # The page lets no script in, so the checker is brought in past its policy
    found = axe.Axe().run(page).response
    assert [entry["id"] for entry in found["violations"]] == []


def test_headings_go_down_one_step_at_a_time_and_every_section_has_one(visit, file):
    page = visit(file)
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert page.locator("section:not([aria-labelledby])").count() == 0
