"""Open skops files with types that are trusted or harmless, and with trees that were checked.

skops does not trust scikit-learn's trees, since their nodes are indices that compiled code follows
without checks. Here the file's schema and arrays are read independently, and every tree in them is
checked, before skops may build one. What the trees belong to is checked once it is built, and
before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, MemberscopeError, UnsafeFileError
from memberscope.targets.files.archives import check_archive, refuse_repeated_keys
from memberscope.targets.files.skops_trust import (
    CHECK_ARRAY,
    CHECKED,
    HARMLESS,
    PARTIAL,
    PREDICTOR,
    TREE,
)
from memberscope.targets.files.tree_nodes import check_histogram_nodes, check_sklearn_nodes
from memberscope.targets.files.tree_owners import check_owners
from memberscope.targets.files.trust import TrustSettings

Schema = dict[str, Any]
OTHER_PARTIAL = "functools.partial of any function"  # which has to be trusted by name
LARGEST_SCHEMA = 1 << 28  # bytes of JSON, which take some ten times as many once they are parsed


def open_skops(path: Path, trust: TrustSettings) -> tuple[Any, tuple[str, ...]]:
    """Open the estimator in a skops file, and say what was trusted and checked.

    Raises:
        InputError: The file is damaged.
        UnsafeFileError: It holds types that are not known to be safe and were not named, or invalid
            trees.
    """
    from skops.io import get_untrusted_types, load

    try:
        check_archive(path)
        # Before skops reads anything: it would build the trees
        checked = _check_file(path)
        untrusted = get_untrusted_types(file=path)
        # A partial of any other function counts as unknown, and must be trusted by name
        looked_at = [name for name in CHECKED if name != PARTIAL or not checked[OTHER_PARTIAL]]
        known = [name for name in untrusted if name in HARMLESS or name in looked_at]
        rest = [name for name in untrusted if name not in known]
        refused = [name for name in rest if name not in trust.types and not trust.code]
        if refused:
            flags = " ".join(f"--trust-type {name}" for name in refused)
            raise UnsafeFileError(
                f"Expected only types known to be safe in {path}, got {', '.join(refused)}. If you "
                f"trust the file's origin, add {flags}."
            )
        # All of these are harmless, checked, or named by the user
        estimator = load(path, trusted=untrusted)
        check_owners(estimator)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected a complete skops file, got {path}: {type(error).__name__}: {first}. Write "
            "it again."
        ) from error
    return estimator, _write_notes(path, checked[TREE] + checked[PREDICTOR], known, rest)


def _write_notes(path: Path, n_trees: int, known: list[str], named: list[str]) -> tuple[str, ...]:
    """Write what was checked, what was taken for harmless, and what the user trusts."""
    notes = []
    if n_trees:
        notes.append(
            f"Opened {path.name} after checking the nodes of all its {n_trees} trees, which skops "
            "does not."
        )
    if plain := [name for name in known if name in HARMLESS or name == PARTIAL]:
        notes.append(
            f"Took these types in {path.name} for harmless, though skops does not list them: "
            f"{', '.join(plain)}."
        )
    if named:
        notes.append(f"Trusted these types in {path.name}: {', '.join(named)}.")
    return tuple(notes)


def _check_file(path: Path) -> Counter[str | None]:
    """Check every tree in the file's schema; count the parts of each type.

    Raises:
        UnsafeFileError: A tree is invalid, or one name stands for two contents.
    """
    with zipfile.ZipFile(path) as archive:
        # By its declared size, before it is inflated
        if archive.getinfo("schema.json").file_size > LARGEST_SCHEMA:
            raise InputError(
                f"Expected a schema of at most {LARGEST_SCHEMA >> 20} MiB in {path}, got a larger "
                "one. Save a smaller model."
            )
        try:
            schema = json.loads(archive.read("schema.json"), object_pairs_hook=refuse_repeated_keys)
            parts = list(_iterate_schema_parts(schema))
            # Both readers must see the same content, or the checks would be of another tree
            _refuse_two_contents(parts, archive)
            return Counter(_check_part(part, archive) for part in parts)
        except RecursionError as error:
            raise InputError(
                f"Expected a complete skops file, got {path}, which is nested too deeply. Write it "
                "again."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            reason = str(error) or type(error).__name__
            raise UnsafeFileError(
                f"Expected trees whose nodes fit each other in {path}, got a file where {reason}. "
                "Do not open it; save the model again."
            ) from error


def _iterate_schema_parts(schema: Any) -> Iterator[Schema]:
    """Yield every object of the schema, at any depth.

    It keeps a stack of its own, since a hostile file could exhaust recursion.
    """
    stack = [schema]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def _refuse_two_contents(parts: list[Schema], archive: zipfile.ZipFile) -> None:
    """Refuse two parts with one id and different contents, of which one was checked.

    skops takes the one it meets first.

    Raises:
        ValueError: There is one.
    """
    looked_at = [
        part
        for part in parts
        if _type_name(part) in CHECKED or part.get("__loader__") in ("TreeNode", "PartialNode")
    ]
    ids = {
        inner["__id__"]
        # What is inside a tree counts too, such as the arrays of its nodes
        for part in looked_at
        for inner in _iterate_schema_parts(part)
        if "__id__" in inner
    }
    first: dict[Any, Any] = {}
    for part in parts:
        name = part.get("__id__")
        # A cached node only refers to another part
        if name not in ids or part.get("__loader__") == "CachedNode":
            continue
        content = _without_ids(part, archive)
        if first.setdefault(name, content) != content:
            raise ValueError("one id stands for two things")


def _without_ids(part: Any, archive: zipfile.ZipFile) -> Any:
    """Copy a part of the schema without its ids, and with hashes of its arrays for their files.

    Ids and files differ where one object occurs twice.
    """
    if isinstance(part, dict):
        kept = {
            name: _without_ids(value, archive)
            for name, value in part.items()
            if name not in ("__id__", "file")
        }
        return kept | (
            {"file": hashlib.sha256(archive.read(part["file"])).hexdigest()}
            if "file" in part
            else {}
        )
    return [_without_ids(value, archive) for value in part] if isinstance(part, list) else part


def _type_name(part: Schema) -> str:
    """Give the full name of a part's type."""
    return f"{part.get('__module__')}.{part.get('__class__')}"


