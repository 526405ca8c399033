"""From an audit to `guard.toml`: what may be served, with the measurement it rests on."""

from memberscope.policygen.candidates import choose_served_outputs, read_evidence
from memberscope.policygen.guard_toml import draft_policy

__all__ = ["choose_served_outputs", "draft_policy", "read_evidence"]
