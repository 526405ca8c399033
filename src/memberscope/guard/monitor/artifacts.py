"""Load the monitor's artifacts (key, sketch, fingerprints, thresholds) named in [monitor]."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memberscope.errors import InputError
from memberscope.guard.calibration.thresholds import Tuned
from memberscope.guard.calibration.thresholds_file import read_tuned
from memberscope.guard.detectors.monitor import DetectorSettings, Monitor
from memberscope.guard.hashing.secret_key import Secret, read_secrets
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.sketching.fingerprints import Fingerprints, read_fingerprints
from memberscope.guard.sketching.record_forms import join_record_forms
from memberscope.guard.sketching.sketcher import Sketcher, read_sketch_key, read_sketcher


@dataclass(frozen=True, eq=False)
class MonitorArtifacts:
    """Artifacts of a monitor: secret, sketch, and perhaps fingerprints and thresholds."""

    secret: Secret
    sketcher: Sketcher
    fingerprints: Fingerprints | None
    tuned: Tuned | None

    def monitor(self, clients: int) -> Monitor:
        """Build a monitor with an empty memory; without thresholds it only counts."""
        settings = (
            DetectorSettings({}, self.sketcher.radius)
            if self.tuned is None
            else self.tuned.settings
        )
        return Monitor(settings, self.fingerprints, clients=clients)


def has_monitor(policy: GuardPolicy) -> bool:
    """Tell whether [monitor] is enabled and has a sketch."""
    return policy.monitor.enabled and policy.monitor.sketch is not None


def find_monitor_secret(policy: GuardPolicy) -> Secret:
    """Find the secret that the sketch was made with: the newest, unless keys were rotated since.

    Raises:
        InputError: The key file is missing or damaged.
    """
    secrets = read_secrets(policy.path(str(policy.monitor.key)))
    made = read_sketch_key(policy.path(str(policy.monitor.sketch)))
    return next((secret for secret in secrets if secret.id == made), secrets[-1])


def load_monitor_artifacts(policy: GuardPolicy) -> MonitorArtifacts:
    """Load all files that [monitor] names.

    Raises:
        InputError: A file is missing or damaged, or was made with another key, or a sketch is named
            without one.
    """
    watch = policy.monitor
    if not watch.enabled or watch.sketch is None:
        raise InputError(
            "Expected a sketch in [monitor], got none. Make one with memberscope guard prepare."
        )
    if watch.key is None:
        raise InputError(
            "Expected key beside sketch in [monitor], got none. Make both with memberscope guard "
            "prepare."
        )
    # The key first: all other files say which key they were made with
    secret = find_monitor_secret(policy)
    sketcher = read_sketcher(policy.path(watch.sketch), secret)
    if sketcher.kind != watch.kind:
        raise InputError(
            f"Expected a sketch of {watch.kind} records, got one of {sketcher.kind}. Set kind "
            "under [monitor] to that of the sketch, or fit another sketch."
        )
    sketcher = replace(sketcher, form=join_record_forms(policy.serving.form, sketcher.form))
    fingerprints = (
        None
        if watch.fingerprints is None
        else read_fingerprints(policy.path(watch.fingerprints), secret)
    )
    tuned = None if watch.tuned is None else read_tuned(policy.path(watch.tuned), secret.id)
    return MonitorArtifacts(secret, sketcher, fingerprints, tuned)
