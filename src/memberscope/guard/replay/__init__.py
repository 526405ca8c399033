"""Replay a stored log through the detectors and find its campaigns."""

from memberscope.guard.replay.campaigns_page import write_replay
from memberscope.guard.replay.log_reader import Log, list_log_files
from memberscope.guard.replay.replay import build_fresh_monitor, build_replay, collect_alarms

__all__ = [
    "Log",
    "build_fresh_monitor",
    "build_replay",
    "collect_alarms",
    "list_log_files",
    "write_replay",
]
