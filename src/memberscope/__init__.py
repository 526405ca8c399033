"""memberscope audits machine-learning models for membership inference, with intervals.

Controls and a gate.

Scores are higher for likelier members, rates lie in [0, 1], epsilons are in nats.

>>> import memberscope
>>> sorted(memberscope.__all__)[:3]
['Access', 'FunctionTarget', 'Plan']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memberscope.auditing import Plan, Policy, Result, audit, audit_signals, load_policy
    from memberscope.reports import read_result, write_all
    from memberscope.targets import FunctionTarget, SklearnTarget, TorchTarget, read_signals
    from memberscope.types import Access, Records, ThreatModel

_HOMES = {
    "Access": "memberscope.types",
    "FunctionTarget": "memberscope.targets",
    "Plan": "memberscope.auditing",
    "Policy": "memberscope.auditing",
    "Records": "memberscope.types",
    "Result": "memberscope.auditing",
    "SklearnTarget": "memberscope.targets",
    "ThreatModel": "memberscope.types",
    "TorchTarget": "memberscope.targets",
    "audit": "memberscope.auditing",
    "audit_signals": "memberscope.auditing",
    "load_policy": "memberscope.auditing",
    "read_result": "memberscope.reports",
    "read_signals": "memberscope.targets",
    "write_all": "memberscope.reports",
}

__all__ = [
    "Access",
    "FunctionTarget",
    "Plan",
    "Policy",
    "Records",
    "Result",
    "SklearnTarget",
    "ThreatModel",
    "TorchTarget",
    "audit",
    "audit_signals",
    "load_policy",
    "read_result",
    "read_signals",
    "write_all",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import memberscope` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'memberscope' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
