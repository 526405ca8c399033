"""Wrap LightGBM and XGBoost models of their own libraries; classes are 0-based."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.frames import (
    cast_values,
    find_columns,
    is_frame,
    make_dense_array,
    pick_columns,
    rename_frame,
    select_columns,
)
from memberscope.targets.answers.one_vs_all import divide_by_sums
from memberscope.targets.answers.output_kind import (
    Outputs,
    expand_to_classes,
    find_signal_access,
    parse_declared_outputs,
)
from memberscope.targets.answers.real_outputs import arrange_outputs, find_task_signal
from memberscope.targets.files.booster_files import check_lightgbm, parse_lightgbm_header
from memberscope.targets.files.xgboost_files import check_xgboost
from memberscope.targets.tasks import AUDITED, WORDS, build_task_error, recognise_objective
from memberscope.types import OUTPUT_TASKS, Access, Floats, Signal, Task

# What each objective can give, the default first
LIGHTGBM: dict[str, tuple[Outputs, ...]] = {
    "binary": ("probabilities", "logits"),
    "multiclass": ("probabilities", "logits"),
    # Each class has a probability of its own; they are divided by their sum
    "multiclassova": ("probabilities",),
}
XGBOOST: dict[str, tuple[Outputs, ...]] = {
    "binary:logistic": ("probabilities", "logits"),
    "multi:softprob": ("probabilities", "logits"),
    # Predicts labels; its margins give the probabilities
    "multi:softmax": ("probabilities", "logits"),
    "binary:logitraw": ("logits",),
    "binary:hinge": ("labels",),
}


@dataclass(frozen=True)
class Ensemble:
    """A booster of either library.

    `predict` maps the library's own kind of records to what is asked for. One that predicts numbers
    or several labels offers no choice of outputs, and `n_classes` is the number of these.
    """

    library: str
    task: Task
    offers: tuple[Outputs, ...]
    n_classes: int
    features: tuple[str, ...]
    has_names: bool
    categories: tuple[str, ...]
    predict: Callable[[Any, Outputs | None], Any]
    n_parameters: Callable[[], int]


class BoosterTarget:
    """A LightGBM or XGBoost `Booster`; its objective says what it predicts.

    A classifier gives probabilities, unless logits are declared; with other objectives the answers
    are numbers (n, d), or the probabilities (n, k) of several labels. Columns of a data frame are found by the
    names that the booster was trained with, whatever their order. After early stopping the trees up
    to the best iteration count, as in the libraries' classifiers.

    >>> import lightgbm
    >>> data = lightgbm.Dataset(np.arange(80.0)[:, None], np.arange(80) > 39)
    >>> booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 2)
    >>> BoosterTarget(booster).query(np.array([[1.0], [70.0]])).argmax(axis=1).tolist()
    [0, 1]
    """

    def __init__(
        self,
        booster: Any,
        *,
        outputs: str | None = None,
        digest: str | None = None,
        task: Task | None = None,
    ) -> None:
        """Wrap a `booster`; `digest` is that of the file it came from, if any.

        Raises:
            InputError: Its objective is of another `task`, or does not give these `outputs`.
        """
        self.booster = booster
        self.ensemble = (
            _build_lightgbm_ensemble(booster, task)
            # Only LightGBM's boosters have this method, and neither library need be imported
            if hasattr(booster, "num_trees")
            else _build_xgboost_ensemble(booster, task)
        )
        self.task: Task = self.ensemble.task
        self.n_classes = self.ensemble.n_classes
        self._digest = digest
        self._outputs: Outputs | None = None
        if self.task in OUTPUT_TASKS:
            self.signal: Signal = find_task_signal(self.task)
            self.access = Access.PREDICTION
            return
        word = parse_declared_outputs(outputs) or self.ensemble.offers[0]
        if word not in self.ensemble.offers:
            offers = " or ".join(self.ensemble.offers)
            raise InputError(
                f"Expected outputs {offers} of this {self.ensemble.library} model, got {word!r}. "
                "Declare one of them with --outputs."
            )
        self.signal = self._outputs = word
        self.access = find_signal_access(word)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the booster was trained with.

        They are empty if it was trained without names.
        """
        return self.ensemble.features if self.ensemble.has_names else ()

    @property
    def digest(self) -> str | None:
        """Hash of the file, or of what would be saved, and of what the outputs are."""
        content = self._digest or hashlib.sha256(_serialise_booster(self.booster)).hexdigest()
        return hashlib.sha256(
            f"{self.ensemble.library}:{self.signal}:{content}".encode()
        ).hexdigest()

    @property
    def n_parameters(self) -> int | None:
        """Number of nodes of all trees."""
        return self.ensemble.n_parameters()

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, k) for the records `x`.

        Raises:
            InputError: `x` lacks a column, or has another number of them.
        """
        records = self._records(x)
        answers = self.ensemble.predict(records, self._outputs)
        if self.task in OUTPUT_TASKS:
            name = f"the {self.ensemble.library} model"
            return arrange_outputs(answers, len(records), self.n_classes, name=name)
        return expand_to_classes(answers, self.signal)

    def _records(self, x: Any) -> Any:
        """Put the columns in the order of the booster.

        They are numbers (n, f), or a pandas frame where some are categories.
        """
        what = f"{self.ensemble.library} model"
        # Without names columns go by position, also those of a data frame
        if not self.ensemble.has_names and is_frame(x):
            x = make_dense_array(x)
        # Category codes depend on pandas' own lists, so that plain numbers would be read wrongly
        if self.ensemble.categories:
            return self._frame(x, what)
        columns = select_columns(x, self.ensemble.features, what)
        pairs = zip(self.ensemble.features, columns, strict=True)
        return np.column_stack(
            [cast_values(column, np.dtype(np.float64), name) for name, column in pairs]
        )

    def _frame(self, x: Any, what: str) -> Any:
        """Make a pandas frame with categories where the booster has them.

        Those of a pandas frame are kept.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError(
                "Expected pandas for a model with categories, got none. Run `pip install pandas`."
            ) from error
        features = list(self.ensemble.features)
        # Its own categories are kept, which the booster compares with those of the training
        if isinstance(x, pandas.DataFrame):
            frame = rename_frame(pick_columns(x, find_columns(x, features, what)), features)
        else:
            frame = pandas.DataFrame(
                dict(zip(features, select_columns(x, features, what), strict=True))
            )
        return frame.astype(
            {
                name: "category"
                for name in self.ensemble.categories
                if frame[name].dtype.name != "category"
            }
        )


