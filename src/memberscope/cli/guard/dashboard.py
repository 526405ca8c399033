"""`memberscope guard dashboard`: the Grafana dashboard and the alert rules, as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_option
from memberscope.cli.output import print_line
from memberscope.errors import InputError

NAMES = ("dashboard.json", "rules.yml")


@dataclass(frozen=True)
class DashboardOptions:
    """The options of `guard dashboard`."""

    out: Path = add_option("The folder to write.", default=Path("memberscope-grafana"))
    overwrite: bool = add_option("Replace files that were changed.", default=False)


@take_options(DashboardOptions)
def write_dashboard(options: DashboardOptions) -> None:
    """Write dashboard.json (import it in Grafana) and rules.yml (name it in Prometheus' rule_files)."""
    from importlib.resources import files

    from memberscope._files import write_bytes

    out = options.out
    shipped = {name: (files("memberscope.guard") / "grafana" / name).read_bytes() for name in NAMES}
    for name, data in shipped.items():
        path = out / name
        if path.is_file() and path.read_bytes() != data and not options.overwrite:
            raise InputError(
                f"Expected no other {name} in {str(out)!r}, got one. Choose another --out, or give "
                "--overwrite."
            )
    for name, data in shipped.items():
        write_bytes(out / name, data)
    print_line(
        f"Wrote {out}: dashboard.json to import in Grafana, rules.yml for Prometheus' rule_files."
    )
