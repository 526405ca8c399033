"""Write a CycloneDX 1.6 bill of materials with the audited model and its measured leakage.

References:
    [1] OWASP, "CycloneDX Bill of Materials Specification" (ECMA-424), version 1.6, 2024.
"""

from __future__ import annotations

import hashlib
import json
import uuid

from memberscope.auditing import Result
from memberscope.reports.files.result_json import format_result_json
from memberscope.reports.formats.key_numbers import (
    collect_numbers,
    describe_place,
    list_key_estimates,
    name_number,
)
from memberscope.reports.formats.markdown_parts import name_verdict
from memberscope.reports.formats.plain_text import LONGEST, flatten_text
from memberscope.reports.formats.rules import (
    list_open_findings,
)
from memberscope.reports.select import describe_threat, group_skipped_attacks
from memberscope.reports.waived_findings import (
    advise_on_finding,
    list_waived_findings,
    name_outcome,
)

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
REFERENCE = "model"
MOST_FINDINGS = 100
LIMITATION = (
    "The numbers are evidence about the attacks that ran, on this model and these records; stronger "
    "attacks may exist."
)


def render_cyclonedx(result: Result) -> str:
    """Render the bill: one component for the model, whose card has a metric for each number.

    The serial number follows from the result, so that the same result gives the same file.
    """
    content = format_result_json(result).encode(errors="surrogatepass")
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"memberscope:{hashlib.sha256(content).hexdigest()}")
    bill = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": result.tool.name,
                        "version": flatten_text(result.tool.version, 80),
                    }
                ]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "audited",
                "name": _name_model(result),
            },
        },
        "components": [_build_component(result)],
    }
    return json.dumps(bill, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _name_model(result: Result) -> str:
    """Name the model by the title of the audit."""
    return flatten_text(result.title, 200) or "model"


def _build_component(result: Result) -> dict[str, object]:
    """Build the component of the model."""
    said = {
        "verdict": name_verdict(result),
        "reason": flatten_text(result.reason, 4 * LONGEST),
        "policy": "none" if result.plan.policy is None else flatten_text(result.plan.policy.name),
        "n_members": str(result.diagnostics.n_members),
        "n_non_members": str(result.diagnostics.n_non_members),
        # Hashes of what the model computes, which need not be those of its file
        **{f"digest:{name}": flatten_text(value) for name, value in result.digests.items()},
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": REFERENCE,
        "name": _name_model(result),
        "modelCard": {
            "quantitativeAnalysis": {"performanceMetrics": _build_metrics(result)},
            "considerations": _build_considerations(result),
        },
        "properties": [
            {"name": f"memberscope:{name}", "value": value} for name, value in said.items()
        ],
    }


def _build_metrics(result: Result) -> list[dict[str, object]]:
    """Build one metric for each number, with its interval, and what it holds for as its slice."""
    found: list[dict[str, object]] = []
    for entry in list_key_estimates(result):
        numbers = collect_numbers(entry)
        limits = {
            name: str(numbers[limit])
            for name, limit in (("lowerBound", "low"), ("upperBound", "high"))
            if limit in numbers
        }
        found.append(
            {
                "type": flatten_text(f"membership inference: {name_number(entry)}"),
                "value": str(entry.value),
                "slice": flatten_text(
                    f"{describe_place(entry)}; {entry.n_members} members, {entry.n_non_members} "
                    f"non-members; {100 * entry.confidence:g}% interval"
                ),
                "confidenceInterval": limits,
            }
        )
    return found


def _build_considerations(result: Result) -> dict[str, object]:
    """Build what a reader must consider: limits of the audit, and what to do about findings."""
    missing = [
        flatten_text(f"Not run: {names} ({access}): {why}")
        for names, access, why in group_skipped_attacks(result)
    ]
    return {
        "technicalLimitations": [
            LIMITATION,
            flatten_text(describe_threat(result), 2 * LONGEST),
            *missing[:MOST_FINDINGS],
        ],
        "ethicalConsiderations": [
            {
                "name": flatten_text(f"{name_outcome(finding)}: {finding.claim}"),
                "mitigationStrategy": flatten_text(advise_on_finding(finding, result)),
            }
            for finding in [*list_open_findings(result), *list_waived_findings(result)][
                :MOST_FINDINGS
            ]
        ],
    }
