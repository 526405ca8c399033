"""Write the schemas of the documents into schema/ from their types.

A test says when one is out of date.
"""

from __future__ import annotations

import json
from pathlib import Path

from memberscope.guard.replay.campaigns_page import build_campaigns_schema
from memberscope.reports import (
    comparison_schema,
    frontier_schema,
    result_schema,
    set_result_schema,
)

folder = Path(__file__).resolve().parent.parent / "schema"
schemas = {
    "result": result_schema(),
    "comparison": comparison_schema(),
    "frontier": frontier_schema(),
    "set-result": set_result_schema(),
    "campaigns": build_campaigns_schema(),
}
for name, found in schemas.items():
    path = folder / f"{name}.schema.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"Written to {path.name}")
