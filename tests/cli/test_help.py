"""The help of the commands: panels, defaults from the code, and one row an option."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from memberscope.cli.main import app
from memberscope.cli.options.lookup import ROWS, list_rows
from memberscope.cli.options.table import FIRST

SOURCE = Path(__file__).resolve().parents[2] / "src" / "memberscope" / "cli"


def show_help(*verb: str) -> str:
    code = "from memberscope.cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code, *verb, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1"},
        check=True,
    )
    return done.stdout


def list_commands():
    for name, command in typer.main.get_command(app).commands.items():
        if hasattr(command, "commands"):
            yield from (((name, inner), entry) for inner, entry in command.commands.items())
        else:
            yield (name,), command


@pytest.mark.parametrize("verb", ["audit", "plan", "defend"])
def test_the_first_panel_holds_what_most_audits_need(verb):
    shown = show_help(verb)
    panels = re.findall(r"^(\S.*):$", shown, flags=re.MULTILINE)
    assert panels[:2] == ["Arguments", FIRST] and len(panels) > 5
    first = shown.partition(FIRST)[2].partition("\n\n")[0]
    flags = re.findall(r"^  (--[\w-]+)", first, flags=re.MULTILINE)
    assert flags == [row.flag for row in list_rows(verb).values() if row.panel == FIRST]
    assert len(flags) == (7 if verb == "defend" else 10)
    assert "MEMBERSCOPE_QUERY_BUDGET" in shown


def test_defaults_in_the_help_are_those_of_the_code():
    from memberscope.auditing import Plan
    from memberscope.auditing.defend import SEARCHED
    from memberscope.auditing.documents.effort import EFFORTS

    shown = {verb: " ".join(show_help(verb).split()) for verb in ("audit", "defend")}
    assert "0 for none. [default: as --effort says]" in shown["audit"]
    assert f"0 for none. [default: {SEARCHED}]" in shown["defend"]
    plan = Plan()
    assert ROWS["references"].describe_default("defend") == str(EFFORTS["normal"].references)
    for name in ("effort", "targets", "confidence", "folds", "seed", "priors", "restrictions"):
        value = getattr(plan, name)
        words = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert ROWS[name].describe_default("audit") == words
    assert [row.name for row in ROWS.values() if "{" in row.describe_default()] == []


def test_plan_takes_every_option_that_audit_takes():
    audit, plan = list_rows("audit"), list_rows("plan")
    assert set(audit) <= set(plan) and set(plan) - set(audit) == {"measure", "token_price"}


def test_every_option_of_every_command_is_a_row_with_whole_phrases():
    for path, command in list_commands():
        rows = getattr(command.callback, "rows", {})
        names = {param.name for param in command.params} - {"help"}
        assert names == set(rows), path
        assert command.help and command.help.splitlines()[0].endswith("."), path
        for row in rows.values():
            assert row.help[0].isupper() and row.help.endswith("."), row


def test_no_parameter_is_written_by_hand():
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    assert len(re.findall(r"typer\.(?:Option|Argument)\(", text)) == 2


def test_a_command_can_be_called_from_python(tmp_path, capsys):
    from memberscope.cli.guard.dashboard import write_dashboard

    assert "out" in inspect.signature(write_dashboard).parameters
    write_dashboard(out=tmp_path / "grafana")
    assert (tmp_path / "grafana" / "rules.yml").is_file() and "Wrote" in capsys.readouterr().out
