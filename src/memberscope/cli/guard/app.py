"""`memberscope guard`: serve what was measured, and see who is probing."""

from __future__ import annotations

import typer

from memberscope.cli.guard import dashboard as guard_dashboard
from memberscope.cli.guard import init as guard_init
from memberscope.cli.guard import monitor as guard_watch
from memberscope.cli.guard import run as guard_run

app = typer.Typer(
    no_args_is_help=True,
    help="Guard a served model with what an audit measured, and watch for campaigns.",
)
app.command("init")(guard_init.write_guard_policy)
app.command("fit")(guard_init.fit_guard_defences)
app.command("run")(guard_run.serve_guarded_model)
app.command("prepare")(guard_watch.prepare_monitor)
app.command("tune")(guard_watch.tune_monitor)
app.command("replay")(guard_watch.replay_logs)
app.command("dashboard")(guard_dashboard.write_dashboard)
