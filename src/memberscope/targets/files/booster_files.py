"""Read what native booster files declare, and check them.

They are checked before a library that trusts them reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memberscope.errors import InputError
from memberscope.targets.files.tree_nodes import DEEPEST, walk_tree

MOST_CLASSES = (
    100_000  # far more than any model has; bounds what a hostile file can make us allocate
)
TREES_END = "end of trees"


@dataclass(frozen=True)
class Header:
    """Header of a LightGBM text, before its trees.

    Objective and its parameters, features, and which are categories.
    """

    objective: tuple[str, ...]
    n_classes: int
    features: tuple[str, ...]
    categories: tuple[str, ...]
    tree_sizes: tuple[int, ...]


def parse_lightgbm_header(text: str) -> Header:
    """Parse the header of a LightGBM model's text.

    Raises:
        ValueError: It is not a LightGBM header.
    """
    head = text.partition("\n\n")[0]
    said = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    # The first word of every LightGBM text
    if not text.startswith("tree\n") or not {
        "num_class",
        "max_feature_idx",
        "feature_names",
    } <= set(said):
        raise ValueError("it does not start as a LightGBM model does")
    features = tuple(said["feature_names"].split(" "))
    # Indices count from 0
    if len(features) != int(said["max_feature_idx"]) + 1:
        raise ValueError("its feature names are not as many as its features")
    kinds = said.get("feature_infos", "").split(" ")
    categories = tuple(
        name
        # Numbers have a range in brackets, unused features the word none, categories a list
        for name, kind in zip(features, kinds, strict=False)
        if kind != "none" and not kind.startswith("[")
    )
    sizes = tuple(int(size) for size in said.get("tree_sizes", "").split())
    objective = tuple(said.get("objective", "none").split(" "))
    n_classes, a_round = (
        int(said["num_class"]),
        int(said.get("num_tree_per_iteration", said["num_class"])),
    )
    counted = [int(word.partition(":")[2]) for word in objective if word.startswith("num_class:")]
    if (
        # One tree for each class in a round; the objective may count them too
        not 1 <= n_classes == a_round <= MOST_CLASSES
        or any(count != n_classes for count in counted)
        or len(sizes) % a_round
    ):
        raise ValueError("its classes are not as many as its objective's, or as its trees a round")
    return Header(objective, int(said["num_class"]), features, categories, sizes)


def check_lightgbm(path: Path) -> None:
    """Refuse a damaged LightGBM file, in which the library would read beyond its memory.

    Raises:
        InputError: It is truncated, or a tree uses features or nodes that do not exist.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
        header = parse_lightgbm_header(text)
        # Trees follow the header, each of the length that it declares
        at = content.index(b"\n\n") + 2
        for number, size in enumerate(header.tree_sizes):
            _check_lightgbm_tree(
                content[at : at + size].decode("utf-8"), number, len(header.features)
            )
            at += size
        # The library goes on reading trees until this line
        if not content[at:].startswith(TREES_END.encode()):
            raise ValueError("its trees do not end where it says")
        if b"\nparameters:" in content[at:] and b"end of parameters" not in content[at:]:
            raise ValueError("its parameters do not end")
    except ValueError as error:
        raise InputError(
            f"Expected a complete LightGBM model, got {path}: {error}. Save it again."
        ) from error


def _check_lightgbm_tree(text: str, number: int, n_features: int) -> None:
    """Refuse a tree whose splits name features or nodes that do not exist.

    Raises:
        ValueError: They do.
    """
    lines = text.splitlines()
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    if not lines or lines[0] != f"Tree={number}" or "num_leaves" not in said:
        raise ValueError(f"tree {number} is cut")
    leaves = int(said["num_leaves"])
    inner = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
    # A binary tree of n leaves has n - 1 inner nodes; a single leaf has none
    wanted = {"leaf_value": leaves} | (dict.fromkeys(inner, leaves - 1) if leaves > 1 else {})
    short = [name for name, size in wanted.items() if len(said.get(name, "").split()) != size]
    if leaves < 1 or short:
        raise ValueError(f"tree {number} has not {', '.join(short)} for {leaves} leaves")
    if leaves > 1:
        # Every inner node but the root, and every leaf, must be the child of exactly one node
        children = [
            int(word) for side in ("left_child", "right_child") for word in said[side].split()
        ]
        asked = [int(word) for word in said["split_feature"].split()]
        if sorted(children) != sorted([*range(1, leaves - 1), *range(-leaves, 0)]):
            raise ValueError(f"the nodes of tree {number} are not a tree")
        if min(asked) < 0 or max(asked) >= n_features:
            raise ValueError(f"tree {number} uses a feature that does not exist")
        _check_depth(said, leaves)
        _check_categories(said, number)
    # Also for a single leaf, which may hold a linear model
    _check_linear(said, number, leaves, n_features)


def _check_depth(said: dict[str, str], leaves: int) -> None:
    """Refuse nodes that are not connected, or too deep.

    Leaves come after the inner nodes here.

    Raises:
        ValueError: They do.
    """
    sides = [
        np.array([int(word) for word in said[side].split()])
        for side in ("left_child", "right_child")
    ]
    left, right = (
        # LightGBM numbers leaves from -1 downwards: here they come after the inner nodes
        np.append(np.where(side < 0, leaves - 2 - side, side), np.full(leaves, -1))
        for side in sides
    )
    if not walk_tree(left, right, left < 0, DEEPEST)[0].all():
        raise ValueError("some nodes cannot be reached")


def _check_categories(said: dict[str, str], number: int) -> None:
    """Refuse splits by sets of categories that do not exist.

    Raises:
        ValueError: There are some.
    """
    # The lowest bit says that a split is by categories
    by_category = [int(word) & 1 for word in said["decision_type"].split()]
    places = [
        float(word)
        for word, asks in zip(said["threshold"].split(), by_category, strict=True)
        if asks
    ]
    n_sets = int(said.get("num_cat", 0))
    ends = [int(word) for word in said.get("cat_boundaries", "").split()] if n_sets else []
    words = said.get("cat_threshold", "").split() if n_sets else []
    if n_sets < 0 or (
        n_sets
        and (
            len(ends) != n_sets + 1
            or ends[0] != 0
            or ends != sorted(ends)
            or ends[-1] != len(words)
        )
    ):
        raise ValueError(f"the categories of tree {number} are not as many as it says")
    # In such a split the threshold is the number of a set
    if any(not 0 <= place < n_sets for place in places):
        raise ValueError(f"tree {number} uses categories that do not exist")


def _check_linear(said: dict[str, str], number: int, leaves: int, n_features: int) -> None:
    """Refuse linear models in leaves that use features that do not exist.

    Raises:
        ValueError: They do.
    """
    if said.get("is_linear", "0").strip() == "0":
        return
    sizes = [int(word) for word in said.get("num_features", "").split()]
    asked, weights = (
        [int(word) for word in said.get("leaf_features", "").split()],
        said.get("leaf_coeff", "").split(),
    )
    if len(said.get("leaf_const", "").split()) != leaves or len(sizes) != leaves or min(sizes) < 0:
        raise ValueError(f"tree {number} has not a linear model for each of {leaves} leaves")
    if not sum(sizes) == len(asked) == len(weights) or (
        asked and not 0 <= min(asked) <= max(asked) < n_features
    ):
        raise ValueError(f"linear models of tree {number} use features that do not exist")
