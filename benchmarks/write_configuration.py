"""Write docs/configuration.md from the types that read `audit.toml` and policies.

A test says when it is out of date.
"""

from __future__ import annotations

from pathlib import Path

from memberscope.cli.options.reference import render_configuration_page

path = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
path.write_text(render_configuration_page(), encoding="utf-8")
print(f"Written to {path.name}")
