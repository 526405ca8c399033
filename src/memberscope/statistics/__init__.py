"""Statistics of membership scores.

Plain functions of `scores` (n,) and `member` (n,), each with its interval.
"""

from memberscope.statistics.curves.auc import (
    AucEstimate,
    auc_difference,
    auc_interval,
    estimate_auc,
    estimate_curve_auc,
)
from memberscope.statistics.curves.bootstrap import bootstrap_rates
from memberscope.statistics.curves.effective_sizes import EffectiveSizes, effective_sizes
from memberscope.statistics.curves.roc import (
    OperatingPoint,
    Roc,
    auc_value,
    can_resolve_fpr,
    operating_point,
    randomised_tpr,
    roc,
    smallest_fpr,
)
from memberscope.statistics.curves.tpr_at_fpr import (
    build_resolution_warning,
    largest_tpr,
    roc_band,
    tpr_at_fpr,
    tpr_lower,
    tpr_p_value,
    tpr_staircase_at_fpr,
    tpr_upper,
)
from memberscope.statistics.epsilon.many_runs import epsilon_from_counts, epsilon_from_runs
from memberscope.statistics.epsilon.one_run import (
    count_right_guesses,
    epsilon_empirical,
    epsilon_one_run,
    one_run_p_value,
)
from memberscope.statistics.epsilon.one_run_canaries import epsilon_from_one_run
from memberscope.statistics.epsilon.one_run_fdp import epsilon_one_run_fdp
from memberscope.statistics.exposure import (
    ExposureSummary,
    compute_exposure,
    summarise_exposure,
)
from memberscope.statistics.fold_ranks import ranks_for_lower_limit, ranks_within_fold
from memberscope.statistics.intervals import (
    DESCRIPTIVE,
    Interval,
    clopper_pearson,
    kolmogorov_band,
    ratio_of_shares,
    weighted_sum_of_shares,
)
from memberscope.statistics.likelihood_ratio import (
    Bin,
    LikelihoodRatio,
    build_reliability_bins,
    fit_likelihood_ratio,
)
from memberscope.statistics.loss_traces import measure_loss_range, rank_by_loss_range
from memberscope.statistics.multiplicity import (
    digest_ranking,
    find_distinct_rankings,
    holm,
    simultaneous_confidence,
)
from memberscope.statistics.paired_difference import (
    add_variance,
    auc_change,
    correlate_estimates,
    difference_by_mover,
    difference_p_value,
    shared_resamples,
)
from memberscope.statistics.power import (
    can_fail,
    count_non_member_blocks,
    minimum_detectable_auc,
    minimum_detectable_tpr,
    records_needed_to_fail,
)
from memberscope.statistics.ppv import ppv, ppv_at_fpr, ppv_from_counts
from memberscope.statistics.threshold_rates import (
    ConfusionCounts,
    best_rates,
    effective_counts,
    find_best_balanced_threshold,
    threshold_rates,
)
from memberscope.statistics.units import (
    Sides,
    UnitNumbers,
    cluster_sides,
    design_effect,
    kish_size,
    number_units,
    sum_by_unit,
)

__all__ = [
    "AucEstimate",
    "Bin",
    "ConfusionCounts",
    "DESCRIPTIVE",
    "EffectiveSizes",
    "ExposureSummary",
    "Interval",
    "LikelihoodRatio",
    "OperatingPoint",
    "Roc",
    "Sides",
    "UnitNumbers",
    "add_variance",
    "auc_change",
    "auc_difference",
    "auc_interval",
    "auc_value",
    "best_rates",
    "bootstrap_rates",
    "build_reliability_bins",
    "build_resolution_warning",
    "can_fail",
    "can_resolve_fpr",
    "clopper_pearson",
    "cluster_sides",
    "compute_exposure",
    "correlate_estimates",
    "count_non_member_blocks",
    "count_right_guesses",
    "design_effect",
    "difference_by_mover",
    "difference_p_value",
    "digest_ranking",
    "effective_counts",
    "effective_sizes",
    "epsilon_empirical",
    "epsilon_from_counts",
    "epsilon_from_one_run",
    "epsilon_from_runs",
    "epsilon_one_run",
    "epsilon_one_run_fdp",
    "estimate_auc",
    "estimate_curve_auc",
    "find_best_balanced_threshold",
    "find_distinct_rankings",
    "fit_likelihood_ratio",
    "holm",
    "kish_size",
    "number_units",
    "kolmogorov_band",
    "largest_tpr",
    "minimum_detectable_auc",
    "minimum_detectable_tpr",
    "one_run_p_value",
    "operating_point",
    "ppv",
    "ppv_at_fpr",
    "ppv_from_counts",
    "measure_loss_range",
    "randomised_tpr",
    "rank_by_loss_range",
    "ranks_for_lower_limit",
    "ranks_within_fold",
    "ratio_of_shares",
    "records_needed_to_fail",
    "roc",
    "roc_band",
    "shared_resamples",
    "simultaneous_confidence",
    "smallest_fpr",
    "sum_by_unit",
    "summarise_exposure",
    "threshold_rates",
    "tpr_at_fpr",
    "tpr_lower",
    "tpr_p_value",
    "tpr_staircase_at_fpr",
    "tpr_upper",
    "weighted_sum_of_shares",
]
