"""Write schema/result.schema.json from the result's types; a test says when it is out of date."""

from __future__ import annotations

import json
from pathlib import Path

from memberscope.reports import schema

path = Path(__file__).resolve().parent.parent / "schema" / "result.schema.json"
path.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
print(f"Written to {path.name}")
