"""Auditing: the plan, the run, the controls, the verdict and the result."""

from memberscope._version import Tool
from memberscope.auditing.api import audit, audit_signals, complete_plan, make_signals_subject
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.compare.compare import compare
from memberscope.auditing.documents.comparison import COMPARISON_FORMAT, Comparison
from memberscope.auditing.documents.plan import EstimateSettings, Plan
from memberscope.auditing.documents.policy import Claim, Policy, list_bundled_policies, load_policy, parse_policy_table
from memberscope.auditing.documents.result import AttackScores, AuditArrays, Control, Cost, ExposedRecord, NotRun, Result
from memberscope.auditing.estimates.epsilon_bounds import EpsilonBound, compute_privacy_bounds
from memberscope.auditing.estimates.strongest import STRONGEST
from memberscope.auditing.run import audit_subject
from memberscope.auditing.subject.subject import Subject, hash_ids, make_subject
from memberscope.auditing.verdict.recheck_controls import recompute_controls
from memberscope.auditing.verdict.recompute import judge_again, recompute_estimates, verify_arrays, verify_verdict

__all__ = [
    "COMPARISON_FORMAT",
    "STRONGEST",
    "AuditArrays",
    "EpsilonBound",
    "Claim",
    "Comparison",
    "Control",
    "Cost",
    "ExposedRecord",
    "NotRun",
    "Plan",
    "Policy",
    "Result",
    "AttackScores",
    "EstimateSettings",
    "Subject",
    "Tool",
    "Training",
    "audit",
    "audit_signals",
    "compare",
    "verify_verdict",
    "verify_arrays",
    "hash_ids",
    "load_policy",
    "make_subject",
    "parse_policy_table",
    "compute_privacy_bounds",
    "recompute_estimates",
    "recompute_controls",
    "judge_again",
    "audit_subject",
    "complete_plan",
    "list_bundled_policies",
    "make_signals_subject",
]
