"""Check XGBoost model files before the library reads them.

It follows their indices without checks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets.files.archives import refuse_repeated_keys
from memberscope.targets.files.tree_nodes import DEEPEST, LEAF, walk_tree
from memberscope.targets.files.ubjson import read_ubjson
from memberscope.types import Ints

MOST_OUTPUTS = 100_000  # far more than any model has; bounds what a hostile file can allocate
# The largest whole number of 32 bits
MOST_FEATURES = 2**31 - 1
MOST_CATEGORIES = 2**24  # the limit of XGBoost, which stores them as the whole numbers of a float
Document = dict[str, Any]


def check_xgboost(path: Path) -> None:
    """Refuse a damaged or hostile XGBoost file.

    The library would read beyond its memory in it, or never end.

    Raises:
        InputError: It is not a complete model.
        UnsafeFileError: It uses nodes, features, categories or outputs that do not exist.
    """
    document = _read_document(path)
    try:
        learner = document["learner"]
        facts = learner["learner_model_param"]
        n_features, n_classes = (
            _parse_whole_number(facts["num_feature"], MOST_FEATURES),
            _parse_whole_number(facts["num_class"], MOST_OUTPUTS),
        )
        # A binary model counts 0 classes and has one output
        outputs = max(1, n_classes, _parse_whole_number(facts.get("num_target", "1"), MOST_OUTPUTS))
        for name in ("feature_names", "feature_types"):
            # Names and types of features are optional, but complete if they are there
            if len(learner.get(name, [])) not in (0, n_features):
                raise ValueError(f"{name} are not as many as the features")
        _check_objective(learner["objective"], n_classes)
        _check_base_score(facts["base_score"], outputs)
        booster = learner["gradient_booster"]
        # A linear model has no trees: one weight for each feature and one bias, for each output
        if booster["name"] == "gblinear":
            if len(booster["model"]["weights"]) != (n_features + 1) * outputs:
                raise ValueError("weights are not as many as the features")
            return
        # DART holds its trees one level deeper, with a weight for each
        trees = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
        _check_model(trees, n_features, outputs)
        if booster["name"] == "dart" and len(booster["weight_drop"]) != len(trees["trees"]):
            raise ValueError("weights are not as many as the trees")
    except (ValueError, TypeError, AttributeError, OverflowError, IndexError) as error:
        raise UnsafeFileError(
            f"Expected an XGBoost model whose trees fit each other, got {path}, where {error}. Do "
            "not open it; save the model again."
        ) from error
    # A missing entry is damage; an entry that does not fit may be an attack
    except KeyError as error:
        raise InputError(
            f"Expected a complete booster, got {path} without {error}. Save it again with "
            "save_model()."
        ) from error


def _read_document(path: Path) -> Document:
    """Read the file's content, from JSON or from its binary form.

    Raises:
        InputError: It is neither, or cut, or nested too deeply.
    """
    content = path.read_bytes()
    try:
        binary = path.suffix.lower() == ".ubj"
        found = (
            read_ubjson(content)
            if binary
            # Of two equal keys, this reader and the library's might take different ones
            else json.loads(content, object_pairs_hook=refuse_repeated_keys)
        )
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except RecursionError as error:
        raise InputError(
            f"Expected a booster, got {path}, which is nested too deeply. Save it again with "
            "save_model()."
        ) from error
    except ValueError as error:
        raise InputError(
            f"Expected a complete booster, got {path}: {error}. Save it again with save_model()."
        ) from error
    return found


def _parse_whole_number(word: Any, most: int) -> int:
    """Parse a whole number that is written as a string.

    Raises:
        ValueError: It is not a whole number, or too large.
    """
    # XGBoost writes these numbers as strings
    found = int(word)
    if not 0 <= found <= most:
        raise ValueError(f"a number is {found}")
    return found


def _check_objective(objective: Document, n_classes: int) -> None:
    """Refuse an objective that counts other classes than the model.

    Raises:
        ValueError: It does.
    """
    # Softmax objectives count the classes themselves
    own = objective.get("softmax_multiclass_param")
    if own is not None and _parse_whole_number(own["num_class"], MOST_OUTPUTS) != n_classes:
        raise ValueError("the objective counts other classes than the model")


def _check_base_score(word: Any, outputs: int) -> None:
    """Refuse base scores that are neither one, nor one for each output.

    Raises:
        ValueError: They are not.
    """
    # A number or a list, as text or as it is
    found = np.atleast_1d(json.loads(word)) if isinstance(word, str) else np.atleast_1d(word)
    if found.dtype.kind not in "if" or found.ndim != 1 or len(found) not in (1, outputs):
        raise ValueError("base scores are not as many as the outputs")


def _check_model(model: Document, n_features: int, outputs: int) -> None:
    """Check all trees, and which output each adds to.

    Raises:
        ValueError: Something does not exist.
    """
    trees, groups = model["trees"], _as_whole_numbers(model["tree_info"])
    if (
        not len(trees)
        == len(groups)
        == _parse_whole_number(model["gbtree_model_param"]["num_trees"], 2**31)
    ):
        raise ValueError("trees are not as many as it says")
    if len(groups) and (groups.min() < 0 or groups.max() >= outputs):
        raise ValueError("a tree adds to an output that does not exist")
    # Where the trees of each iteration begin and end; older versions do not write it
    ends = _as_whole_numbers(model.get("iteration_indptr", []))
    if len(ends) and (ends[0] != 0 or ends[-1] != len(trees) or (np.diff(ends) < 0).any()):
        raise ValueError("iterations hold trees that do not exist")
    for tree in trees:
        _check_tree(tree, n_features)
    if "cats" in model:
        _check_names(model["cats"], n_features)


def _check_tree(tree: Document, n_features: int) -> None:
    """Check the nodes of one tree.

    All arrays have one entry for each node, the nodes form a tree, and only existing features and
    categories are used.

    Raises:
        ValueError: They are not.
    """
    facts = tree["tree_param"]
    n, width = (
        _parse_whole_number(facts["num_nodes"], 2**31),
        _parse_whole_number(facts.get("size_leaf_vector", "1"), MOST_OUTPUTS),
    )
    # Vector leaves belong to models of several targets, which are not audited
    if width > 1:
        raise ValueError("a tree has several outputs")
    if _parse_whole_number(facts["num_feature"], MOST_FEATURES) != n_features:
        raise ValueError("a tree has another number of features than the model")
    # Statistics that not every version writes; if they are there, they are read for each node
    optional = [
        name
        for name in ("split_type", "base_weights", "loss_changes", "sum_hessian")
        if name in tree
    ]
    for name in (
        "left_children",
        "right_children",
        "parents",
        "split_indices",
        "split_conditions",
        "default_left",
        *optional,
    ):
        if len(tree[name]) != n:
            raise ValueError(f"a tree of {n} nodes has {len(tree[name])} {name}")
    left, right, asked = (
        _as_whole_numbers(tree[name])
        for name in ("left_children", "right_children", "split_indices")
    )
    leaf = left == LEAF
    # Finds loops and shared children, which would never end or be read twice
    reached, _ = walk_tree(left, right, leaf, DEEPEST)
    if (right[leaf] != LEAF).any():
        raise ValueError("a leaf has a child")
    # Deleted nodes stay in the arrays, and what they hold is never used
    splits = reached & ~leaf
    if splits.any() and (asked[splits].min() < 0 or asked[splits].max() >= n_features):
        raise ValueError(f"a tree uses a feature that is not among its {n_features}")
    for name in ("default_left", "split_type"):
        if name in tree and not np.isin(_as_whole_numbers(tree[name]), (0, 1)).all():
            raise ValueError(f"{name} is neither 0 nor 1")
    _check_categories(tree, n, splits)


def _check_categories(tree: Document, n: int, splits: Any) -> None:
    """Check which categories go left at which node.

    Raises:
        ValueError: They do not exist.
    """
    nodes, starts, sizes, values = (
        _as_whole_numbers(tree.get(name, []))
        for name in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    if not len(nodes) == len(starts) == len(sizes):
        raise ValueError("categories of a tree are not as many as it says")
    if len(nodes):
        # Rising nodes: each has its categories once
        if nodes.min() < 0 or nodes.max() >= n or (np.diff(nodes) <= 0).any():
            raise ValueError("a tree has categories of a node that does not exist")
        # Each node's categories are a segment of one long array
        if starts.min() < 0 or sizes.min() < 0 or (starts + sizes).max() > len(values):
            raise ValueError("a tree uses categories that do not exist")
    if len(values) and (values.min() < 0 or values.max() >= MOST_CATEGORIES):
        raise ValueError("a tree has a category that cannot be")
    kinds = (
        _as_whole_numbers(tree["split_type"])
        if "split_type" in tree
        else np.zeros(n, dtype=np.int64)
    )
    # Kind 1 is a split by categories
    if not set(np.flatnonzero(splits & (kinds == 1)).tolist()) <= set(nodes.tolist()):
        raise ValueError("a tree splits by categories that it does not have")


def _check_names(names: Document, n_features: int) -> None:
    """Check the categories' own names, where the file has them.

    Raises:
        ValueError: Their number is not the one declared.
    """
    ends, order = (
        _as_whole_numbers(names.get("feature_segments", [])),
        _as_whole_numbers(names.get("sorted_idx", [])),
    )
    entries = names.get("enc", [])
    # A model without categories has empty lists
    if not len(ends) and not len(order) and not len(entries):
        return
    if (
        len(ends) != n_features + 1
        or ends[0] != 0
        or (np.diff(ends) < 0).any()
        or ends[-1] != len(order)
    ):
        raise ValueError("names of categories are not as many as it says")
    if len(entries) != n_features:
        raise ValueError("names of categories are not as many as the features")
    sizes = np.diff(ends)
    # Positions in sorted order are within each feature's own categories
    if len(order) and (order.min() < 0 or (order >= np.repeat(sizes, sizes)).any()):
        raise ValueError("names of categories are in no order")
    for entry, size in zip(entries, sizes.tolist(), strict=True):
        _check_entry(entry, size)


def _check_entry(entry: Document, size: int) -> None:
    """Check the names of one feature's categories: strings by their ends, or numbers.

    Raises:
        ValueError: Their number is not the one declared.
    """
    values = entry["values"]
    # Numbers as names: one value for each
    if "offsets" not in entry:
        if len(values) != size:
            raise ValueError("names of categories are not as many as it says")
        return
    offsets = _as_whole_numbers(entry["offsets"])
    if len(offsets) == 0 and size == 0 and len(values) == 0:
        return
    if (
        len(offsets) != size + 1
        or offsets[0] != 0
        or (np.diff(offsets) < 0).any()
        or offsets[-1] > len(values)
    ):
        raise ValueError("names of categories end where there are none")


def _as_whole_numbers(values: Any) -> Ints:
    """Convert a list or an array to whole numbers (n,).

    Raises:
        ValueError: Some are not.
    """
    # numpy would make an empty list one of floats
    found = np.asarray(values if len(values) else [], dtype=None if len(values) else np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iub":
        raise ValueError("an index is no whole number")
    # Such a number would become negative as int64
    if found.dtype.kind == "u" and found.dtype.itemsize == 8 and found.max() > 2**62:
        raise ValueError("an index is too large")
    return found.astype(np.int64)
