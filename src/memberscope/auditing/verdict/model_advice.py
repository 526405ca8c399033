"""Advise what may lower the leakage of a model, by the kind of model that it is.

Each kind has measures of its own, the names that `memberscope defend` has for them, and the
command that shows what they gain and cost.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from memberscope.auditing.documents.diagnostics import ModelDescription
from memberscope.types import Task

UNKNOWN = ModelDescription("unknown")
CONFIGURATION = "audit.toml"  # stands for the configuration, whose name a judgement does not know
OUT = "memberscope-restricted"  # another folder, so that the first audit is kept


# The restriction to try for numbers and for several labels
OUTPUT_LIMITS: dict[Task, str] = {
    "regression": "digits:2",
    "forecast": "digits:2",
    "multilabel": "labels",
}
LIMIT_WORDS = {
    "label": "the label alone",
    "labels": "the labels alone",
    "digits:2": "numbers with two significant digits",
}


@dataclass(frozen=True)
class Measures:
    """What may help one kind of model: in words, and as names of defences.

    `{p}` in a name stands for what is before the names of the model's parameters.
    """

    words: str
    defences: tuple[str, ...] = ()


GENERAL = Measures("stop training earlier and regularise more")
# By kind and library; the first part of a class's name that fits decides, the empty one fits all
MEASURES: dict[str, tuple[tuple[str, str, Measures], ...]] = {
    "generator": (
        (
            "",
            "",
            Measures(
                "let the generator keep less of single records (more records in each leaf, fewer "
                "epochs, a proof of differential privacy), release fewer rows, and leave out rows "
                "that equal a member"
            ),
        ),
    ),
    "boosted_trees": (
        (
            "lightgbm",
            "",
            Measures(
                "allow fewer leaves (num_leaves) and more records in each (min_child_samples), lower "
                "the learning rate with early stopping, and let each tree see a part of the records "
                "(subsample with subsample_freq)",
                (
                    "leaves:15",
                    "leaf_size:50",
                    "rate:0.03",
                    "subsample:0.7+set:{p}subsample_freq=1",
                ),
            ),
        ),
        (
            "xgboost",
            "",
            Measures(
                "grow shallower trees (max_depth) with more records in each leaf "
                "(min_child_weight), lower the learning rate with early stopping, and let each tree "
                "see a part of the records (subsample)",
                ("depth:3", "leaf_size:10", "rate:0.03", "subsample:0.7"),
            ),
        ),
        (
            "catboost",
            "",
            Measures(
                "grow shallower trees (depth) with a larger l2_leaf_reg, lower the learning rate "
                "with early stopping, and let each tree see a part of the records (subsample)",
                (
                    "set:{p}depth=4",
                    "set:{p}l2_leaf_reg=10",
                    "set:{p}learning_rate=0.03",
                    "set:{p}subsample=0.7+set:{p}bootstrap_type=Bernoulli",
                ),
            ),
        ),
        (
            "",
            "HistGradientBoosting",
            Measures(
                "allow fewer leaves (max_leaf_nodes) and more records in each (min_samples_leaf), "
                "and lower the learning rate with early stopping",
                ("leaves:15", "leaf_size:50", "rate:0.03+set:{p}early_stopping=True"),
            ),
        ),
        (
            "",
            "",
            Measures(
                "allow fewer leaves (max_leaf_nodes) and more records in each (min_samples_leaf), "
                "lower the learning rate with early stopping (n_iter_no_change), and let each tree "
                "see a part of the records (subsample)",
                (
                    "leaves:8",
                    "leaf_size:50",
                    "rate:0.03+set:{p}n_iter_no_change=5",
                    "subsample:0.7",
                ),
            ),
        ),
    ),
    "forest": (
        (
            "",
            "",
            Measures(
                "require more records in each leaf (min_samples_leaf) and grow shallower trees "
                "(max_depth)",
                ("leaf_size:10|50", "depth:4|8"),
            ),
        ),
    ),
    "tree": (
        (
            "",
            "",
            Measures(
                "require more records in each leaf (min_samples_leaf) and grow a shallower tree "
                "(max_depth)",
                ("leaf_size:10|50", "depth:4|8"),
            ),
        ),
    ),
    "linear": (
        # Here the strength is a factor of the loss of one record, and usual values are small
        *(
            (
                "",
                name,
                Measures("regularise more strongly (a larger alpha)", ("strength:0.001|0.01",)),
            )
            for name in ("SGD", "Perceptron")
        ),
        *(
            (
                "",
                name,
                Measures("regularise more strongly (a larger alpha)", ("strength:10|100",)),
            )
            for name in ("Ridge", "Lasso", "ElasticNet")
        ),
        ("", "", Measures("regularise more strongly (a smaller C)", ("strength:10|100",))),
    ),
    "neural_network": (
        (
            "sklearn",
            "",
            Measures(
                "stop training early and decay the weights more strongly (a larger alpha)",
                ("set:{p}early_stopping=True", "strength:0.01|0.1"),
            ),
        ),
        (
            "torch",
            "",
            Measures(
                "stop training early, decay the weights, augment the training data, or train with "
                "differential privacy (DP-SGD), the only one that proves anything",
                ("early_stopping", "l2:0.001", "augment:noise:0.1", "dpsgd:eps=8"),
            ),
        ),
        (
            "",
            "",
            Measures(
                "stop training early, decay the weights, augment the training data, or train with "
                "differential privacy (DP-SGD), the only one that proves anything"
            ),
        ),
    ),
}


@dataclass(frozen=True)
class ServingSetting:
    """What an audit knows of how its model is served and could be changed.

    `limits` is the restriction of outputs to try, None where none can help. `has_recipe` tells
    whether the audit could train models.
    """

    access: str
    limits: str | None
    has_recipe: bool


def choose_limits(
    access: str, restriction: str | None, n_classes: int, task: Task = "classification"
) -> str | None:
    """Choose the restriction of outputs to try next; None where there is none.

    >>> choose_limits("prediction", None, 0, "regression")
    'digits:2'
    >>> choose_limits("probabilities", None, 10), choose_limits("probabilities", "top:3", 10)
    ('top:3+round:2', 'label')
    >>> choose_limits("label", None, 10) is None
    True
    """
    if access == "prediction":
        return OUTPUT_LIMITS.get(task) if restriction is None else None
    # Whoever sees labels alone, or holds the model, is not kept from anything by it
    if access not in ("probabilities", "logits") or n_classes < 2:
        return None
    if restriction is not None:
        return "label"
    # The first three of three classes would hide nothing
    return "top:3+round:2" if n_classes > 3 else "top:1+round:2"


def describe_measures(model: ModelDescription | None) -> str:
    """Describe in words what may lower the leakage of such a model when it is trained.

    >>> describe_measures(ModelDescription("forest", "sklearn", "RandomForestClassifier", ""))
    'require more records in each leaf (min_samples_leaf) and grow shallower trees (max_depth)'
    """
    return _find_measures(model or UNKNOWN).words


def list_training_defences(model: ModelDescription | None) -> tuple[str, ...]:
    """List names of defences of training that fit such a model, as `memberscope defend` takes them.

    >>> list_training_defences(ModelDescription("boosted_trees", "lightgbm", "LGBMClassifier", "m__"))[-1]
    'subsample:0.7+set:m__subsample_freq=1'
    """
    model = model or UNKNOWN
    # Without a way to the parameters of an estimator, its defences could not be applied
    if model.prefix is None and model.library != "torch":
        return ()
    return tuple(name.format(p=model.prefix or "") for name in _find_measures(model).defences)


def advise_on_leak(model: ModelDescription | None, setting: ServingSetting) -> str:
    """Advise what to do about a leak: what to change, and the command that measures it.

    >>> print(advise_on_leak(ModelDescription("tree", "sklearn", "DecisionTreeClassifier", ""),
    ...                      ServingSetting("label", None, True)))
    Require more records in each leaf (min_samples_leaf) and grow a shallower tree (max_depth). What each gains and costs: memberscope defend audit.toml --defences 'leaf_size:10|50,depth:4|8'
    """
    model = model or UNKNOWN
    words = describe_measures(model)
    words = words[0].upper() + words[1:]
    if setting.limits is not None:
        words += f"; or let the model answer less ({_describe_limits(setting.limits)})"
    elif setting.access == "white_box":
        words += "; or give out answers in place of the model itself"
    trained = () if model.source != "model" else list_training_defences(model)
    return f"{words}.{_suggest_command(model, setting, trained)}"


def _suggest_command(
    model: ModelDescription, setting: ServingSetting, trained: tuple[str, ...]
) -> str:
    """Suggest the command that measures what `trained` and the limits would do."""
    names = (*trained, *(() if setting.limits is None else (setting.limits,)))
    if not names:
        return " Then audit again."
    # Without a way to train, the audit itself shows what restricted answers leave
    if not trained and not setting.has_recipe:
        found = (
            f" What that leaves: memberscope audit {CONFIGURATION} --restrict {setting.limits} "
            f"--out {OUT}"
        )
        if model.source == "endpoint":
            found += f"; to enforce it: memberscope guard init --from {OUT}"
        return found
    recipe = "" if setting.has_recipe else " --recipe my_training:recipe"
    chosen = ",".join(names)
    # A bar would start another program in a shell, and steps of pipelines have any names
    chosen = shlex.quote(chosen)
    return (
        f" What each gains and costs: memberscope defend {CONFIGURATION}{recipe} "
        f"--defences {chosen}"
    )


def name_configuration(advice: str, arguments: str) -> str:
    """Write the advice on a leak with the `arguments` of the audit, quoted for a shell.

    >>> name_configuration("What it costs: memberscope defend audit.toml --defences l2:1", "mine.toml")
    'What it costs: memberscope defend mine.toml --defences l2:1'
    """
    for verb in ("audit", "defend"):
        start = f": memberscope {verb} "
        advice = advice.replace(f"{start}{CONFIGURATION} ", f"{start}{arguments} ")
    return advice


def _find_measures(model: ModelDescription) -> Measures:
    """Find the measures for a model, the general ones where its kind is unknown."""
    for library, name, found in MEASURES.get(model.kind, ()):
        if library in ("", model.library) and name in (model.name or ""):
            return found
    return GENERAL


def _describe_limits(limits: str) -> str:
    """Describe a restriction that `choose_limits` gives.

    >>> _describe_limits("top:3+round:2")
    'the 3 likeliest classes alone, with two decimals'
    """
    if limits in LIMIT_WORDS:
        return LIMIT_WORDS[limits]
    count = limits.partition("+")[0].partition(":")[2]
    classes = "the likeliest class" if count == "1" else f"the {count} likeliest classes"
    return f"{classes} alone, with two decimals"
