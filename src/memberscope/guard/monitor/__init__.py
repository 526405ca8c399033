"""Run the detectors beside a serving guard, in its process or in one of its own."""

from memberscope.guard.monitor.artifacts import (
    MonitorArtifacts,
    has_monitor,
    load_monitor_artifacts,
)

__all__ = ["MonitorArtifacts", "has_monitor", "load_monitor_artifacts"]
