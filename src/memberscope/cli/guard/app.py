"""`memberscope guard`: serve what was measured, and see who is probing."""

from __future__ import annotations

import typer

from memberscope.cli.guard import dashboard as guard_dashboard
from memberscope.cli.guard import init as guard_init
from memberscope.cli.guard import monitor as guard_watch
from memberscope.cli.guard import run as guard_run

app = typer.Typer(no_args_is_help=True, help="Guard a served model with what an audit measured, and watch for campaigns.")
app.command("init")(guard_init.init)
app.command("fit")(guard_init.fit)
app.command("run")(guard_run.run)
app.command("prepare")(guard_watch.prepare)
app.command("tune")(guard_watch.tune)
app.command("replay")(guard_watch.replay)
app.command("dashboard")(guard_dashboard.dashboard)
