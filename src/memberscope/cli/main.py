"""The command line: one file a verb, errors as one sentence, exit codes that a script can rely on.

0 pass · 1 policy failed · 2 usage or bad input · 3 inconclusive or something required did not run ·
4 target or internal error
"""

from __future__ import annotations

import typer

from memberscope.cli.app import add_verb, app
from memberscope.cli.commands import (
    audit,
    canaries,
    check,
    compare,
    defend,
    demo,
    doctor,
    explain,
    init,
    plan,
    report,
    verify,
)
from memberscope.cli.commands import list as listing
from memberscope.cli.guard import app as guard
from memberscope.cli.history import list as past
from memberscope.cli.history import view
from memberscope.cli.output import outlive_readers, print_error
from memberscope.cli.pipeline import log
from memberscope.cli.set_test import answer_set_questions
from memberscope.errors import MemberscopeError

START, READ, MORE = "Audit a model", "Read and judge an audit", "Defend, guard and look up"

add_verb(app, "demo", demo.run_demo, START)
add_verb(app, "init", init.write_audit_config, START)
add_verb(app, "doctor", doctor.show_environment, START)
add_verb(app, "plan", plan.preview_audit, START)
add_verb(app, "audit", audit.audit_model, START)
add_verb(app, "check", check.check_result, READ)
add_verb(app, "report", report.rewrite_report, READ)
add_verb(app, "explain", explain.print_explanation, READ)
add_verb(app, "compare", compare.compare_audits, READ)
add_verb(app, "set-test", answer_set_questions, READ)
add_verb(app, "verify", verify.verify_audit, READ)
add_verb(app, "log", log.log_audit, READ)
add_verb(app, "history", past.list_history, READ)
add_verb(app, "view", view.view_history, READ)
add_verb(app, "defend", defend.compare_defences, MORE)
app.add_typer(canaries.app, name="canaries", rich_help_panel=MORE)
app.add_typer(guard.app, name="guard", rich_help_panel=MORE)
add_verb(app, "list", listing.print_listing, MORE)


def run() -> None:
    """Run the command line; a user's mistake prints one sentence and never a traceback."""
    outlive_readers()
    try:
        app(prog_name="memberscope")
    except MemberscopeError as error:
        print_error(str(error))
        raise SystemExit(error.exit_code) from None
    except SystemExit as stop:
        raise SystemExit(_choose_exit_code(stop)) from None
    except KeyboardInterrupt:
        raise SystemExit(_report_interrupt()) from None
    except Exception as error:
        print_error(f"Internal error: {type(error).__name__}: {error}. Please report it.")
        raise SystemExit(4) from error


def _choose_exit_code(stop: SystemExit) -> int | str | None:
    """Choose the exit code of a command that stopped.

    typer's own for an aborted question is 1: that would read as a failed policy.
    """
    if stop.code == 130:
        return _report_interrupt()
    if isinstance(stop.__context__, typer.Abort):
        print_error("Expected an answer to each question, got none. Give the answers as options.")
        return 2
    return stop.code


def _report_interrupt() -> int:
    """Say how to go on after Ctrl-C."""
    print_error("Interrupted. Run the same command again to go on where it stopped.")
    return 4
