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
from memberscope.reports.next_step import Arguments
from memberscope.reports.page.access_matrix import build_matrix
from memberscope.reports.page.access_tables import (
    build_area_table,
    build_budget_table,
    build_ignored_table,
    build_level_table,
    build_rate_table,
    build_unit_table,
)
from memberscope.reports.page.attack_tables import build_attack_tables
from memberscope.reports.page.audience_sections import build_sections
from memberscope.reports.page.chart_data import (
    build_budget_curves,
    build_charts,
    build_group_rows,
)
from memberscope.reports.page.environment import build_environment
from memberscope.reports.page.glossary import read_glossary
from memberscope.reports.page.judged_tables import (
    build_finding_table,
    build_missing_table,
    build_partial_table,
    build_standard_table,
)
from memberscope.reports.page.record_tables import (
    build_annex_groups,
    build_exposed_table,
    build_extraction_table,
    build_group_table,
    build_reference_table,
    build_reliability_table,
    build_target_table,
    build_vulnerable_table,
)
from memberscope.reports.page.standards_annex import compose_annex_paragraph
from memberscope.reports.page.statements import compose_statements, get_audit_date
from memberscope.reports.page.summary import (
    build_longer_table,
    build_summary,
    explain_no_longer_audit,
)
from memberscope.reports.page.table import Table

TOLD = ("date", "longer_audit", "audits_of_this_plan", "seeds_of")  # stand elsewhere on the page


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


def render_report(
    result: Result,
    *,
    show_ids: bool = False,
    arguments: Arguments | None = None,
    out: str = "DIR",
) -> str:
    """Render the report as one HTML text; records by keyed hash, or by id if `show_ids`.

    `arguments` gives what named the model on the command line, and `out` the folder of the audit,
    for the command of the next step.
    """
    # Ids are put back before anything is rendered, so that no place is forgotten
    result = _restore_record_ids(result) if show_ids else result
    from markupsafe import Markup

    blocks = {
        "style": read_template("report.css"),
        "chart_style": read_template("vendor/uPlot.min.css"),
        "chart_script": read_template("vendor/uPlot.iife.min.js"),
        "script": read_template("report.js"),
    }
    charts = build_charts(result) | {"budgets": build_budget_curves(result)}
    headline = lookup.find_headline(result)
    text = (
        build_environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            diagnostics=result.diagnostics,
            date=get_audit_date(result),
            repeats=describe_repeats(result.environment),
            threat=lookup.describe_threat(result),
            references=lookup.count_references(result),
            headline=headline,
            prior=result.plan.threat.prior,
            slider=f"{math.log10(result.plan.threat.prior):.4f}",
            strongest=STRONGEST,
            summary=build_summary(result, arguments, out),
            searches=lookup.list_missing_searches(result),
            no_longer=explain_no_longer_audit(result),
            statements=compose_statements(result),
            sections=build_sections(result),
            paragraph=compose_annex_paragraph(result),
            glossary=read_glossary(result.plan.task),
            words=lookup.select_task_words(result.plan.task),
            citations=list_citations(result),
            tables=_build_tables(result, show_ids=show_ids),
            provenance={k: v for k, v in result.environment.items() if not k.startswith(TOLD)},
            # Scripts and styles are allowed by their hashes, so nothing else can run
            policy=Markup(
                build_content_policy(
                    [blocks["chart_script"], blocks["script"]],
                    [blocks["chart_style"], blocks["style"]],
                )
            ),
            data=Markup(
                _embed_json(
                    {
                        "charts": charts,
                        "priors": _build_prior_table(result),
                        "prior": result.plan.threat.prior,
                        "fpr": None if headline is None else headline.fpr,
                    }
                )
            ),
            **{name: Markup(block) for name, block in blocks.items()},
        )
    )
    return str(text)


def _build_tables(result: Result, *, show_ids: bool) -> dict[str, Table | None]:
    """Build every table of the page by the name that the template knows it by."""
    leading, matrix = result.diagnostics.leading, build_matrix(result)
    groups = build_group_rows(result, leading) if leading else []
    best, transferred = build_attack_tables(result)
    return {
        "findings": build_finding_table(result),
        "missing": build_missing_table(result),
        "partial": build_partial_table(result),
        "longer": build_longer_table(result),
        "levels": build_level_table(result, matrix),
        "areas": build_area_table(matrix),
        "rates": build_rate_table(result),
        "units": build_unit_table(result),
        "ignored": build_ignored_table(result),
        "budgets": build_budget_table(result),
        "attacks": best,
        "transferred": transferred if transferred.rows else None,
        "models": build_reference_table(result),
        "extraction": build_extraction_table(result),
        "targets": build_target_table(result),
        "groups": build_group_table(result, groups) if groups else None,
        "exposed": build_exposed_table(result, show_ids=show_ids) if result.exposed else None,
        "vulnerable": build_vulnerable_table(result, show_ids=show_ids),
        "reliability": build_reliability_table(result),
        "annex": build_annex_groups(result, groups),
        "standards": build_standard_table(),
    }


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


def write_report(
    result: Result,
    path: Path,
    *,
    show_ids: bool = False,
    arguments: Arguments | None = None,
    out: Path | None = None,
) -> None:
    """Write `report.html`, whole or not at all.

    `arguments` and `out` (None: the folder of the report) complete the next command, as in
    `render_report`.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    folder = str(path.parent if out is None else out)
    text = render_report(result, show_ids=show_ids, arguments=arguments, out=folder)
    write_bytes(path, text.encode())
