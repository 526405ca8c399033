"""Serve the guard: assembly, workers, reload and the admin interface."""

from memberscope.guard.server.inspection import inspect_guard
from memberscope.guard.server.monitor_service import serve_monitor
from memberscope.guard.server.serve import serve_guard
from memberscope.guard.server.settings import Run

__all__ = ["Run", "inspect_guard", "serve_guard", "serve_monitor"]
