"""`memberscope guard`: serve what was measured, and see who is probing."""

from __future__ import annotations

from memberscope.cli.app import add_verb, build_group
from memberscope.cli.guard import check as guard_check
from memberscope.cli.guard import dashboard as guard_dashboard
from memberscope.cli.guard import init as guard_init
from memberscope.cli.guard import keys as guard_keys
from memberscope.cli.guard import monitor as guard_watch
from memberscope.cli.guard import run as guard_run

app = build_group("Guard a served model with what an audit measured, and watch for campaigns.")
add_verb(app, "init", guard_init.write_guard_policy)
add_verb(app, "fit", guard_init.fit_guard_defences)
add_verb(app, "check", guard_check.check_guard)
add_verb(app, "run", guard_run.serve_guarded_model)
add_verb(app, "monitor", guard_run.serve_monitor_process)
add_verb(app, "prepare", guard_watch.prepare_monitor)
add_verb(app, "tune", guard_watch.tune_monitor)
add_verb(app, "replay", guard_watch.replay_logs)
add_verb(app, "dashboard", guard_dashboard.write_dashboard)

keys = build_group("The keys of hashes in budgets, logs and sketches.")
add_verb(keys, "rotate", guard_keys.rotate_guard_keys)
app.add_typer(keys, name="keys")