def _serialise_booster(booster: Any) -> bytes:
    """Serialise a booster as its library would save it."""
    return (
        booster.model_to_string().encode()
        if hasattr(booster, "num_trees")
        else bytes(booster.save_raw("ubj"))
    )


def _build_lightgbm_ensemble(booster: Any, given: Task | None) -> Ensemble:
    """Describe a LightGBM booster.

    Raises:
        InputError: Its objective is of another task.
    """
    text = booster.model_to_string()
    header = parse_lightgbm_header(text)
    task = _choose_objective_task("LightGBM", header.objective[0], given, several=False)
    offers = _find_objective_outputs("LightGBM", header.objective[0], LIGHTGBM, task)
    # Raw scores are multiplied by this before the sigmoid, so that logits must be too
    scale = next((float(word[8:]) for word in header.objective if word.startswith("sigmoid:")), 1.0)

    def predict(records: Any, outputs: Outputs | None) -> Any:
        if outputs == "logits":
            return scale * booster.predict(records, raw_score=True)
        answers = booster.predict(records)
        return divide_by_sums(answers) if header.objective[0] == "multiclassova" else answers

    return Ensemble(
        library="LightGBM",
        task=task,
        offers=offers,
        n_classes=header.n_classes if task in OUTPUT_TASKS else max(2, header.n_classes),
        # LightGBM makes up names where it was given none
        features=header.features,
        # Made-up names must not be looked for in a data frame
        has_names=header.features != tuple(f"Column_{i}" for i in range(len(header.features))),
        categories=header.categories if booster.pandas_categorical else (),
        predict=predict,
        # A binary tree of n leaves has 2n - 1 nodes
        n_parameters=lambda: sum(
            2 * int(line[11:]) - 1 for line in text.splitlines() if line.startswith("num_leaves=")
        ),
    )


def _build_xgboost_ensemble(booster: Any, given: Task | None) -> Ensemble:
    """Describe an XGBoost booster.

    Raises:
        InputError: Its objective is of another task.
    """
    import xgboost as library

    # XGBoost offers its objective only in this text
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    n_targets = int(learner["learner_model_param"].get("num_target", 1))
    task = _choose_objective_task("XGBoost", objective, given, several=n_targets > 1)
    offers = _find_objective_outputs("XGBoost", objective, XGBOOST, task)
    names, kinds = booster.feature_names, booster.feature_types
    # The attribute is text in the file, which anybody may have edited
    best = booster.attr("best_iteration")
    if best and (not best.isdigit() or int(best) >= booster.num_boosted_rounds()):
        raise InputError(
            f"Expected a best iteration below {booster.num_boosted_rounds()} of the XGBoost model, "
            f"got {best!r}. Save it again."
        )
    # The range (0, 0) means all trees
    span = (0, int(best) + 1) if best else (0, 0)

    def predict(records: Any, outputs: Outputs | None) -> Any:
        # Categories come in a frame, plain numbers with the booster's own names
        if is_frame(records):
            data = library.DMatrix(records, enable_categorical=True)
        else:
            data = library.DMatrix(records, feature_names=names, feature_types=kinds)
        # That objective predicts labels: its probabilities are computed from margins
        margins = outputs == "logits" or (outputs is not None and objective == "multi:softmax")
        values = booster.predict(data, output_margin=margins, iteration_range=span)
        return _normalise_margins(values) if margins and outputs == "probabilities" else values

    features = tuple(names or (f"column {i}" for i in range(booster.num_features())))
    return Ensemble(
        library="XGBoost",
        task=task,
        offers=offers,
        n_classes=(
            max(1, n_targets, _count_quantiles(learner["objective"]))
            if task in OUTPUT_TASKS
            else max(2, int(learner["learner_model_param"]["num_class"]))
        ),
        features=features,
        has_names=names is not None,
        categories=tuple(
            name for name, kind in zip(features, kinds or (), strict=False) if kind == "c"
        ),
        predict=predict,
        n_parameters=lambda: _count_nodes(booster),
    )


