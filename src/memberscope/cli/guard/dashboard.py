"""`memberscope guard dashboard`: the Grafana dashboard and the alert rules, as files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from memberscope.errors import InputError

NAMES = ("dashboard.json", "rules.yml")


def write_dashboard(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("memberscope-grafana"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that were changed.")
    ] = False,
) -> None:
    """Write dashboard.json (import it in Grafana) and rules.yml (name it in Prometheus' rule_files)."""
    from memberscope._files import write_bytes

    shipped = {name: (files("memberscope.guard") / "grafana" / name).read_bytes() for name in NAMES}
    for name, data in shipped.items():
        path = out / name
        if path.is_file() and path.read_bytes() != data and not overwrite:
            raise InputError(
                f"Expected no other {name} in {str(out)!r}, got one. Choose another --out, or give "
                "--overwrite."
            )
    for name, data in shipped.items():
        write_bytes(out / name, data)
    typer.echo(
        f"Wrote {out}: dashboard.json to import in Grafana, rules.yml for Prometheus' rule_files."
    )
