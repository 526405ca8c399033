"""Attacks on language models that read the tokens of a text, or texts that the model generates."""

from memberscope.attacks.text.base_model import BaseDifference, BaseRatio
from memberscope.attacks.text.ez import EZ
from memberscope.attacks.text.min_k import MinK, MinKPlusPlus
from memberscope.attacks.text.neighbourhood import make_neighbourhood_signal
from memberscope.attacks.text.ngram_coverage import (
    NgramCoverage,
    compute_ngram_coverage,
    split_in_halves,
)
from memberscope.attacks.text.own_text import Lowercase, ReCaLL, Zlib
from memberscope.attacks.text.token_classifier import TokenClassifier
from memberscope.attacks.text.token_dynamics import TokenDynamics
from memberscope.attacks.text.token_features import compute_token_features, list_token_features
from memberscope.attacks.text.wbc import WBC

__all__ = [
    "BaseDifference",
    "BaseRatio",
    "EZ",
    "Lowercase",
    "MinK",
    "MinKPlusPlus",
    "NgramCoverage",
    "ReCaLL",
    "TokenClassifier",
    "TokenDynamics",
    "WBC",
    "Zlib",
    "compute_ngram_coverage",
    "compute_token_features",
    "list_token_features",
    "make_neighbourhood_signal",
    "split_in_halves",
]
