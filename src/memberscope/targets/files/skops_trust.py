"""List types in skops files that are harmless though skops does not list them.

Plain containers of arrays, and pure functions.
"""

from __future__ import annotations

TREE = "sklearn.tree._tree.Tree"
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
PARTIAL = "functools.partial"
CHECK_ARRAY = "sklearn.utils.validation.check_array"
CHECKED = (TREE, PREDICTOR, PARTIAL)  # trusted only after their content was checked

_NAMES = {
    "builtins": "object",
    "numpy": "dtype",
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "sklearn.compose._column_transformer": "make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.feature_selection._univariate_selection": "f_classif f_oneway chi2 f_regression",
    "sklearn.feature_selection._mutual_info": "mutual_info_classif",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Hyperparameter Matern "
    "PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel",
    "sklearn.metrics._classification": "accuracy_score balanced_accuracy_score brier_score_loss cohen_kappa_score f1_score fbeta_score "
    "hamming_loss jaccard_score log_loss matthews_corrcoef precision_score recall_score "
    "zero_one_loss",
    "sklearn.metrics._ranking": "average_precision_score roc_auc_score top_k_accuracy_score",
    "sklearn.metrics._scorer": "_CurveScorer _MultimetricScorer _PassthroughScorer _Scorer",
    "sklearn.model_selection._split": "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut "
    "PredefinedSplit RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold "
    "StratifiedKFold StratifiedShuffleSplit "
    "TimeSeriesSplit _CVIterableWrapper",
    "sklearn.multiclass": "_ConstantPredictor",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.utils.validation": "check_array",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest MetadataRouter MethodMapping MethodPair",
}
HARMLESS = frozenset(
    f"{module}.{name}" for module, names in _NAMES.items() for name in names.split()
)
