"""The history of audits: a file that audits are appended to, a list of it, and a page over it."""

from memberscope.reports.history.bundle import write_bundle
from memberscope.reports.history.linked_reports import digest_file, shorten_report_path
from memberscope.reports.history.listing import format_history_json, print_history
from memberscope.reports.history.page import render_history
from memberscope.reports.history.past_audit import (
    Kind,
    PastAudit,
    PastNumber,
    summarise_audit,
    summarise_comparison,
)
from memberscope.reports.history.series import PlacedAudit, describe_shared_names, place_audits
from memberscope.reports.history.server import open_server, serve_until_interrupted
from memberscope.reports.history.store import append_audit, read_history

__all__ = [
    "Kind",
    "PastAudit",
    "PastNumber",
    "PlacedAudit",
    "append_audit",
    "describe_shared_names",
    "digest_file",
    "format_history_json",
    "open_server",
    "place_audits",
    "print_history",
    "read_history",
    "render_history",
    "serve_until_interrupted",
    "shorten_report_path",
    "summarise_audit",
    "summarise_comparison",
    "write_bundle",
]
