"""The help of a command: options in panels, each with the default that the code uses."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from memberscope.cli.options.rows import COMMON, PREFIX, Row

PRECEDENCE = (
    "Every option can also be set by an environment variable, named "
    f"{PREFIX} and the key of audit.toml in capitals (--query-budget: {PREFIX}QUERY_BUDGET); where "
    "the name differs from the flag's it is shown. A flag goes before its variable, the variable "
    "before audit.toml, audit.toml before the default."
)


class PanelCommand(TyperCommand):
    """A command whose help groups the options by the panels of their rows."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each panel's options."""
        rows: dict[str, Row] = getattr(self.callback, "rows", {})
        verb: str = getattr(self.callback, "verb", "")
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            row = rows.get(param.name or "")
            if record is None:
                continue
            if row is None:
                panel, text = COMMON, record[1]
            else:
                panel = "Arguments" if row.is_argument else row.panel
                text = " ".join([record[1], *_list_remarks(row, verb)])
            panels.setdefault(panel, []).append((record[0], text))
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Say where else the options of a verb with environment variables can be set."""
        if getattr(self.callback, "verb", ""):
            formatter.write_paragraph()
            formatter.write_text(PRECEDENCE)


def _list_remarks(row: Row, verb: str) -> list[str]:
    """List what stands in brackets behind an option: its default, and an unexpected variable."""
    remarks = []
    default = row.describe_default(verb)
    if default and not (row.kind is bool and default == "false"):
        remarks.append(f"[default: {default}]")
    if verb and not row.is_argument and row.flag != f"--{row.name.replace('_', '-')}":
        remarks.append(f"[variable: {row.variable}]")
    return remarks
