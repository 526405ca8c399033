"""Check the nodes of decision trees from a file.

They are checked before a library that trusts their indices reads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.types import Bools, Ints

# Levels of a booster's tree: the libraries descend recursively where they print or weigh one
DEEPEST = 4096
LEAF = -1  # child of a leaf, in scikit-learn and in XGBoost


def walk_tree(
    left: Ints, right: Ints, leaf: Bools, deepest: int | None = None
) -> tuple[Bools, int]:
    """Walk from the first node through the children (n,) of all that are not a `leaf` (n,).

    Give the nodes reached, and the depth.

    Raises:
        ValueError: A child does not exist, or is reached twice, or the tree is too deep.

    >>> walk_tree(np.array([1, -1, -1]), np.array([2, -1, -1]), np.array([False, True, True]))
    (array([ True,  True,  True]), 1)
    """
    n = len(left)
    if n == 0:
        raise ValueError("a tree has no nodes")
    reached = np.zeros(n, dtype=bool)
    reached[0] = True
    level, depth = np.zeros(1, dtype=np.int64), 0
    # Level by level: a tree of n nodes takes at most n steps, however it is damaged
    while len(level := level[~leaf[level]]):
        below = np.concatenate([left[level], right[level]])
        if below.min() < 0 or below.max() >= n:
            raise ValueError("a node's child does not exist")
        if reached[below].any() or len(np.unique(below)) < len(below):
            raise ValueError("a node is reached twice")
        reached[below] = True
        level, depth = below, depth + 1
        if deepest is not None and depth > deepest:
            raise ValueError(f"a tree is deeper than {deepest} levels")
    return reached, depth


def check_sklearn_nodes(
    state: dict[str, Any], n_features: int, n_classes: NDArray[Any], n_outputs: int
) -> None:
    """Refuse the state of a scikit-learn `Tree` whose arrays do not fit each other.

    Raises:
        ValueError: A node, a feature or a value would be read that does not exist.
    """
    from sklearn.tree._tree import NODE_DTYPE

    nodes, values, count = state["nodes"], state["values"], state["node_count"]
    # The layout that compiled code reads, down to the padding
    if nodes.dtype != NODE_DTYPE or nodes.ndim != 1:
        raise ValueError(f"nodes of a tree are of another type, {nodes.dtype}")
    if count != len(nodes):
        raise ValueError(f"a tree claims {count} nodes and has {len(nodes)}")
    if (
        n_classes.ndim != 1
        or n_classes.dtype.kind not in "iu"
        or not 1 <= n_outputs == len(n_classes)
        or n_classes.min() < 1
    ):
        raise ValueError("the classes of a tree are not counted")
    if values.dtype != np.float64 or values.shape != (count, n_outputs, int(n_classes.max())):
        raise ValueError(f"values of a tree are of another shape, {values.shape}")
    left, right, feature = (
        nodes[name].astype(np.int64) for name in ("left_child", "right_child", "feature")
    )
    leaf = left == LEAF
    if (right[leaf] != LEAF).any():
        raise ValueError("a leaf has a child")
    reached, depth = walk_tree(left, right, leaf)
    # scikit-learn writes children after their parents; its code may rely on that
    above = np.flatnonzero(~leaf)
    if not reached.all() or (left[above] <= above).any() or (right[above] <= above).any():
        raise ValueError("nodes of a tree are out of order")
    if depth > state["max_depth"]:
        raise ValueError(f"a tree is {depth} levels deep and claims {state['max_depth']}")
    _refuse_features(feature[above], n_features)


def check_histogram_nodes(nodes: NDArray[Any], bitsets: NDArray[Any], binned: NDArray[Any]) -> None:
    """Refuse the arrays of a histogram `TreePredictor` that do not fit each other.

    Raises:
        ValueError: A node or a category would be read that does not exist.
    """
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    if nodes.dtype != PREDICTOR_RECORD_DTYPE or nodes.ndim != 1:
        raise ValueError(f"nodes of a tree are of another type, {nodes.dtype}")
    for words in (bitsets, binned):
        # 256 bins, one bit for each category
        if words.dtype != np.uint32 or words.ndim != 2 or words.shape[1] != 8:
            raise ValueError(f"categories of a tree are of another shape, {words.shape}")
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    leaf = nodes["is_leaf"] != 0
    # Without a limit on levels: prediction here does not descend recursively
    reached, _ = walk_tree(left, right, leaf)
    if not reached.all():
        raise ValueError("nodes of a tree are out of order")
    by_category = ~leaf & (nodes["is_categorical"] != 0)
    if by_category.any() and nodes["bitset_idx"][by_category].max() >= min(
        len(bitsets), len(binned)
    ):
        raise ValueError("a tree uses a category that does not exist")


def check_histogram_features(nodes: NDArray[Any], n_features: int, categorical: Bools) -> None:
    """Refuse nodes that split by a missing feature, or by categories of one that has none.

    Raises:
        ValueError: Some do.
    """
    asked = nodes[nodes["is_leaf"] == 0]
    features = asked["feature_idx"].astype(np.int64)
    _refuse_features(features, n_features)
    by_category = features[asked["is_categorical"] != 0]
    if len(by_category) and (len(categorical) != n_features or not categorical[by_category].all()):
        raise ValueError("a tree uses categories of a feature that has none")


def _refuse_features(asked: Ints, n_features: int) -> None:
    """Refuse feature numbers (n,) outside 0 to `n_features` - 1.

    Raises:
        ValueError: Some are.
    """
    if len(asked) and (asked.min() < 0 or asked.max() >= n_features):
        worst = int(asked.min()) if asked.min() < 0 else int(asked.max())
        raise ValueError(f"a tree uses feature {worst} of {n_features}")
