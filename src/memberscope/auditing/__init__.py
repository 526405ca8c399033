"""Auditing: the plan, the run, the controls, the verdict and the result."""

from memberscope.auditing.api import audit, audit_signals, complete_plan, make_signals_subject
from memberscope.auditing.canary_audit import (
    CanaryDesign,
    CanaryOutcome,
    design_canary_audit,
    is_refuted,
    run_canary_audit,
)
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.compare.compare import compare
from memberscope.auditing.documents.comparison import COMPARISON_FORMAT, Comparison
from memberscope.auditing.documents.own_attacks import add_own_attacks, load_attack_file
from memberscope.auditing.documents.plan import EstimateSettings, Plan, fit_plan_to_task
from memberscope.auditing.documents.policy import (
    Claim,
    Policy,
    list_bundled_policies,
    load_policy,
    parse_policy_table,
)
from memberscope.auditing.documents.result import (
    AttackScores,
    AuditArrays,
    Control,
    Cost,
    ExposedRecord,
    NotRun,
    Result,
)
from memberscope.auditing.estimates.epsilon_bounds import EpsilonBound, compute_privacy_bounds
from memberscope.auditing.estimates.extraction import estimate_extraction
from memberscope.auditing.estimates.strongest import STRONGEST
from memberscope.auditing.gate import (
    BASELINE,
    BaselineOutcome,
    GateOutcome,
    WaivedFinding,
    Waiver,
    conclude_gate,
    judge_against_baseline,
    parse_date,
    read_waivers,
    show_gate,
)
from memberscope.auditing.resume import (
    build_audit_identity,
    find_other_audit,
    refuse_other_audit,
    resume_audit,
    write_audit_identity,
)
from memberscope.auditing.run import audit_subject
from memberscope.auditing.sets import SetAnswer, SetResult, set_test
from memberscope.auditing.subject.outputs import make_output_subject
from memberscope.auditing.subject.released import make_table_subject
from memberscope.auditing.subject.subject import Subject, hash_ids, make_subject
from memberscope.auditing.subject.texts import make_text_subject
from memberscope.auditing.text_canaries import (
    RepeatedCanaries,
    TextCanaryScores,
    describe_group_bounds,
    score_text_canaries,
)
from memberscope.auditing.verdict.recheck_controls import recompute_controls
from memberscope.auditing.verdict.recompute import (
    judge_again,
    recompute_estimates,
    restore_ranking,
    verify_arrays,
    verify_verdict,
)
from memberscope.auditing.verify_document import (
    NOBODY,
    name_audit_folder,
    parse_training_name,
    verify_frontier,
    verify_result,
)

__all__ = [
    "fit_plan_to_task",
    "AttackScores",
    "AuditArrays",
    "BASELINE",
    "BaselineOutcome",
    "COMPARISON_FORMAT",
    "CanaryDesign",
    "CanaryOutcome",
    "Claim",
    "Comparison",
    "Control",
    "Cost",
    "EpsilonBound",
    "EstimateSettings",
    "ExposedRecord",
    "GateOutcome",
    "NOBODY",
    "NotRun",
    "Plan",
    "Policy",
    "RepeatedCanaries",
    "Result",
    "STRONGEST",
    "SetAnswer",
    "SetResult",
    "Subject",
    "TextCanaryScores",
    "Training",
    "WaivedFinding",
    "Waiver",
    "add_own_attacks",
    "audit",
    "audit_signals",
    "audit_subject",
    "build_audit_identity",
    "compare",
    "complete_plan",
    "compute_privacy_bounds",
    "conclude_gate",
    "describe_group_bounds",
    "design_canary_audit",
    "estimate_extraction",
    "find_other_audit",
    "hash_ids",
    "is_refuted",
    "judge_again",
    "judge_against_baseline",
    "list_bundled_policies",
    "load_attack_file",
    "load_policy",
    "make_output_subject",
    "make_signals_subject",
    "make_subject",
    "make_table_subject",
    "make_text_subject",
    "name_audit_folder",
    "parse_date",
    "parse_policy_table",
    "parse_training_name",
    "read_waivers",
    "recompute_controls",
    "recompute_estimates",
    "refuse_other_audit",
    "restore_ranking",
    "resume_audit",
    "run_canary_audit",
    "score_text_canaries",
    "set_test",
    "show_gate",
    "verify_arrays",
    "verify_frontier",
    "verify_result",
    "verify_verdict",
    "write_audit_identity",
]
