"""Read the folders of LeakPro: cached logits of the target and of its shadow models.

`attack_cache/target_*_logits.npy` and `sm_*_logits.npy` (n, k), or (n,) of two classes, stand beside
`*_indices.npy` (n,) of the same name, which say which records these are. Whom each model was trained
on stands in pickles alone, which are not opened: `membership.npz` has it as plain arrays, with
`label` (records of the population,), `target` (the target's training indices) and `sm_0`, `sm_1` …
(those of each shadow model).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.answers.output_kind import expand_to_classes
from memberscope.targets.stored.layouts.array_files import map_npy, require_shape, sort_naturally
from memberscope.targets.stored.references import SignalArrays
from memberscope.targets.tables.columns import read_npz

CACHE, MEMBERSHIP = "attack_cache", "membership.npz"
LOGITS = "_logits.npy"


def is_leakpro_folder(folder: Path) -> bool:
    """Tell whether a folder holds LeakPro's cache of logits."""
    return any((folder / CACHE).glob(f"target_*{LOGITS}"))


def read_leakpro_folder(folder: Path, model: str | None = None) -> SignalArrays:
    """Read the logits of LeakPro's target and shadow models.

    Raises:
        InputError: A file is missing, models were asked about other records, or `model` names one,
            as the target is always the audited one.
    """
    if model is not None:
        raise InputError(
            f"Expected no --signals-model for LeakPro, whose target is the audited model, got "
            f"{model!r}. Leave it out."
        )
    cache = folder / CACHE
    targets = sorted(cache.glob(f"target_*{LOGITS}"))
    if len(targets) != 1:
        raise InputError(
            f"Expected one target_*{LOGITS} in {cache}, got {len(targets)}. Keep that of the "
            "audited model."
        )
    by_number = _find_shadows(cache)
    path = folder / MEMBERSHIP
    if not path.is_file():
        raise InputError(
            f"Expected {path} with label, target and sm_0, sm_1, … as plain arrays, got no such "
            "file: LeakPro keeps them in pickles, which are not opened. docs/reference-models.md "
            "has the lines that write it."
        )
    told = read_npz(path)
    indices = _read_indices(targets[0])
    logits = _read_logits(targets[0], len(indices))
    references = np.empty((len(by_number), *logits.shape), np.float32)
    inside = np.empty(references.shape[:2], bool)
    for row, (name, file) in enumerate(by_number.items()):
        own = _read_indices(file)
        if len(own) != len(indices) or set(own.tolist()) != set(indices.tolist()):
            raise InputError(
                f"Expected logits about the target's {len(indices)} records in {file}, got "
                f"{len(own)} or others. Let LeakPro cache them again."
            )
        # Rows may stand in another order, if the split was drawn again
        order = np.argsort(own)[np.argsort(np.argsort(indices))]
        references[row] = require_shape(_read_logits(file, len(own)), logits.shape, file)[order]
        inside[row] = np.isin(indices, _read_member_indices(told, name, path))
    label = told.get("label")
    if label is None or label.ndim != 1 or len(label) <= indices.max():
        raise InputError(
            f"Expected label in {path} with one class for each record of the population, at least "
            f"{int(indices.max()) + 1}, got {'none' if label is None else label.shape}. Add them."
        )
    return SignalArrays(
        {
            "ids": indices.astype(np.str_),
            "member": np.isin(indices, _read_member_indices(told, "target", path)),
            "label": label[indices],
            "z": logits,
        },
        references,
        inside,
        names=tuple(by_number),
        notes=(f"Read {len(by_number)} shadow models of {folder.name} from LeakPro's logits.",),
        files=(targets[0], *by_number.values(), path),
    )


def _find_shadows(cache: Path) -> dict[str, Path]:
    """Find the logits of the shadow models, by `sm_` and their number.

    Raises:
        InputError: There are none, or several of one number.
    """
    found: dict[str, Path] = {}
    for name in sort_naturally([path.name for path in cache.glob(f"sm_*{LOGITS}")]):
        match = re.match(r"sm_\d+", name)
        if match is None:
            continue
        if match[0] in found:
            raise InputError(
                f"Expected one file of {match[0]} in {cache}, got {found[match[0]].name} and {name}, "
                "of two splits of the data. Remove the older one."
            )
        found[match[0]] = cache / name
    if not found:
        raise InputError(
            f"Expected sm_*{LOGITS} of shadow models in {cache}, got none. Run an attack of LeakPro "
            "that trains them."
        )
    return found


def _read_indices(logits: Path) -> NDArray[np.int64]:
    """Read which records a file of logits is about, (n,)."""
    path = logits.with_name(logits.name.removesuffix(LOGITS) + "_indices.npy")
    found = np.asarray(map_npy(path)).reshape(-1)
    if found.dtype.kind not in "iu" or not len(found) or found.min() < 0:
        raise InputError(
            f"Expected numbers of records in {path}, got {found.dtype} of shape {found.shape}. "
            "Let LeakPro cache them again."
        )
    return found.astype(np.int64)


def _read_logits(path: Path, n: int) -> NDArray[Any]:
    """Read logits (n, k); one number a record is the logit of the second of two classes.

    Raises:
        InputError: They are about other records.
    """
    found = map_npy(path)
    if found.ndim not in (1, 2) or len(found) != n:
        raise InputError(
            f"Expected logits (records, classes) of {n} records in {path}, got shape {found.shape}. "
            "Let LeakPro cache them again."
        )
    return found if found.ndim == 2 and found.shape[1] > 1 else expand_to_classes(found, "logits")


def _read_member_indices(told: dict[str, NDArray[Any]], name: str, path: Path) -> NDArray[np.int64]:
    """Read the training indices of a model.

    Raises:
        InputError: They are not there.
    """
    found = told.get(name)
    if found is None or found.dtype.kind not in "iu":
        raise InputError(
            f"Expected the training indices of {name} in {path}, got "
            f"{'none' if found is None else found.dtype}. Add them as whole numbers."
        )
    return found.astype(np.int64)
