"""Statistics of collections: tests, shares and lists from scores, membership and units."""

from memberscope.statistics.sets.collection_power import (
    compute_collection_power,
    convert_effect_to_auc,
    find_smallest_effect,
)
from memberscope.statistics.sets.collection_test import CollectionTest, compare_collections
from memberscope.statistics.sets.equivalence import (
    MeanDifference,
    UsedShare,
    bound_used_share,
    combine_differences,
    learn_known_weights,
    measure_mean_difference,
    scale_by_non_members,
)
from memberscope.statistics.sets.named_list import (
    NamedUnits,
    compute_conformal_p_values,
    control_false_discoveries,
    name_units,
)
from memberscope.statistics.sets.proportion import (
    FEWEST_PLAYERS,
    ShareEstimate,
    ShareScores,
    estimate_share,
)
from memberscope.statistics.sets.range_scores import DROP, RangeScores, score_ranges
from memberscope.statistics.sets.unit_features import UnitFeatures, build_unit_features

__all__ = [
    "CollectionTest",
    "DROP",
    "FEWEST_PLAYERS",
    "MeanDifference",
    "NamedUnits",
    "RangeScores",
    "ShareEstimate",
    "ShareScores",
    "UnitFeatures",
    "UsedShare",
    "bound_used_share",
    "build_unit_features",
    "combine_differences",
    "compare_collections",
    "compute_collection_power",
    "compute_conformal_p_values",
    "control_false_discoveries",
    "convert_effect_to_auc",
    "find_smallest_effect",
    "learn_known_weights",
    "estimate_share",
    "measure_mean_difference",
    "name_units",
    "score_ranges",
    "scale_by_non_members",
]
