"""Auditing: the plan, the run, the controls, the verdict and the result."""

from memberscope.auditing.again import contradictions, differences, recompute, rejudged
from memberscope.auditing.api import audit, audit_signals, settled, signals_subject
from memberscope.auditing.comparison import COMPARISON_FORMAT, Comparison
from memberscope.auditing.estimate import Settings
from memberscope.auditing.plan import Plan
from memberscope.auditing.policy import Claim, Policy, load_policy, policy_from_table, shipped
from memberscope.auditing.privacy import Bound, privacy_bounds
from memberscope.auditing.recheck import recompute_controls
from memberscope.auditing.releases import compare
from memberscope.auditing.result import Arrays, Control, Cost, Exposed, NotRun, Result, Scored, Tool
from memberscope.auditing.run import run
from memberscope.auditing.strongest import STRONGEST
from memberscope.auditing.subject import Subject, keyed_hashes, make_subject
from memberscope.auditing.training import Training

__all__ = [
    "COMPARISON_FORMAT",
    "STRONGEST",
    "Arrays",
    "Bound",
    "Claim",
    "Comparison",
    "Control",
    "Cost",
    "Exposed",
    "NotRun",
    "Plan",
    "Policy",
    "Result",
    "Scored",
    "Settings",
    "Subject",
    "Tool",
    "Training",
    "audit",
    "audit_signals",
    "compare",
    "contradictions",
    "differences",
    "keyed_hashes",
    "load_policy",
    "make_subject",
    "policy_from_table",
    "privacy_bounds",
    "recompute",
    "recompute_controls",
    "rejudged",
    "run",
    "settled",
    "shipped",
    "signals_subject",
]
