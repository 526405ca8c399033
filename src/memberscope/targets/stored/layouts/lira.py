"""Read the folders of LiRA's published code: one of each model, with `keep.npy`.

References:
    [1] N. Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022,
        arXiv:2112.03570. Its code keeps `experiment-*/keep.npy` (n,), `experiment-*/logits/*.npy`
        (n, 1, views, k) and `scores/*.npy` (n, views), a file an epoch, beside `y_train.npy` (n,).
        Versions for other frameworks keep one `logits.npy` (n, views, k) and `scores.npy`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.stored.layouts.array_files import (
    choose_model,
    map_npy,
    require_shape,
    sort_naturally,
)
from memberscope.targets.stored.references import SignalArrays

KEEP, LABELS = "keep.npy", "y_train.npy"
KINDS = ("logits", "scores")


def is_lira_folder(folder: Path) -> bool:
    """Tell whether folders in it hold `keep.npy`."""
    return any(folder.glob(f"*/{KEEP}"))


def read_lira_folder(folder: Path, model: str | None = None) -> SignalArrays:
    """Read the models' logits, or their scores where there are no logits.

    The last model is the audited one, as in the published evaluation, unless `model` names another.

    Raises:
        InputError: A file is missing, or models differ in records.
    """
    kind, files, skipped = _find_files(folder)
    names = sort_naturally(list(files))
    target = choose_model(names, model, -1, folder)
    values, keep = _read_models(folder, names, files, is_logits=kind == "logits")
    # Copied before the models are moved
    own = np.array(values[target])
    n = values.shape[1]
    columns: dict[str, NDArray[Any]] = {"member": keep[target]}
    labels = folder / LABELS
    if labels.is_file():
        columns["label"] = np.asarray(map_npy(labels)).reshape(-1)[:n]
        require_shape(columns["label"], (n,), labels)
    elif kind == "logits":
        raise InputError(
            f"Expected the labels of the {n} records in {labels}, got no such file. Save them with "
            "np.save."
        )
    settings = {}
    if kind == "logits":
        columns["z"] = own[:, 0]
    else:
        # Of several views the mean is what attacks without references read
        columns["logit_confidence"] = own[:, :, 0].mean(axis=1, dtype=np.float64)
        settings = {"number": "logit_confidence", "higher": "member"}
    others = np.arange(len(names)) != target
    notes = [
        f"Read {len(names)} models of {folder.name} from LiRA's {kind}; {names[target]} is audited."
    ]
    if skipped:
        notes.append(f"Left out {skipped} models without {kind}.")
    return SignalArrays(
        columns,
        _take_others(values, target),
        keep[others],
        names=tuple(name for name, other in zip(names, others, strict=True) if other),
        views=own,
        settings=settings,
        notes=tuple(notes),
        files=(
            *(path for name in names for path in (folder / name / KEEP, files[name])),
            *([labels] if labels.is_file() else []),
        ),
    )


def _take_others(values: NDArray[Any], target: int) -> NDArray[Any]:
    """Take all models (m, ...) but one, in place, so that no second array is held."""
    values[target:-1] = values[target + 1 :]
    return values[:-1]


def _find_files(folder: Path) -> tuple[str, dict[str, Path], int]:
    """Find the file of each model: its logits, or its scores, of the last epoch.

    Give also how many models have none.

    Raises:
        InputError: No model has any.
    """
    models = sorted(path.parent for path in folder.glob(f"*/{KEEP}"))
    for kind in KINDS:
        found = {model.name: file for model in models if (file := _find_last(model, kind))}
        if found:
            return kind, found, len(models) - len(found)
    raise InputError(
        f"Expected logits/*.npy or scores/*.npy of each model in {folder}, got none beside "
        f"{len(models)} {KEEP}. Run the inference of the models first."
    )


def _find_last(model: Path, kind: str) -> Path | None:
    """Find a model's file, that of the last epoch where there are several."""
    single = model / f"{kind}.npy"
    epochs = sorted((model / kind).glob("*.npy"))
    return epochs[-1] if epochs else single if single.is_file() else None


def _read_models(
    folder: Path, names: list[str], files: dict[str, Path], *, is_logits: bool
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read all models' numbers (m, n, views, d) and who was trained into which (m, n).

    Raises:
        InputError: They differ in shape.
    """
    values: NDArray[Any] | None = None
    keep: NDArray[np.bool_] | None = None
    for row, name in enumerate(names):
        found = map_npy(files[name])
        if found.ndim not in (1, 2, 3, 4) or not len(found):
            raise InputError(
                f"Expected logits (records, views, classes) or scores (records, views) in "
                f"{files[name]}, got shape {found.shape}. Write it again."
            )
        # Scores have one number a view; logits may have a second axis of augmentations
        width = found.shape[-1] if is_logits else 1
        found = found.reshape(len(found), -1, width)
        if values is None or keep is None:
            values = np.empty((len(names), *found.shape), found.dtype)
            keep = np.empty(values.shape[:2], bool)
        values[row] = require_shape(found, values.shape[1:], files[name])
        # The published code cuts membership to the records that were asked about
        path = folder / name / KEEP
        sides = np.asarray(map_npy(path)).reshape(-1)[: len(found)]
        require_shape(sides, (len(found),), path)
        if sides.dtype != bool and not np.isin(sides, (0, 1)).all():
            raise InputError(
                f"Expected zeros and ones in {path}, got other values. Write 1 for each record that "
                "the model was trained on."
            )
        keep[row] = sides
    assert values is not None and keep is not None
    return values, keep
