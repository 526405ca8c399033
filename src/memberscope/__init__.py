"""memberscope audits machine-learning models for membership inference, with intervals.

Controls and a gate.

Scores are higher for likelier members, rates lie in [0, 1], epsilons are in nats.

>>> import memberscope
>>> sorted(memberscope.__all__)[:3]
['Access', 'Execution', 'FunctionTarget']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from memberscope._views import register_views

if TYPE_CHECKING:
    from memberscope import (
        attacks,
        auditing,
        defences,
        outputs,
        recipes,
        reports,
        signals,
        statistics,
        targets,
        types,
    )
    from memberscope.auditing import (
        Plan,
        Policy,
        Result,
        SetResult,
        audit,
        audit_signals,
        load_policy,
        set_test,
    )
    from memberscope.frames import cut_windows
    from memberscope.recipes import Execution
    from memberscope.reports import load, read_result, write_all
    from memberscope.signals import Store
    from memberscope.targets import FunctionTarget, SklearnTarget, TorchTarget, read_signals
    from memberscope.types import Access, Records, ThreatModel

    __version__: str

_HOMES = {
    "Access": "memberscope.types",
    "Execution": "memberscope.recipes",
    "FunctionTarget": "memberscope.targets",
    "Plan": "memberscope.auditing",
    "Policy": "memberscope.auditing",
    "Records": "memberscope.types",
    "Result": "memberscope.auditing",
    "SetResult": "memberscope.auditing",
    "SklearnTarget": "memberscope.targets",
    "Store": "memberscope.signals",
    "ThreatModel": "memberscope.types",
    "TorchTarget": "memberscope.targets",
    "audit": "memberscope.auditing",
    "audit_signals": "memberscope.auditing",
    "cut_windows": "memberscope.frames",
    "load": "memberscope.reports",
    "load_policy": "memberscope.auditing",
    "read_result": "memberscope.reports",
    "read_signals": "memberscope.targets",
    "set_test": "memberscope.auditing",
    "write_all": "memberscope.reports",
}
# Rooms that a user imports from, found as attributes too, so that completion shows them
_ROOMS = (
    "attacks",
    "auditing",
    "defences",
    "outputs",
    "recipes",
    "reports",
    "signals",
    "statistics",
    "targets",
    "types",
)

__all__ = [
    "Access",
    "Execution",
    "FunctionTarget",
    "Plan",
    "Policy",
    "Records",
    "Result",
    "SetResult",
    "SklearnTarget",
    "Store",
    "ThreatModel",
    "TorchTarget",
    "__version__",
    "attacks",
    "audit",
    "audit_signals",
    "auditing",
    "cut_windows",
    "defences",
    "load",
    "load_policy",
    "outputs",
    "read_result",
    "read_signals",
    "recipes",
    "reports",
    "set_test",
    "signals",
    "statistics",
    "targets",
    "types",
    "write_all",
]

# Results are made below the room that shows them
register_views(
    dict.fromkeys(
        (
            "build_estimate_frame",
            "build_plots",
            "build_record_frame",
            "build_roc_points",
            "build_score_frame",
            "describe_result",
            "list_citations",
            "open_progress",
            "render_card",
            "save_result",
            "save_set_result",
            "write_format",
        ),
        "memberscope.reports",
    )
)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import memberscope` stays fast."""
    if name == "__version__":
        from memberscope._version import get_tool_version

        return get_tool_version()
    if name in _ROOMS:
        return import_module(f"memberscope.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'memberscope' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
