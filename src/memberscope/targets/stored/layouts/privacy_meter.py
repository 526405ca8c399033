"""Read the folders of ML Privacy Meter: signals of all models in one array.

`signals/rmia_signals.npy` or another `*_signals.npy` (n, models) holds the true class's probability
under each model, and `models/memberships.npy` (models, n) whom each was trained on. Models come in
pairs that were trained on halves of the records: the twin of the audited model is left out, as it
tells the audited model's membership.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memberscope.errors import InputError
from memberscope.targets.stored.layouts.array_files import choose_model, map_npy
from memberscope.targets.stored.references import SignalArrays

MEMBERSHIPS = Path("models", "memberships.npy")
LABELS = "labels.npy"


def is_privacy_meter_folder(folder: Path) -> bool:
    """Tell whether a folder holds memberships and signals of ML Privacy Meter."""
    return (folder / MEMBERSHIPS).is_file() and (folder / "signals").is_dir()


def read_privacy_meter_folder(folder: Path, model: str | None = None) -> SignalArrays:
    """Read the models' probabilities of the true class as losses.

    The first model is the audited one, as in the tool, unless `model` is the number of another.
    Labels are read from `labels.npy` (n,), if somebody saved them there.

    Raises:
        InputError: A file is missing, or signals are of other records than the memberships.
    """
    path = _find_signals(folder)
    signals, inside = map_npy(path), np.asarray(map_npy(folder / MEMBERSHIPS))
    if signals.ndim != 2 or inside.ndim != 2 or signals.shape[1] > len(inside):
        raise InputError(
            f"Expected signals (records, models) in {path} and memberships (models, records) in "
            f"{folder / MEMBERSHIPS}, got shapes {signals.shape} and {inside.shape}. Write them "
            "again."
        )
    if signals.shape[0] != inside.shape[1]:
        raise InputError(
            f"Expected signals about the {inside.shape[1]} records of {folder / MEMBERSHIPS}, got "
            f"{signals.shape[0]} in {path}: the tool drew a part of the records and did not store "
            "which. Leave audit.data_size out of its configuration and run it again."
        )
    names = [str(number) for number in range(signals.shape[1])]
    target = choose_model(names, model, 0, folder)
    twin = target + 1 if target % 2 == 0 else target - 1
    outside = ((signals < 0) | (signals > 1 + 1e-6)).any()
    if outside or not np.isfinite(signals).all():
        raise InputError(
            f"Expected probabilities of the true class between 0 and 1 in {path}, got other "
            "numbers. Write the signals again."
        )
    losses = np.empty(signals.shape[::-1], np.float32)
    for row in range(len(losses)):
        losses[row] = _convert_to_losses(signals[:, row])
    others = [row for row in range(len(names)) if row not in (target, twin)]
    if not others:
        raise InputError(
            f"Expected reference models beside the audited one and its twin in {folder}, got none. "
            "Run the tool with num_ref_models of at least 1."
        )
    columns = {"member": inside[target], "loss": losses[target].astype(np.float64)}
    labels = folder / LABELS
    if labels.is_file():
        columns["label"] = np.asarray(map_npy(labels)).reshape(-1)
    left_out = f", and model {twin} is left out, which has the other half of its records"
    return SignalArrays(
        columns,
        losses[others],
        inside[others],
        names=tuple(names[row] for row in others),
        notes=(
            f"Read {len(names)} models of {folder.name} from ML Privacy Meter's {path.name}; model "
            f"{target} is audited{left_out if twin < len(names) else ''}.",
        ),
        files=(path, folder / MEMBERSHIPS, *([labels] if labels.is_file() else [])),
    )


def _convert_to_losses(probability: np.ndarray[tuple[int], np.dtype[np.generic]]) -> np.ndarray:
    """Convert probabilities (n,) of the true class to losses; zero is read as the least above it."""
    kept = np.asarray(probability, np.float64)
    positive = kept[kept > 0]
    floor = 0.5 * float(positive.min()) if len(positive) else np.finfo(np.float32).tiny
    # Not below zero, where rounding left a probability a little above one
    return np.maximum(-np.log(np.maximum(kept, floor)), 0.0)


def _find_signals(folder: Path) -> Path:
    """Find the file of signals about the training records.

    Raises:
        InputError: There is none, or several.
    """
    found = [
        path
        for path in sorted((folder / "signals").glob("*_signals.npy"))
        if "ramia" not in path.name
    ]
    # The files of several attacks hold the same numbers
    chosen = [path for path in found if path.name == "rmia_signals.npy"] or found
    if len(chosen) != 1:
        raise InputError(
            f"Expected one file rmia_signals.npy in {folder / 'signals'}, got "
            f"{', '.join(path.name for path in found) or 'none'}. Keep one."
        )
    return chosen[0]
