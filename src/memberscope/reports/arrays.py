"""`arrays.safetensors`: scores, membership, folds and groups, from which every estimate can be computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.auditing.result import Arrays, Scored
from memberscope.errors import InputError
from memberscope.signals import write_bytes


def write_arrays(arrays: Arrays, path: Path, *, ids: bool = True) -> None:
    """Write the arrays, whole or not at all; without `ids` the records are numbered instead.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    from safetensors.numpy import save

    names = arrays.ids if ids else np.arange(len(arrays.ids)).astype(np.str_)
    tensors: dict[str, NDArray[Any]] = {
        "member": arrays.member.astype(np.uint8),
        "labels": arrays.labels,
        "fold": arrays.fold,
        "ids": np.frombuffer("\n".join(names.tolist()).encode(), dtype=np.uint8),
    }
    listing = []
    for entry in arrays.scored:
        name = f"{entry.attack}@{entry.access}"
        listing.append(
            {
                "attack": entry.attack,
                "access": entry.access,
                "learned": entry.learned,
                "points": list(entry.thresholds),
                "queries": entry.queries,
            }
        )
        tensors[f"scores/{name}"] = entry.scores
        tensors[f"posterior/{name}"] = arrays.posterior[name]
        for point, cuts in entry.thresholds.items():
            tensors[f"thresholds/{name}/{point}"] = cuts
    for group, codes in arrays.groups.items():
        tensors[f"groups/{group}"] = codes
    meta = {
        "scored": json.dumps(listing),
        "groups": json.dumps({name: list(arrays.group_values[name]) for name in arrays.groups}),
    }
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    write_bytes(path, save(contiguous, metadata=meta), mode=0o600)


def read_arrays(path: str | Path) -> Arrays:
    """The arrays of an audit's folder or file.

    Raises:
        InputError: The file is missing, truncated or not one of an audit.
    """
    from safetensors import SafetensorError, safe_open

    from memberscope.auditing.estimate import comparable

    file = Path(path)
    file = file / "arrays.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise InputError(f"Expected an arrays.safetensors, got {str(path)!r}, which holds none. Give the folder of an audit.")
    try:
        with safe_open(file, framework="numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            meta = opened.metadata()
        listing, values = json.loads(meta["scored"]), json.loads(meta["groups"])
        ids = np.array(tensors["ids"].tobytes().decode().split("\n"), dtype=np.str_)
        scored, posterior = [], {}
        for entry in listing:
            name = f"{entry['attack']}@{entry['access']}"
            cuts = {point: tensors[f"thresholds/{name}/{point}"] for point in entry["points"]}
            scores = tensors[f"scores/{name}"]
            scored.append(Scored(entry["attack"], entry["access"], entry["learned"], scores, cuts, entry["queries"]))
            posterior[name] = tensors[f"posterior/{name}"]
        groups = {group: tensors[f"groups/{group}"] for group in values}
        arrays = Arrays(
            ids,
            tensors["member"].astype(bool),
            tensors["labels"],
            tensors["fold"],
            tuple(scored),
            groups,
            {name: tuple(words) for name, words in values.items()},
            posterior,
        )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"Expected the complete arrays of an audit, got {file}: {error}. Run the audit again.") from error
    arrays.comparable.update({f"{entry.attack}@{entry.access}": comparable(entry, arrays) for entry in scored})
    return arrays
