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
from memberscope.targets.files.booster_files import check_lightgbm, parse_lightgbm_header
from memberscope.targets.files.xgboost_files import check_xgboost
from memberscope.targets.tasks import build_task_error, refuse_objective
from memberscope.types import Floats, Signal

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

    `predict` maps the library's own kind of records to what is asked for.
    """

    library: str
    offers: tuple[Outputs, ...]
    n_classes: int
    features: tuple[str, ...]
    has_names: bool
    categories: tuple[str, ...]
    predict: Callable[[Any, Outputs], Any]
    n_parameters: Callable[[], int]


class BoosterTarget:
    """A LightGBM or XGBoost `Booster` with a classification objective.

    It gives probabilities, unless logits are declared. Columns of a data frame are found by the
    names that the booster was trained with, whatever their order. After early stopping the trees up
    to the best iteration count, as in the libraries' classifiers.

    >>> import lightgbm
    >>> data = lightgbm.Dataset(np.arange(80.0)[:, None], np.arange(80) > 39)
    >>> booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 2)
    >>> BoosterTarget(booster).query(np.array([[1.0], [70.0]])).argmax(axis=1).tolist()
    [0, 1]
    """

    def __init__(
        self, booster: Any, *, outputs: str | None = None, digest: str | None = None
    ) -> None:
        """Wrap a `booster`; `digest` is that of the file it came from, if any.

        Raises:
            InputError: Its objective is not classification, or does not give these `outputs`.
        """
        self.booster = booster
        self.ensemble = (
            _build_lightgbm_ensemble(booster)
            # Only LightGBM's boosters have this method, and neither library need be imported
            if hasattr(booster, "num_trees")
            else _build_xgboost_ensemble(booster)
        )
        word = parse_declared_outputs(outputs) or self.ensemble.offers[0]
        if word not in self.ensemble.offers:
            offers = " or ".join(self.ensemble.offers)
            raise InputError(
                f"Expected outputs {offers} of this {self.ensemble.library} model, got {word!r}. "
                "Declare one of them with --outputs."
            )
        self.signal: Signal = word
        self.access = find_signal_access(word)
        self.n_classes = self.ensemble.n_classes
        self._outputs, self._digest = word, digest

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
        return expand_to_classes(
            self.ensemble.predict(self._records(x), self._outputs), self.signal
        )

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


def _build_lightgbm_ensemble(booster: Any) -> Ensemble:
    """Describe a LightGBM booster.

    Raises:
        InputError: Its objective is not classification.
    """
    text = booster.model_to_string()
    header = parse_lightgbm_header(text)
    offers = _find_objective_outputs("LightGBM", header.objective[0], LIGHTGBM)
    # Raw scores are multiplied by this before the sigmoid, so that logits must be too
    scale = next((float(word[8:]) for word in header.objective if word.startswith("sigmoid:")), 1.0)

    def predict(records: Any, outputs: Outputs) -> Any:
        if outputs == "logits":
            return scale * booster.predict(records, raw_score=True)
        answers = booster.predict(records)
        return divide_by_sums(answers) if header.objective[0] == "multiclassova" else answers

    return Ensemble(
        library="LightGBM",
        offers=offers,
        n_classes=max(2, header.n_classes),
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


def _build_xgboost_ensemble(booster: Any) -> Ensemble:
    """Describe an XGBoost booster.

    Raises:
        InputError: Its objective is not classification.
    """
    import xgboost as library

    # XGBoost offers its objective only in this text
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    offers = _find_objective_outputs("XGBoost", objective, XGBOOST)
    if int(learner["learner_model_param"].get("num_target", 1)) > 1:
        raise build_task_error("several labels", "of XGBoost")
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

    def predict(records: Any, outputs: Outputs) -> Any:
        # Categories come in a frame, plain numbers with the booster's own names
        if is_frame(records):
            data = library.DMatrix(records, enable_categorical=True)
        else:
            data = library.DMatrix(records, feature_names=names, feature_types=kinds)
        # That objective predicts labels: its probabilities are computed from margins
        margins = outputs == "logits" or objective == "multi:softmax"
        values = booster.predict(data, output_margin=margins, iteration_range=span)
        return _normalise_margins(values) if margins and outputs == "probabilities" else values

    features = tuple(names or (f"column {i}" for i in range(booster.num_features())))
    return Ensemble(
        library="XGBoost",
        offers=offers,
        n_classes=max(2, int(learner["learner_model_param"]["num_class"])),
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


def _find_objective_outputs(
    library: str, objective: str, known: dict[str, tuple[Outputs, ...]]
) -> tuple[Outputs, ...]:
    """Find what a model of this objective can answer.

    Raises:
        InputError: It is not classification.
    """
    # Known objectives of other tasks first, whose message has advice of its own
    refuse_objective(library, objective)
    if objective not in known:
        raise InputError(
            f"Expected a classification objective of {library} ({', '.join(known)}), got "
            f"{objective!r}. Wrap other models in a function that returns probabilities."
        )
    return known[objective]


def load_lightgbm(path: Path, *, outputs: str | None = None) -> BoosterTarget:
    """Load the model in a LightGBM text file.

    Raises:
        InputError: lightgbm is not installed, the file is damaged, or it is not a classifier.
    """
    # Before the library opens the file: it follows indices without checks
    check_lightgbm(path)
    try:
        import lightgbm as library
    except (ImportError, OSError) as error:
        raise InputError(
            f"Expected lightgbm, got: {error}. Run `pip install memberscope[boost]`."
        ) from error
    return _load_booster(path, lambda: library.Booster(model_file=str(path)), outputs)


def load_xgboost(path: Path, *, outputs: str | None = None) -> BoosterTarget:
    """Load the model in an XGBoost `.json` or `.ubj` file.

    Raises:
        InputError: xgboost is not installed, the file is damaged, or it is not a classifier.
    """
    try:
        import xgboost as library
    except (ImportError, OSError) as error:
        raise InputError(f"Expected xgboost, got: {error}. Run `pip install xgboost`.") from error
    check_xgboost(path)
    return _load_booster(path, lambda: library.Booster(model_file=str(path)), outputs)


def _load_booster(path: Path, load: Callable[[], Any], outputs: str | None) -> BoosterTarget:
    """Make a target of what `load` reads from `path`.

    Raises:
        InputError: The file is damaged, or it is not a classifier.
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
    return BoosterTarget(booster, outputs=outputs, digest=digest)
