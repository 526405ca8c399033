"""The report of 100,000 members and 100,000 non-members in a real browser, beside its aims.

Size of the file, seconds until everything is drawn, height on a desktop, and errors on the console.
The seconds are the shortest of five loads. It needs playwright and chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from aims import judge
from memberscope.auditing import Plan, Result, audit_subject, load_policy, make_signals_subject
from memberscope.reports import write_report
from memberscope.types import Access, ThreatModel
from scale import N, signals

LOADS = 5
WIDTH, HEIGHT = 1280, 800
AIM_BYTES, AIM_SECONDS, AIM_HEIGHT = 2.0, 2.0, 6000.0  # in MB, seconds and pixels
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass(frozen=True)
class Load:
    """What one load of the page showed: seconds, pixels and what the console said."""

    seconds: float
    height: float
    errors: tuple[str, ...]


def audit_stored_signals(n: int = N) -> Result:
    """Audit the signals of `benchmarks/scale.py`, with a policy so that every section is there."""
    subject = replace(make_signals_subject(signals(n)), features=None)
    threat = ThreatModel(access=Access.PROBABILITIES)
    plan = Plan(threat=threat, assume_exchangeable=True, policy=load_policy("standard"))
    return audit_subject(plan, subject)


def load_page(path: Path) -> list[Load]:
    """Load a page several times in a new tab each."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(LOADS):
            page, errors = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}), []
            page.on("console", lambda message, errors=errors: errors.append(message.text))
            page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            started = time.perf_counter()
            page.goto(path.as_uri())
            page.evaluate(DRAWN)
            seconds = time.perf_counter() - started
            height = page.evaluate("document.documentElement.scrollHeight")
            found.append(Load(seconds, height, tuple(errors)))
            page.close()
        browser.close()
    return found


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else N
    result = audit_stored_signals(n)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        started = time.process_time()
        write_report(result, path)
        print(
            f"{n} + {n} records, {len(result.estimates)} estimates; written in "
            f"{time.process_time() - started:.1f} s of processor"
        )
        loads = load_page(path)
        size = path.stat().st_size / 1e6
    seconds, height = min(load.seconds for load in loads), loads[0].height
    print(f"  size: {size:.2f} MB {judge('size', size, 'MB', at_most=AIM_BYTES)}")
    print(f"  drawn: {seconds:.2f} s {judge('drawn', seconds, 's', at_most=AIM_SECONDS)}")
    words = judge("height", height, "px", at_most=AIM_HEIGHT)
    print(f"  height at {WIDTH} px: {height:.0f} px {words}")
    errors = sorted({error for load in loads for error in load.errors})
    print(f"  console errors: {len(errors)} {judge('console errors', len(errors), at_most=0)}")
    for error in errors:
        print(f"    {error}")


if __name__ == "__main__":
    main()
