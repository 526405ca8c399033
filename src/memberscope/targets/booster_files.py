"""Native booster files: what they say of themselves, checked before a library that trusts them reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.errors import InputError

TREES_END = "end of trees"


@dataclass(frozen=True)
class Header:
    """What a LightGBM text says before its trees: objective and its parameters, features, and which are categories."""

    objective: tuple[str, ...]
    n_classes: int
    features: tuple[str, ...]
    categories: tuple[str, ...]
    tree_sizes: tuple[int, ...]


def lightgbm_header(text: str) -> Header:
    """The header of a LightGBM model's text.

    Raises:
        ValueError: It is none.
    """
    head = text.partition("\n\n")[0]
    said = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    if not text.startswith("tree\n") or not {"num_class", "max_feature_idx", "feature_names"} <= set(said):
        raise ValueError("it does not start as a LightGBM model does")
    features = tuple(said["feature_names"].split(" "))
    if len(features) != int(said["max_feature_idx"]) + 1:
        raise ValueError("its feature names are not as many as its features")
    kinds = said.get("feature_infos", "").split(" ")
    categories = tuple(name for name, kind in zip(features, kinds, strict=False) if kind != "none" and not kind.startswith("["))
    sizes = tuple(int(size) for size in said.get("tree_sizes", "").split())
    objective = tuple(said.get("objective", "none").split(" "))
    return Header(objective, int(said["num_class"]), features, categories, sizes)


def check_lightgbm(path: Path) -> None:
    """Refuse a damaged LightGBM file, in which the library would read beyond its memory.

    Raises:
        InputError: It is truncated, or a tree asks for features or nodes that are not there.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
        header = lightgbm_header(text)
        at = content.index(b"\n\n") + 2
        for number, size in enumerate(header.tree_sizes):
            check_tree(content[at : at + size].decode("utf-8"), number, len(header.features))
            at += size
        if not content[at:].startswith(TREES_END.encode()):
            raise ValueError("its trees do not end where it says")
        if b"\nparameters:" in content[at:] and b"end of parameters" not in content[at:]:
            raise ValueError("its parameters do not end")
    except ValueError as error:
        raise InputError(f"Expected a complete LightGBM model, got {path}: {error}. Save it again.") from error


def check_tree(text: str, number: int, n_features: int) -> None:
    """Refuse a tree whose splits name features or nodes that are not there.

    Raises:
        ValueError: They do.
    """
    lines = text.splitlines()
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    if not lines or lines[0] != f"Tree={number}" or "num_leaves" not in said:
        raise ValueError(f"tree {number} is cut")
    leaves = int(said["num_leaves"])
    inner = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
    wanted = {"leaf_value": leaves} | (dict.fromkeys(inner, leaves - 1) if leaves > 1 else {})
    short = [name for name, size in wanted.items() if len(said.get(name, "").split()) != size]
    if leaves < 1 or short:
        raise ValueError(f"tree {number} has not {', '.join(short)} for {leaves} leaves")
    if leaves > 1:
        children = [int(word) for side in ("left_child", "right_child") for word in said[side].split()]
        asked = [int(word) for word in said["split_feature"].split()]
        if sorted(children) != sorted([*range(1, leaves - 1), *range(-leaves, 0)]):
            raise ValueError(f"the nodes of tree {number} are not a tree")
        if min(asked) < 0 or max(asked) >= n_features:
            raise ValueError(f"tree {number} asks for a feature that is not there")
