"""Write a section for a model card, with the numbers as `model-index` in its front matter.

The Hub of Hugging Face reads the front matter; the section below it is for people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from memberscope._text import escape_controls
from memberscope.auditing import Result
from memberscope.reports.formats.key_numbers import (
    collect_numbers,
    describe_place,
    list_key_estimates,
    name_number,
)
from memberscope.reports.formats.markdown_parts import (
    build_access_table,
    name_verdict,
    write_controls,
    write_headline,
    write_missing,
    write_worst_group,
)
from memberscope.reports.formats.plain_text import LONGEST, escape_markdown, flatten_text
from memberscope.reports.select import describe_threat
from memberscope.reports.waived_findings import explain_waiver, list_waived_findings

Yaml = str | float | int | bool | Mapping[str, "Yaml"] | Sequence["Yaml"]
# Characters that YAML forbids, even in quotes
UNPRINTABLE = re.compile("[\ufffe\uffff]")


def render_model_card(result: Result) -> str:
    """Render front matter and section; both can be copied into a card that is there."""
    front = format_yaml({"tags": ["membership-inference"], "model-index": [_build_index(result)]})
    return f"---\n{front}---\n\n{_write_section(result)}"


def _build_index(result: Result) -> Yaml:
    """Build the entry of `model-index`: one metric for each number, with its interval."""
    found = result.diagnostics
    metrics: list[Yaml] = [
        {
            "type": entry.metric,
            "name": flatten_text(f"{name_number(entry)} ({describe_place(entry)})"),
            "value": entry.value,
            "args": {
                name: flatten_text(value) if isinstance(value, str) else value
                for name, value in collect_numbers(entry).items()
                if name not in ("metric", "value")
            },
        }
        for entry in list_key_estimates(result)
    ]
    return {
        "name": flatten_text(result.title, 120),
        "results": [
            {
                "task": {"type": "membership-inference", "name": "Membership inference audit"},
                "dataset": {
                    "type": "audit-records",
                    "name": f"{found.n_members} training records and {found.n_non_members} others",
                },
                "metrics": metrics,
            }
        ]
        if metrics
        else [],
    }


def _write_section(result: Result) -> str:
    """Write the section: the verdict, what was measured against whom, and what was not."""
    policy = result.plan.policy
    facts = {
        "Verdict": name_verdict(result)
        + ("" if policy is None else f", by the policy {escape_markdown(policy.name, 80)}"),
        "Threat model": escape_markdown(describe_threat(result), 2 * LONGEST),
        "Waived": "; ".join(
            f"{escape_markdown(entry.claim)} {escape_markdown(explain_waiver(entry))}"
            for entry in list_waived_findings(result)
        ),
        "Worst group": write_worst_group(result),
        "The audit's own checks": write_controls(result),
        "Attacks not run": write_missing(result),
    }
    lines = [
        "## Membership inference",
        "",
        "Can somebody who asks this model find out that a record was in its training data?",
        write_headline(result),
        "",
        *(f"- {name}: {words}" for name, words in facts.items() if words),
        "",
        *build_access_table(result),
        "",
        "The intervals hold for all attacks at once. This is evidence about the attacks that ran, on "
        "this model and these records; stronger attacks may exist. Audited with memberscope "
        f"{escape_markdown(result.tool.version, 40)}.",
    ]
    return "\n".join(lines) + "\n"


def format_yaml(value: Yaml, indent: int = 0) -> str:
    """Format values as YAML in blocks; keys are plain words, texts stand in double quotes.

    >>> print(format_yaml({"name": "m", "rates": [1e-05, 0.5]}), end="")
    name: "m"
    rates:
    - 1.0e-05
    - 0.5
    """
    pad = " " * indent
    if value and isinstance(value, Mapping):
        return "".join(f"{pad}{key}:{_format_below(part, indent)}" for key, part in value.items())
    if value and isinstance(value, Sequence) and not isinstance(value, str):
        # The first line of an entry stands behind its dash
        entries = (format_yaml(entry, indent + 2).lstrip(" ") for entry in value)
        return "".join(f"{pad}- {entry}" for entry in entries)
    return f"{pad}{_format_scalar(value)}\n"


def _format_below(value: Yaml, indent: int) -> str:
    """Format what belongs to a key: behind it, or in the lines below."""
    if value and isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return "\n" + format_yaml(value, indent + 2 if isinstance(value, Mapping) else indent)
    return f" {_format_scalar(value)}\n"


def _format_scalar(value: Yaml) -> str:
    r"""Format a single value, or nothing, so that every YAML reader takes it for what it is.

    >>> _format_scalar("a: #b\ufffe"), _format_scalar(True), _format_scalar(2e-07)
    ('"a: #b�"', 'true', '2.0e-07')
    """
    if isinstance(value, str):
        # JSON's quotes are YAML's, but for characters that it would write as they are
        return json.dumps(UNPRINTABLE.sub("\ufffd", escape_controls(value)), ensure_ascii=False)
    if isinstance(value, float) and "e" in (text := repr(value)):
        # Without a point older readers take it for a text
        number, _, power = text.partition("e")
        return f"{number if '.' in number else f'{number}.0'}e{power}"
    return json.dumps(value)