def _count_nodes(booster: Any) -> int:
    """Count the nodes of all trees of an XGBoost booster."""
    # A dump has one line for each node
    return sum(tree.count("\n") for tree in booster.get_dump())


def _normalise_margins(margins: Any) -> Floats:
    """Convert margins (n, k) to probabilities (n, k)."""
    from scipy.special import softmax as normalised

    return np.asarray(normalised(np.asarray(margins, dtype=np.float64), axis=1))


def _count_quantiles(objective: Any) -> int:
    """Count the quantiles that an objective of XGBoost predicts; 0 for others.

    >>> _count_quantiles({"quantile_loss_param": {"quantile_alpha": "[0.1, 0.9]"}})
    2
    """
    given = objective.get("quantile_loss_param", {}).get("quantile_alpha", "")
    return len(given.split(",")) if given else 0


def _choose_objective_task(
    library: str, objective: str, given: Task | None, *, several: bool
) -> Task:
    """Choose the task of a booster by its objective, and whether it has several outputs.

    Raises:
        InputError: It does something that is not audited, or contradicts the `given` task.

    >>> _choose_objective_task("XGBoost", "reg:squarederror", None, several=True)
    'regression'
    """
    kind = recognise_objective(objective)
    if kind is None and several:
        kind = "several labels"
    name = f"of {library} with the objective {objective}"
    # The user's own objective says nothing, and neither do rare ones
    if kind is None:
        known = objective in (LIGHTGBM if library == "LightGBM" else XGBOOST)
        binary = objective in ("binary", "binary:logistic")
        if given is None or given == "classification" or (binary and given == "multilabel"):
            return given or "classification"
        if not known and given != "multilabel":
            return given
        kind = "classification"
    if kind not in AUDITED:
        raise build_task_error(kind, name)
    if given is None or given in AUDITED[kind]:
        return given or AUDITED[kind][0]
    words, advice = WORDS[kind]
    raise InputError(f'Expected a model for task="{given}", got {words.format(name)}. {advice}')


def _find_objective_outputs(
    library: str, objective: str, known: dict[str, tuple[Outputs, ...]], task: Task
) -> tuple[Outputs, ...]:
    """Find what a model of this objective can answer, of which a classifier's user may choose.

    Raises:
        InputError: It is not classification.
    """
    if task in OUTPUT_TASKS:
        return ()
    if objective not in known:
        raise InputError(
            f"Expected a known objective of {library} ({', '.join(known)}), got {objective!r}. "
            'Give task="regression" if it predicts numbers, or wrap the model in a function that '
            "returns probabilities."
        )
    return known[objective]


def load_lightgbm(
    path: Path, *, outputs: str | None = None, task: Task | None = None
) -> BoosterTarget:
    """Load the model in a LightGBM text file.

    Raises:
        InputError: lightgbm is not installed, the file is damaged, or it is of another task.
    """
    # Before the library opens the file: it follows indices without checks
    check_lightgbm(path)
    try:
        import lightgbm as library
    except (ImportError, OSError) as error:
        raise InputError(
            f"Expected lightgbm, got: {error}. Run `pip install memberscope[boost]`."
        ) from error
    return _load_booster(path, lambda: library.Booster(model_file=str(path)), outputs, task)


def load_xgboost(
    path: Path, *, outputs: str | None = None, task: Task | None = None
) -> BoosterTarget:
    """Load the model in an XGBoost `.json` or `.ubj` file.

    Raises:
        InputError: xgboost is not installed, the file is damaged, or it is of another task.
    """
    try:
        import xgboost as library
    except (ImportError, OSError) as error:
        raise InputError(f"Expected xgboost, got: {error}. Run `pip install xgboost`.") from error
    check_xgboost(path)
    return _load_booster(path, lambda: library.Booster(model_file=str(path)), outputs, task)


def _load_booster(
    path: Path, load: Callable[[], Any], outputs: str | None, task: Task | None
) -> BoosterTarget:
    """Make a target of what `load` reads from `path`.

    Raises:
        InputError: The file is damaged, or it is of another task.
    """
    # The file's own hash, which stays the same whatever the library's version
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        booster = load()
    except Exception as error:  # the libraries raise errors of their own
        # Without the time and place in C++ that the library puts in front
        lines = [
            re.sub(r"^\[[\d:]+\] \S+ ", "", line).strip(" :") for line in str(error).splitlines()
        ]
        first = next((line for line in lines if line), type(error).__name__)
        raise InputError(
            f"Expected a complete booster, got {path}: {first}. Save it again with save_model()."
        ) from error
    return BoosterTarget(booster, outputs=outputs, digest=digest, task=task)
