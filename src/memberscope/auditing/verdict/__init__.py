"""Turn estimates and a policy into findings, a verdict and its words.

A stored result is checked again here as well.
"""

from memberscope.auditing.estimates.ranking import Ranking
from memberscope.auditing.verdict.claims import Tested, examine_claims
from memberscope.auditing.verdict.conclusion import drop_verdict_word
from memberscope.auditing.verdict.full_attack_set import (
    AttackCoverage,
    Place,
    measure_attack_coverage,
    select_parts,
)
from memberscope.auditing.verdict.judge import count_excess_records, count_good_references
from memberscope.auditing.verdict.model_advice import name_configuration
from memberscope.auditing.verdict.recompute import restore_plan, restore_ranking
from memberscope.auditing.verdict.repeated_audits import describe_repeats

__all__ = [
    "AttackCoverage",
    "Place",
    "Ranking",
    "Tested",
    "count_excess_records",
    "count_good_references",
    "describe_repeats",
    "drop_verdict_word",
    "examine_claims",
    "measure_attack_coverage",
    "name_configuration",
    "restore_plan",
    "restore_ranking",
    "select_parts",
]
