"""Auditing: the plan, the run, the controls, the verdict and the result."""

from memberscope._version import Tool
from memberscope.auditing.api import audit, audit_signals, settled, signals_subject
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.compare.compare import compare
from memberscope.auditing.documents.comparison import COMPARISON_FORMAT, Comparison
from memberscope.auditing.documents.plan import Plan, Settings
from memberscope.auditing.documents.policy import Claim, Policy, load_policy, policy_from_table, shipped
from memberscope.auditing.documents.result import Arrays, Control, Cost, Exposed, NotRun, Result, Scored
from memberscope.auditing.estimates.epsilon_bounds import Bound, privacy_bounds
from memberscope.auditing.estimates.strongest import STRONGEST
from memberscope.auditing.run import run
from memberscope.auditing.subject.subject import Subject, keyed_hashes, make_subject
from memberscope.auditing.verdict.recheck_controls import recompute_controls
from memberscope.auditing.verdict.recompute import contradictions, differences, recompute, rejudged

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
