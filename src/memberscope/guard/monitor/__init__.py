"""Run the detectors beside a serving guard, in its process or in one of its own."""

from memberscope.guard.monitor.artifacts import (
    MonitorArtifacts,
    find_monitor_secret,
    has_monitor,
    load_monitor_artifacts,
)

__all__ = ["MonitorArtifacts", "find_monitor_secret", "has_monitor", "load_monitor_artifacts"]
