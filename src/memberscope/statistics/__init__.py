"""Statistics of membership scores: plain functions of `scores` (n,) and `member` (n,), each with its interval."""

from memberscope.statistics.curves.auc import AucEstimate, auc_difference, auc_interval, estimate_auc
from memberscope.statistics.curves.bootstrap import bootstrap
from memberscope.statistics.curves.effective_sizes import EffectiveSizes, effective_sizes
from memberscope.statistics.curves.roc import Point, Roc, auc_value, operating_point, randomised_tpr, roc, smallest_fpr
from memberscope.statistics.curves.tpr_at_fpr import (
    resolution_warning,
    roc_band,
    tpr_at_fpr,
    tpr_lower,
    tpr_p_value,
    tpr_staircase_at_fpr,
    tpr_upper,
)
from memberscope.statistics.epsilon.many_runs import epsilon_from_counts, epsilon_from_runs
from memberscope.statistics.epsilon.one_run import epsilon_empirical, epsilon_one_run, one_run_guesses, one_run_p_value
from memberscope.statistics.epsilon.one_run_canaries import epsilon_from_one_run
from memberscope.statistics.epsilon.one_run_fdp import epsilon_one_run_fdp
from memberscope.statistics.fold_ranks import accused_within_fold, within_fold
from memberscope.statistics.intervals import DESCRIPTIVE, Interval, clopper_pearson, kolmogorov_band, ratio, weighted_sum
from memberscope.statistics.likelihood_ratio import Bin, LikelihoodRatio, fit_likelihood_ratio, reliability
from memberscope.statistics.multiplicity import distinct_rankings, holm, simultaneous_confidence
from memberscope.statistics.paired_difference import (
    add_variance,
    auc_change,
    correlation,
    difference_p_value,
    drawn_together,
    mover,
)
from memberscope.statistics.power import (
    can_fail,
    minimum_detectable_auc,
    minimum_detectable_tpr,
    non_member_blocks,
    records_needed_to_fail,
)
from memberscope.statistics.ppv import ppv, ppv_at_fpr, ppv_from_counts
from memberscope.statistics.threshold_rates import Counts, best_balanced, best_rates, effective_counts, rates
from memberscope.statistics.units import cluster_sides, design_effect, kish_size

__all__ = [
    "DESCRIPTIVE",
    "AucEstimate",
    "Bin",
    "Counts",
    "EffectiveSizes",
    "Interval",
    "LikelihoodRatio",
    "Point",
    "Roc",
    "accused_within_fold",
    "add_variance",
    "auc_change",
    "auc_difference",
    "auc_interval",
    "auc_value",
    "best_balanced",
    "best_rates",
    "bootstrap",
    "can_fail",
    "clopper_pearson",
    "cluster_sides",
    "correlation",
    "difference_p_value",
    "design_effect",
    "distinct_rankings",
    "drawn_together",
    "effective_sizes",
    "effective_counts",
    "epsilon_empirical",
    "epsilon_from_counts",
    "epsilon_from_one_run",
    "epsilon_from_runs",
    "epsilon_one_run",
    "epsilon_one_run_fdp",
    "estimate_auc",
    "fit_likelihood_ratio",
    "holm",
    "kish_size",
    "kolmogorov_band",
    "minimum_detectable_auc",
    "minimum_detectable_tpr",
    "mover",
    "non_member_blocks",
    "one_run_guesses",
    "one_run_p_value",
    "operating_point",
    "ppv",
    "ppv_at_fpr",
    "ppv_from_counts",
    "rates",
    "randomised_tpr",
    "ratio",
    "records_needed_to_fail",
    "reliability",
    "resolution_warning",
    "roc",
    "roc_band",
    "simultaneous_confidence",
    "smallest_fpr",
    "tpr_at_fpr",
    "tpr_lower",
    "tpr_p_value",
    "tpr_staircase_at_fpr",
    "tpr_upper",
    "weighted_sum",
    "within_fold",
]
