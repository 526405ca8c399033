"""Render `report.html`.

It is one file that works offline, under a content policy that lets nothing else in.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from memberscope._files import write_bytes
from memberscope._html import build_content_policy, read_template
from memberscope.auditing import STRONGEST, Result, hash_ids
from memberscope.auditing.documents import format_level
from memberscope.auditing.verdict import describe_repeats
from memberscope.errors import InputError
from memberscope.reports import select as lookup
from memberscope.reports.citations import list_citations
from memberscope.reports.page.access_matrix import build_matrix, name_omitted_attacks
from memberscope.reports.page.audience_sections import build_sections
from memberscope.reports.page.chart_data import (
    build_budget_curves,
    build_budget_rows,
    build_charts,
    build_group_rows,
)
from memberscope.reports.page.environment import build_environment
from memberscope.reports.page.standards_annex import compose_annex_paragraph, read_standards


def _embed_json(data: Any) -> str:
    """Embed JSON that cannot end the script element it stands in."""
    # NaN is no JSON, and a browser would refuse the whole page for it
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _build_prior_table(result: Result) -> list[dict[str, object]]:
    """Build what the prior's slider needs.

    The strongest attack's TPR with limits at each level and rate.
    """
    return [
        {
            "access": format_level(*level),
            "fpr": entry.fpr,
            "tpr": entry.value,
            "low": entry.low,
            "high": entry.high,
            "attack": entry.reaching_attack,
        }
        for level in lookup.list_levels(result)
        for entry in lookup.select_estimates(result, attack=STRONGEST, level=level, metric="tpr")
    ]


def render_report(result: Result, *, show_ids: bool = False) -> str:
    """Render the report as one HTML text; records by keyed hash, or by id if `show_ids`."""
    # Ids are put back before anything is rendered, so that no place is forgotten
    result = _restore_record_ids(result) if show_ids else result
    from markupsafe import Markup

    blocks = {
        "style": read_template("report.css"),
        "chart_style": read_template("vendor/uPlot.min.css"),
        "chart_script": read_template("vendor/uPlot.iife.min.js"),
        "script": read_template("report.js"),
    }
    environment = build_environment()
    leading = result.diagnostics.leading
    groups = build_group_rows(result, leading) if leading else []
    text = environment.get_template("report.html.j2").render(
        result=result,
        diagnostics=result.diagnostics,
        show_ids=show_ids,
        repeats=describe_repeats(result.environment),
        threat=lookup.describe_threat(result),
        gaps=lookup.group_skipped_attacks(result),
        references=lookup.count_references(result),
        headline=lookup.find_headline(result),
        levels=lookup.list_levels(result),
        fprs=lookup.list_fprs(result),
        prior=result.plan.threat.prior,
        slider=f"{math.log10(result.plan.threat.prior):.4f}",
        strongest=STRONGEST,
        sections=build_sections(result),
        standards=read_standards(),
        paragraph=compose_annex_paragraph(result),
        groups=groups,
        likeness=lookup.describe_references(result),
        between=lookup.summarise_further_targets(result),
        attacks=list(
            dict.fromkeys(
                (e.attack, (e.access, e.restriction))
                for e in result.estimates
                if e.attack != STRONGEST
            )
        ),
        matrix=build_matrix(result),
        outside=name_omitted_attacks(result),
        budget_rows=build_budget_rows(result),
        citations=list_citations(result),
        # Scripts and styles are allowed by their hashes, so nothing else can run
        policy=Markup(
            build_content_policy(
                [blocks["chart_script"], blocks["script"]], [blocks["chart_style"], blocks["style"]]
            )
        ),
        data=Markup(
            _embed_json(
                {
                    "charts": build_charts(result) | {"budgets": build_budget_curves(result)},
                    "priors": _build_prior_table(result),
                    "prior": result.plan.threat.prior,
                }
            )
        ),
        **{name: Markup(block) for name, block in blocks.items()},
    )
    return str(text)


def _restore_record_ids(result: Result) -> Result:
    """Restore the exposed records' own ids in the result.

    Raises:
        InputError: The arrays, which hold the ids, are not there.
    """
    if result.arrays is None:
        raise InputError(
            "Expected arrays.safetensors for --show-ids, got none. Keep it beside result.json."
        )
    names = dict(zip(hash_ids(result.arrays.ids), result.arrays.ids, strict=True))
    shown = [
        replace(entry, record=str(names.get(entry.record, entry.record)))
        for entry in result.exposed
    ]
    # Copies, since results are shared and frozen
    found = result.diagnostics
    if (before := found.vulnerability) is not None:
        most = [
            replace(entry, record=str(names.get(entry.record, entry.record)))
            for entry in before.most
        ]
        found = found.model_copy(update={"vulnerability": replace(before, most=most)})
    return result.model_copy(update={"exposed": shown, "diagnostics": found})


def write_report(result: Result, path: Path, *, show_ids: bool = False) -> None:
    """Write `report.html`, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, render_report(result, show_ids=show_ids).encode())