def _check_part(part: Schema, archive: zipfile.ZipFile) -> str | None:
    """Check a part that is a tree, or a partial function.

    Give the name of its type, and None for all others.

    Raises:
        ValueError: It is not what its name declares.
    """
    name, loader = _type_name(part), part.get("__loader__")
    # What skops would not build as a tree is none, whatever its name
    if loader == "CachedNode" or (
        name not in CHECKED and loader not in ("TreeNode", "PartialNode")
    ):
        return None
    if (name, loader) == (TREE, "TreeNode"):
        _check_tree(part, archive)
    elif (name, loader) == (PREDICTOR, "ObjectNode"):
        entries = part["content"]["content"]
        check_histogram_nodes(
            *(
                _read_array(entries[key], archive)
                for key in ("nodes", "raw_left_cat_bitsets", "binned_left_cat_bitsets")
            )
        )
    elif (name, loader) == (PARTIAL, "PartialNode"):
        func = part["content"]["func"]
        return name if _type_name(func) == CHECK_ARRAY else OTHER_PARTIAL
    else:
        raise ValueError(f"{name} is read as {loader}")
    return name


def _check_tree(part: Schema, archive: zipfile.ZipFile) -> None:
    """Check one `Tree`: the arguments that it is made with, and its state.

    Raises:
        ValueError: They do not fit each other.
    """
    arguments, state = part["__reduce__"]["args"]["content"], part["content"]["content"]
    n_features, n_outputs = _read_whole_number(arguments[0]), _read_whole_number(arguments[2])
    arrays = {key: _read_array(state[key], archive) for key in ("nodes", "values")}
    numbers = {key: _read_whole_number(state[key]) for key in ("node_count", "max_depth")}
    # Anything else in the state would reach the tree unchecked
    if set(state) != set(arrays) | set(numbers) or len(arguments) != 3:
        raise ValueError("a tree holds something else")
    check_sklearn_nodes(arrays | numbers, n_features, _read_array(arguments[1], archive), n_outputs)


def _read_array(part: Schema, archive: zipfile.ZipFile) -> NDArray[Any]:
    """Read the array that a part of the schema names.

    Raises:
        ValueError: It does not name an array.
    """
    if (part["__module__"], part["__class__"], part["__loader__"], part["type"]) != (
        "numpy",
        "ndarray",
        "NdArrayNode",
        "numpy",
    ):
        raise ValueError("an array of a tree is of another type")
    # Pickled objects could run code
    found = np.load(io.BytesIO(archive.read(part["file"])), allow_pickle=False)
    # Compiled code reads the memory in this order
    if not isinstance(found, np.ndarray) or not found.flags.c_contiguous:
        raise ValueError("an array of a tree is in another order")
    return found


def _read_whole_number(part: Schema) -> int:
    """Read the whole number that a part of the schema is.

    Raises:
        ValueError: It is not a whole number.
    """
    value = json.loads(part["content"]) if part["__loader__"] == "JsonNode" else None
    # Not isinstance, which holds for True too
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("a number of a tree is not a whole number")
    return value
