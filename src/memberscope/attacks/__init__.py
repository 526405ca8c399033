"""The attacks: pure functions from evidence to scores, one a file.

They are named as the literature names them.

`ATTACKS` lists what an audit runs by default; those with reference models need a recipe that trains
them. `WHITE_BOX` are those that look inside the model. `TEXT_ATTACKS` run on language models, and
`OUTPUT_ATTACKS` on models that predict numbers or several labels. `VARIANTS` run where a plan names them:
published settings that differ from the default, for comparison with other work. Other packages add
theirs through the entry-point groups `memberscope.attacks` and `memberscope.signals`, each entry
naming an attack or a signal.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from memberscope.attacks._inputs import (
    has_log_ratio,
    true_class_log_probability,
    true_class_logit,
)
from memberscope.attacks._reference_stats import iterate_reference_blocks
from memberscope.attacks.attack_r import AttackR
from memberscope.attacks.bayes_base import BASE
from memberscope.attacks.calibrated import Calibrated
from memberscope.attacks.custom import (
    CustomAttack,
    CustomSignal,
    SignalAttack,
    as_signal,
    is_attack,
    is_signal,
    list_signal_attacks,
    wrap_attack,
)
from memberscope.attacks.influence import IHA, SelfInfluence
from memberscope.attacks.lira import LiRA, ProxyLiRA
from memberscope.attacks.lira_robust import RobustLiRA
from memberscope.attacks.nasr import Nasr
from memberscope.attacks.outputs import (
    ErrorQuantile,
    LabelGap,
    LabelLoss,
    LiRALabels,
    LiRAPrediction,
    LiRASeries,
    PredictionError,
    RMIALabels,
    RMIAPrediction,
    RobustLiRALabels,
    RobustLiRAPrediction,
)
from memberscope.attacks.quantile import Quantile
from memberscope.attacks.rmia import RMIA
from memberscope.attacks.robustness import Augmentation, Boundary, Noise, Transfer
from memberscope.attacks.shokri import Shokri
from memberscope.attacks.tables import ClosestRecord, Domias, NearnessAttack
from memberscope.attacks.text import (
    EZ,
    WBC,
    BaseDifference,
    BaseRatio,
    Lowercase,
    MinK,
    MinKPlusPlus,
    NgramCoverage,
    ReCaLL,
    TokenClassifier,
    TokenDynamics,
    Zlib,
    compute_ngram_coverage,
    compute_token_features,
    list_token_features,
    make_neighbourhood_signal,
    split_in_halves,
)
from memberscope.attacks.threshold import (
    Confidence,
    Entropy,
    Gap,
    GradientNorm,
    Logit,
    Loss,
    Margin,
    ModifiedEntropy,
    build_fold_scorer,
    build_fold_scorers,
)
from memberscope.errors import InputError
from memberscope.types import OUTPUT_TASKS, Attack, Task

# From labels alone, then from one query, then with reference models
ATTACKS: tuple[Attack, ...] = (
    Gap(),
    Gap("per_class"),
    Boundary(),
    Noise(),
    Augmentation(),
    LiRA(signal="boundary"),
    LiRA("offline", signal="boundary"),
    RMIA(signal="boundary"),
    Loss(),
    Loss("per_class"),
    Confidence(),
    Confidence("per_class"),
    Entropy(),
    Entropy("per_class"),
    ModifiedEntropy(),
    ModifiedEntropy("per_class"),
    Margin(),
    Margin("per_class"),
    Logit(),
    Logit("per_class"),
    Quantile("class"),
    Quantile(),
    LiRA(),
    LiRA("offline"),
    RobustLiRA(),
    RMIA(),
    RMIA("offline"),
    BASE(),
    Calibrated(),
    AttackR(),
    Shokri(),
    Shokri("statistics"),
)

WHITE_BOX: tuple[Attack, ...] = (
    GradientNorm(),
    GradientNorm("per_class"),
    Nasr("gradients"),
    SelfInfluence(),
    LiRA(signal="gradient_norm"),
    RMIA(signal="gradient_norm"),
)

# On language models: from generated texts, tokens of one query, weights, then with references
TEXT_ATTACKS: tuple[Attack, ...] = (
    NgramCoverage(),
    Loss(),
    Zlib(),
    Lowercase(),
    MinK(),
    MinKPlusPlus(),
    ReCaLL(),
    TokenDynamics(),
    BaseDifference(),
    BaseRatio(),
    WBC(),
    EZ(),
    GradientNorm(),
    TokenClassifier(),
    LiRA(),
    LiRA("offline"),
    RobustLiRA(),
    # Texts differ by tenths of a nat a token: hardly any beats another by a factor of two
    RMIA(gamma=1.0, temperature=1.0),
    RMIA("offline", gamma=1.0, temperature=1.0),
    BASE(temperature=1.0),
    Calibrated("log_confidence"),
    AttackR(),
)

# On models that predict numbers, then with references, then on those that give several labels
OUTPUT_ATTACKS: tuple[Attack, ...] = (
    PredictionError(),
    ErrorQuantile(),
    LiRAPrediction(),
    LiRAPrediction("offline"),
    RobustLiRAPrediction(),
    RMIAPrediction(),
    RMIAPrediction("offline"),
    LiRASeries(),
    LiRASeries("offline"),
    LabelGap(),
    LabelLoss(),
    LiRALabels(),
    LiRALabels("offline"),
    RobustLiRALabels(),
    RMIALabels(),
    RMIALabels("offline"),
)

# What stands for an attack on classes where numbers, or several labels, are predicted
NUMBER_COUNTERPARTS = {
    "gap": "prediction_error",
    "loss": "prediction_error",
    "quantile": "error_quantile",
    "lira": "lira_prediction",
    "lira_offline": "lira_prediction_offline",
    "lira_robust": "lira_prediction_robust",
    "rmia": "rmia_prediction",
    "rmia_offline": "rmia_prediction_offline",
}
LABEL_COUNTERPARTS = {
    "gap": "label_gap",
    "loss": "label_loss",
    "lira": "lira_labels",
    "lira_offline": "lira_labels_offline",
    "lira_robust": "lira_labels_robust",
    "rmia": "rmia_labels",
    "rmia_offline": "rmia_labels_offline",
}

# On released tables: by the table alone, beside a population, then with tables made like it
TABLE_ATTACKS: tuple[Attack, ...] = (
    ClosestRecord(),
    ClosestRecord("population"),
    Domias(),
    NearnessAttack(LiRA("offline")),
    NearnessAttack(),
    NearnessAttack(RMIA(gamma=1.0, signal="gradient_norm")),
    NearnessAttack(LiRA("offline"), "density"),
    NearnessAttack(LiRA(), "density"),
    NearnessAttack(RMIA(gamma=1.0, signal="gradient_norm"), "density"),
)

VARIANTS: tuple[Attack, ...] = (
    Quantile(model="pinball"),
    Quantile("class", "pinball"),
    *(
        LiRA(mode, variance)
        for mode in ("online", "offline")
        for variance in ("fixed", "per_example")
    ),
    LiRA("offline", sides="two"),
    LiRA("offline", "fixed", sides="two"),
    LiRA("offline", "per_example", sides="two"),
    LiRA("online", "per_example", centre="median"),
    ProxyLiRA(),
    RMIA(gamma=1.0),
    RMIA(temperature=1.0),
    RMIA("offline", gamma=1.0),
    RMIA("offline", temperature=1.0),
    BASE("offline"),
    Calibrated("log_confidence"),
    IHA(),
    Nasr("outputs"),
    Nasr(),
    Nasr("activations"),
    LiRA("offline", signal="gradient_norm"),
    RobustLiRA(signal="gradient_norm"),
    RMIA("offline", signal="gradient_norm"),
    LiRA(signal="influence"),
    RMIA(signal="influence"),
    Boundary("hopskipjump"),
    Transfer(),
    RobustLiRA("boundary"),
    LiRA(signal="noise"),
    LiRA("offline", signal="noise"),
    RobustLiRA("noise"),
    RMIA(signal="noise"),
    LiRAPrediction(covariance="diagonal"),
    RMIAPrediction(density="laplace"),
    LiRALabels(covariance="shrunk"),
)

GROUP = "memberscope.attacks"
SIGNALS_GROUP = "memberscope.signals"

__all__ = [
    "ATTACKS",
    "AttackR",
    "Augmentation",
    "BASE",
    "BaseDifference",
    "BaseRatio",
    "Boundary",
    "Calibrated",
    "ClosestRecord",
    "Confidence",
    "CustomAttack",
    "CustomSignal",
    "Domias",
    "EZ",
    "Entropy",
    "ErrorQuantile",
    "Gap",
    "GradientNorm",
    "IHA",
    "LabelGap",
    "LabelLoss",
    "LiRA",
    "LiRALabels",
    "LiRAPrediction",
    "LiRASeries",
    "Logit",
    "Loss",
    "Lowercase",
    "Margin",
    "MinK",
    "MinKPlusPlus",
    "ModifiedEntropy",
    "Nasr",
    "NearnessAttack",
    "NgramCoverage",
    "Noise",
    "OUTPUT_ATTACKS",
    "PredictionError",
    "ProxyLiRA",
    "Quantile",
    "RMIA",
    "RMIALabels",
    "RMIAPrediction",
    "ReCaLL",
    "RobustLiRA",
    "RobustLiRALabels",
    "RobustLiRAPrediction",
    "SelfInfluence",
    "Shokri",
    "SignalAttack",
    "TABLE_ATTACKS",
    "TEXT_ATTACKS",
    "TokenClassifier",
    "TokenDynamics",
    "Transfer",
    "VARIANTS",
    "WBC",
    "WHITE_BOX",
    "Zlib",
    "as_signal",
    "build_fold_scorer",
    "build_fold_scorers",
    "compute_ngram_coverage",
    "compute_token_features",
    "find_attacks",
    "find_counterpart",
    "has_log_ratio",
    "is_attack",
    "is_shipped",
    "is_signal",
    "iterate_reference_blocks",
    "list_attacks",
    "list_signal_attacks",
    "list_token_features",
    "make_neighbourhood_signal",
    "split_in_halves",
    "true_class_log_probability",
    "true_class_logit",
    "wrap_attack",
]


def list_attacks(task: Task = "classification") -> dict[str, Attack]:
    """List every attack by name: the bundled ones first, then those of installed packages.

    Of the task `text` those on language models come first; the others, which fall away, are listed
    so that a schedule can say why.

    >>> list(list_attacks())[:3], list(list_attacks("text"))[:3]
    (['gap', 'gap_per_class', 'boundary'], ['ngram_coverage', 'loss', 'zlib'])
    >>> list(list_attacks("multilabel"))[:3]
    ['label_gap', 'label_loss', 'lira_labels']
    """
    classes = (*ATTACKS, *WHITE_BOX)
    bundled = classes
    own = {"text": TEXT_ATTACKS, "table": TABLE_ATTACKS}.get(task, OUTPUT_ATTACKS)
    if task != "classification":
        # What runs on texts as well is in the first list, with the settings that suit them
        suited = tuple(one for one in own if task in one.needs.tasks)
        bundled = (*suited, *(one for one in classes if task not in one.needs.tasks))
    found: dict[str, Attack] = {attack.name: attack for attack in bundled}
    for attack in _load_registered_attacks():
        # A bundled attack keeps its name: another package cannot silently replace it
        found.setdefault(attack.name, attack)
    return found


def find_counterpart(attack: Attack, task: Task) -> Attack | None:
    """Find the bundled attack that is the same on models of a task, with settings that suit them.

    None if there is none, or if the attack itself runs on them.

    >>> find_counterpart(RMIA(), "text").name, find_counterpart(Gap(), "text")
    ('rmia_gamma1_t1', None)
    >>> find_counterpart(RMIA(), "regression").name
    'rmia_prediction'
    """
    if task in attack.needs.tasks:
        return None
    if task in OUTPUT_TASKS:
        names = LABEL_COUNTERPARTS if task == "multilabel" else NUMBER_COUNTERPARTS
        return list_attacks(task).get(names.get(attack.name, ""))
    found = (
        one
        for one in list_attacks(task).values()
        if type(one) is type(attack)
        and task in one.needs.tasks
        and one.name.startswith(f"{attack.name}_")
    )
    return next(found, None)


@cache
def _load_registered_attacks() -> tuple[Attack, ...]:
    """Load the attacks that installed packages register.

    Once a process: each look reads the metadata of every package.
    """
    found: list[Attack] = [wrap_attack(_load_entry(entry)) for entry in entry_points(group=GROUP)]
    for entry in entry_points(group=SIGNALS_GROUP):
        found += list_signal_attacks(as_signal(_load_entry(entry)))
    return tuple(found)


def _load_entry(entry: EntryPoint) -> Any:
    """Load what an installed package registers.

    Raises:
        InputError: It cannot be imported.
    """
    try:
        return entry.load()
    # Code of others may raise anything when it is imported
    except Exception as error:
        package = entry.dist.name if entry.dist else "a package"
        raise InputError(
            f"Expected {entry.name} of {package} ({entry.value}), got {type(error).__name__}: "
            f"{error}. Repair or uninstall {package}."
        ) from error


def is_shipped(name: str) -> bool:
    """Tell whether an attack of this name comes with this package.

    >>> is_shipped("gap"), is_shipped("my_attack")
    (True, False)
    """
    return name in _list_shipped_names()


@cache
def _list_shipped_names() -> frozenset[str]:
    """List the names of the attacks that come with this package."""
    return frozenset(
        attack.name
        for attack in (
            *ATTACKS,
            *WHITE_BOX,
            *VARIANTS,
            *TEXT_ATTACKS,
            *OUTPUT_ATTACKS,
            *TABLE_ATTACKS,
        )
    )


def find_attacks(names: tuple[str, ...], custom: tuple[Attack, ...] = ()) -> tuple[Attack, ...]:
    """Find the attacks called `names`, variants and those of `custom` included, in that order.

    Raises:
        InputError: A name is unknown.

    >>> [attack.name for attack in find_attacks(("logit", "gap"))]
    ['logit', 'gap']
    """
    usual = list_attacks()
    known = {
        attack.name: attack
        for attack in (*VARIANTS, *TEXT_ATTACKS, *OUTPUT_ATTACKS, *TABLE_ATTACKS)
    } | usual
    # A plan's own code comes before that of an installed package
    known |= {attack.name: attack for attack in custom}
    for name in names:
        if name not in known:
            raise InputError(
                f"Expected an attack among {', '.join(usual)}, got {name!r}. `memberscope list "
                "attacks` describes each."
            )
    return tuple(known[name] for name in names)
