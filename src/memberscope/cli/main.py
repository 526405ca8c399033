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
from memberscope.cli.output import print_error
from memberscope.errors import MemberscopeError

add_verb(app, "demo", demo.run_demo)
add_verb(app, "init", init.write_audit_config)
add_verb(app, "doctor", doctor.show_environment)
add_verb(app, "plan", plan.preview_audit)
add_verb(app, "audit", audit.audit_model)
add_verb(app, "check", check.check_result)
add_verb(app, "compare", compare.compare_audits)
add_verb(app, "defend", defend.compare_defences)
add_verb(app, "report", report.rewrite_report)
add_verb(app, "explain", explain.print_explanation)
add_verb(app, "verify", verify.verify_audit)
app.add_typer(canaries.app, name="canaries")
app.add_typer(guard.app, name="guard")
add_verb(app, "list", listing.print_listing)


def run() -> None:
    """Run the command line; a user's mistake prints one sentence and never a traceback."""
    try:
        app()
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

    typer's own for an aborted question, or for a reader that left, is 1: that would read as a
    failed policy.
    """
    if stop.code == 130:
        return _report_interrupt()
    if isinstance(stop.__context__, typer.Abort):
        print_error("Expected an answer to each question, got none. Give the answers as options.")
        return 2
    return 4 if isinstance(stop.__context__, BrokenPipeError) else stop.code


def _report_interrupt() -> int:
    """Say how to go on after Ctrl-C."""
    print_error("Interrupted. Run the same command again to go on where it stopped.")
    return 4
