"""`memberscope view`: one page over all audits, served to this machine or written as a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.history.keep import name_history_file
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_option
from memberscope.cli.options.table import HISTORY
from memberscope.cli.output import print_line

PORT = 8737


@dataclass(frozen=True)
class ViewOptions:
    """The options of `view`."""

    bundle: Path | None = add_option(
        "Write the page and the reports into this new folder instead of serving them.", default=None
    )
    port: int = add_option("The port to serve at, 0 for any that is free.", default=PORT)
    open: bool = add_option("Open the page in the browser.", default=False)
    overwrite: bool = add_option("Replace an earlier bundle.", default=False)
    history: Path | None = add_option("The file of the history.", default=None, shown=HISTORY)


@take_options(ViewOptions)
def view_history(options: ViewOptions) -> None:
    """Show all past audits as one page: trends with intervals, filters, links to the reports.

    It is served to browsers on this machine alone, until Ctrl-C, or written as a folder that opens
    without a server.
    """
    from memberscope.reports.history import open_server, serve_until_interrupted, write_bundle

    file = name_history_file(options.history)
    if options.bundle is not None:
        copied = write_bundle(file, options.bundle, overwrite=options.overwrite)
        reports = "1 report" if copied == 1 else f"{copied} reports"
        print_line(f"Written to {options.bundle}/: index.html, and {reports} in reports/")
        return
    server = open_server(file, options.port)

    def announce() -> None:
        print_line(f"Past audits: {server.url} (this machine alone can open it; Ctrl-C ends it)")
        if options.open:
            import webbrowser

            webbrowser.open(server.url)

    serve_until_interrupted(server, announce)
    print_line("Ended.")
