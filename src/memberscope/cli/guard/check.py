"""`memberscope guard check`: what is wrong with a guard before it serves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import typer

from memberscope.cli.guard.run import require_guard_packages, show_setting
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line


@dataclass(frozen=True)
class GuardCheckOptions:
    """The options of `guard check`: those of `guard run` that decide what is checked."""

    policy: Path = add_argument("What clients may see, and how often: guard.toml.")
    models: tuple[Path, ...] | None = add_option(
        "The policy of a further model; again for more.",
        default=None,
        is_repeated=True,
        flag="--model",
    )
    upstream: tuple[str, ...] | None = add_option(
        "The server of the model, as guard run gets it; again for replicas.",
        default=None,
        is_repeated=True,
    )
    admin_host: str | None = add_option(
        "The address of health, metrics and reload, as guard run gets it.",
        default=None,
        shown=show_setting("admin_host"),
    )
    workers: int | None = add_option(
        "Processes, as guard run gets them.", default=None, shown=show_setting("workers")
    )
    tls_cert: Path | None = add_option("Certificate chain (PEM).", default=None)
    tls_key: Path | None = add_option("The certificate's private key (PEM).", default=None)
    client_ca: Path | None = add_option(
        "Authorities whose client certificates identify.", default=None
    )
    upstream_ca: Path | None = add_option(
        "Authority that signed the upstream's certificate.", default=None
    )
    allow_looser: bool = add_option("Serving more than [measured] says is meant.", default=False)


@take_options(GuardCheckOptions)
def check_guard(options: GuardCheckOptions) -> None:
    """Validate a policy, reach what it needs, and tell all that is wrong.

    Exit 1 if anything is.
    """
    require_guard_packages()
    from memberscope.guard.server import Run, inspect_guard

    given = {
        entry.name: getattr(options, entry.name)
        for entry in fields(options)
        if getattr(options, entry.name) is not None
    }
    findings = inspect_guard(Run(**given))
    for sentence in findings:
        print_line(sentence)
    if findings:
        raise typer.Exit(1)
    print_line(f"Nothing is wrong with {options.policy}: its upstream and its state answer.")
