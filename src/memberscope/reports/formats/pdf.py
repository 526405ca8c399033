"""Print the page of the report as a PDF, by a browser that is installed.

The charts are drawn by the page's own script, so only a browser can print them.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from memberscope.auditing import Result
from memberscope.errors import InputError
from memberscope.reports.page.report_html import render_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

PROGRAMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
)
# Where these are installed outside the search path, as on macOS and Windows
CHANNELS = ("chrome", "msedge")
# Nothing but the page is loaded, and nothing is sent
ARGUMENTS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDTH, HEIGHT = 718, 1000  # pixels between the margins of a page of A4
MARGIN = "10mm"
FOOT = (
    '<div style="width:100%;font-size:8px;text-align:center">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)
# Folded parts cannot be opened on paper
OPEN_FOLDS = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"


def render_pdf(result: Result, *, show_ids: bool = False) -> bytes:
    """Render the report as a PDF of A4 pages, with charts, page numbers and bookmarks.

    Records are named by keyed hashes, or by their ids if `show_ids`.

    Raises:
        InputError: The extra `pdf` or a browser is missing, or the browser failed.
    """
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Expected the extra pdf to write a PDF, got none. Run pip install 'memberscope[pdf]'."
        ) from error
    page = render_report(result, show_ids=show_ids)
    # In a thread of its own, since notebooks run a loop in theirs, beside which it would not start
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_print_page, page).result()


def _print_page(text: str) -> bytes:
    """Print the text of a page."""
    from playwright.sync_api import Error, sync_playwright

    try:
        with sync_playwright() as driver:
            browser = _open_browser(driver)
            try:
                context = browser.new_context(
                    offline=True,
                    color_scheme="light",
                    viewport={"width": WIDTH, "height": HEIGHT},
                )
                page = context.new_page()
                page.emulate_media(media="print")
                page.set_content(text, wait_until="load")
                page.evaluate(OPEN_FOLDS)
                return page.pdf(
                    format="A4",
                    margin={"left": MARGIN, "right": MARGIN, "top": MARGIN, "bottom": "15mm"},
                    print_background=True,
                    display_header_footer=True,
                    header_template="<span></span>",
                    footer_template=FOOT,
                    outline=True,
                    tagged=True,
                )
            finally:
                browser.close()
    except Error as error:
        said = next(iter(str(error).splitlines()), "no reason")
        raise InputError(
            f"Expected the browser to print the report, got: {said}. Print report.html by hand."
        ) from error


def _open_browser(driver: Playwright) -> Browser:
    """Open the first browser that is there and starts.

    Raises:
        InputError: There is none.
    """
    from playwright.sync_api import Error

    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is not None:
        return driver.chromium.launch(executable_path=found, args=ARGUMENTS)
    for channel in (*CHANNELS, None):
        try:
            return driver.chromium.launch(channel=channel, args=ARGUMENTS)
        except Error:
            continue
    raise InputError(
        "Expected Chromium or Chrome to write a PDF, got neither. Install one, or run `playwright "
        "install chromium`."
    )
