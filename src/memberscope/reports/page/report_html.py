"""`report.html`: one file that works offline, under a content policy that lets nothing else in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from memberscope._html import content_policy, template_text
from memberscope._text import number, percent
from memberscope.auditing import STRONGEST, Result, keyed_hashes
from memberscope.auditing.documents.access_levels import level_word
from memberscope.auditing.verdict.repeated_audits import repeats_sentence
from memberscope.errors import InputError
from memberscope.reports import select as lookup
from memberscope.reports.page.access_matrix import matrix, outside
from memberscope.reports.page.audience_sections import sections
from memberscope.reports.page.chart_data import budget_curves, budget_rows, charts, group_rows
from memberscope.reports.page.standards_annex import paragraph, standards
from memberscope.signals import write_bytes


def embedded(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def prior_table(result: Result) -> list[dict[str, Any]]:
    """What the prior's slider needs: the strongest attack's TPR with limits at each level and rate."""
    return [
        {
            "access": level_word(*level),
            "fpr": entry.fpr,
            "tpr": entry.value,
            "low": entry.low,
            "high": entry.high,
            "attack": lookup.reached_by(entry),
        }
        for level in lookup.levels(result)
        for entry in lookup.select(result, attack=STRONGEST, level=level, metric="tpr")
    ]


def render(result: Result, *, show_ids: bool = False) -> str:
    """The report as one HTML text; records by keyed hash, or by id if `show_ids`."""
    result = with_ids(result) if show_ids else result
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    blocks = {
        "style": template_text("report.css"),
        "chart_style": template_text("vendor/uPlot.min.css"),
        "chart_script": template_text("vendor/uPlot.iife.min.js"),
        "script": template_text("report.js"),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "interval": lookup.interval, "reached_by": lookup.reached_by}
    environment.globals |= {"select": lookup.select, "first": lookup.first}
    environment.globals |= {"number": number, "percent": percent, "level_word": level_word}
    leading = result.diagnostics.get("leading")
    groups = group_rows(result, leading) if leading else []
    text = environment.from_string(template_text("report.html.j2")).render(
        result=result,
        diagnostics=result.diagnostics,
        show_ids=show_ids,
        repeats=repeats_sentence(result.environment),
        threat=lookup.threat_words(result),
        gaps=lookup.gaps(result),
        references=lookup.references(result),
        headline=lookup.headline(result),
        levels=lookup.levels(result),
        fprs=lookup.fprs(result),
        prior=result.plan["threat"]["prior"],
        slider=f"{math.log10(result.plan['threat']['prior']):.4f}",
        strongest=STRONGEST,
        sections=sections(result),
        standards=standards(),
        paragraph=paragraph(result),
        groups=groups,
        likeness=lookup.likeness(result),
        between=lookup.between(result),
        attacks=list(dict.fromkeys((e.attack, (e.access, e.restriction)) for e in result.estimates if e.attack != STRONGEST)),
        matrix=matrix(result),
        outside=outside(result),
        budget_rows=budget_rows(result),
        policy=Markup(content_policy([blocks["chart_script"], blocks["script"]], [blocks["chart_style"], blocks["style"]])),
        data=Markup(
            embedded(
                {
                    "charts": charts(result) | {"budgets": budget_curves(result)},
                    "priors": prior_table(result),
                    "prior": result.plan["threat"]["prior"],
                }
            )
        ),
        **{name: Markup(block) for name, block in blocks.items()},
    )
    return str(text)


def with_ids(result: Result) -> Result:
    """The result with the exposed records under their own ids.

    Raises:
        InputError: The arrays, which hold the ids, are not there.
    """
    if result.arrays is None:
        raise InputError("Expected arrays.safetensors for --show-ids, got none. Keep it beside result.json.")
    names = dict(zip(keyed_hashes(result.arrays.ids), result.arrays.ids, strict=True))
    shown = [replace(entry, record=str(names.get(entry.record, entry.record))) for entry in result.exposed]
    found = dict(result.diagnostics)
    if found.get("vulnerability"):
        most = [
            {**entry, "record": str(names.get(entry["record"], entry["record"]))} for entry in found["vulnerability"]["most"]
        ]
        found["vulnerability"] = {**found["vulnerability"], "most": most}
    return result.model_copy(update={"exposed": shown, "diagnostics": found})


def write_report(result: Result, path: Path, *, show_ids: bool = False) -> None:
    """Write `report.html`, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, render(result, show_ids=show_ids).encode())
