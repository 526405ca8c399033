"""Make docs/report.png: the first screen of the report of the demo's leaky model.

    python benchmarks/report_picture.py            # writes docs/report.png
    python benchmarks/report_picture.py other.png

It runs `memberscope demo` in a folder of its own. It needs playwright and chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from memberscope.cli.main import run; run()", "demo"]
SCREEN = {"width": 1280, "height": 800}


def take_picture(report: Path, picture: Path) -> None:
    """Take the first screen of a report in light colours."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=SCREEN, color_scheme="light")
        page.goto(report.as_uri())
        page.screenshot(path=picture)
        browser.close()


def main() -> None:
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "report.png"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(COMMAND, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        take_picture(Path(folder) / "demo-out" / "leaky" / "report.html", picture)
    print(f"Written to {picture}")


if __name__ == "__main__":
    main()
