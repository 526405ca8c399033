"""Write and read `arrays.safetensors`: scores, membership, folds and groups.

Every estimate can be computed again from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._files import parse_json, write_bytes
from memberscope.auditing import AttackScores, AuditArrays
from memberscope.auditing.documents import CustomDocument
from memberscope.errors import InputError

META = "memberscope"  # the file's one entry of metadata, in JSON


def write_arrays(arrays: AuditArrays, path: Path, *, ids: bool = True) -> None:
    """Write the arrays, whole or not at all; without `ids` the records are numbered instead.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    from safetensors.numpy import save

    from memberscope.auditing.scoring import find_pseudo_members

    # Ids may be names of people, so they are left out if asked
    names = arrays.ids if ids else np.arange(len(arrays.ids)).astype(np.str_)
    tensors: dict[str, NDArray[Any]] = {
        "labels": arrays.labels,
        # The format has no texts, so ids go in as bytes of lines
        "ids": np.frombuffer("\n".join(names.tolist()).encode(), dtype=np.uint8),
        **_collect_scored_tensors(arrays, ""),
    }
    # Further targets share records and labels, so only their own scores are stored
    for name, other in arrays.targets.items():
        tensors |= _collect_scored_tensors(other, f"{name}/")
    if arrays.vulnerability is not None:
        tensors["vulnerability"] = arrays.vulnerability
    if arrays.overlap is not None:
        tensors["overlap"] = arrays.overlap.astype(np.uint8)
    if arrays.unit is not None:
        tensors["unit"] = arrays.unit
    # Verification repeats the null control, whose draw follows from ids that are not written
    if not ids or arrays.null_draw is not None:
        tensors["null_draw"] = find_pseudo_members(arrays).astype(np.uint8)
    for group, codes in arrays.groups.items():
        tensors[f"groups/{group}"] = codes
    meta = {
        "scored": _describe_scores(arrays),
        "groups": {name: list(arrays.group_values[name]) for name in arrays.groups},
        "targets": {name: _describe_scores(other) for name, other in arrays.targets.items()},
    }
    # The format stores memory as it lies, so slices are copied first
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    # One entry: the order of several changes from run to run, and equal arrays must be equal bytes.
    write_bytes(path, save(contiguous, metadata={META: json.dumps(meta)}), mode=0o600)


def _describe_scores(arrays: AuditArrays) -> list[dict[str, Any]]:
    """Describe what the scores are of, in order."""
    return [
        {
            "attack": entry.attack,
            "access": entry.access,
            "learned": entry.learned,
            "points": list(entry.thresholds),
            "queries": entry.queries,
            "restriction": entry.restriction,
            "declared": entry.declared,
            "staged": entry.stages is not None,
            **({} if entry.own is None else {"own": asdict(entry.own)}),
        }
        for entry in arrays.scored
    ]


def _collect_scored_tensors(arrays: AuditArrays, prefix: str) -> dict[str, NDArray[Any]]:
    """Collect membership, folds, scores, posteriors and thresholds of one model by name."""
    tensors: dict[str, NDArray[Any]] = {
        f"{prefix}member": arrays.member.astype(np.uint8),
        f"{prefix}fold": arrays.fold,
    }
    for entry in arrays.scored:
        name = entry.name
        tensors[f"{prefix}scores/{name}"] = entry.scores
        if entry.budgets is not None and entry.stages is not None:
            tensors[f"{prefix}budgets/{name}"], tensors[f"{prefix}stages/{name}"] = (
                entry.budgets,
                entry.stages,
            )
        if name in arrays.posterior:
            tensors[f"{prefix}posterior/{name}"] = arrays.posterior[name]
        for point, cuts in entry.thresholds.items():
            tensors[f"{prefix}thresholds/{name}/{point}"] = cuts
    return tensors


def _read_scored(
    tensors: dict[str, Any], listed: list[dict[str, Any]], prefix: str
) -> tuple[tuple[AttackScores, ...], dict[str, Any]]:
    """Read scores and posteriors of one target model, as `_collect_scored_tensors` wrote them."""
    scored, posterior = [], {}
    for entry in listed:
        # Its name is needed to look up its scores, and follows from the other fields
        one = AttackScores(
            entry["attack"],
            entry["access"],
            entry["learned"],
            scores=np.empty(0),
            thresholds={},
            queries=entry["queries"],
            restriction=entry["restriction"],
            declared=entry["declared"],
            own=_read_custom(entry.get("own")),
        )
        name, staged = one.name, entry["staged"]
        found = replace(
            one,
            scores=tensors[f"{prefix}scores/{name}"],
            thresholds={
                point: tensors[f"{prefix}thresholds/{name}/{point}"] for point in entry["points"]
            },
            budgets=tensors[f"{prefix}budgets/{name}"] if staged else None,
            stages=tensors[f"{prefix}stages/{name}"] if staged else None,
        )
        scored.append(found)
        # Posteriors are kept of the audited model at declared levels only
        if not prefix and found.declared:
            posterior[name] = tensors[f"posterior/{name}"]
    return tuple(scored), posterior


def _read_custom(found: dict[str, Any] | None) -> CustomDocument | None:
    """Read what declares an attack of somebody's own, None for a shipped one."""
    if found is None:
        return None
    with_in, without = found["references"]
    # JSON has lists where the document has tuples; older files name no tasks
    given = {**found, "references": (int(with_in), int(without))}
    if "tasks" in found:
        given["tasks"] = tuple(found["tasks"])
    return CustomDocument(**given)


def read_arrays(path: str | Path) -> AuditArrays:
    """Read the arrays of an audit's folder or file.

    Raises:
        InputError: The file is missing, truncated or not one of an audit.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    file = file / "arrays.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise InputError(
            f"Expected an arrays.safetensors, got {str(path)!r}, which holds none. Give the folder "
            "of an audit."
        )
    try:
        with safe_open(file, framework="numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            meta = parse_json(opened.metadata()[META])
        values, others = meta["groups"], meta["targets"]
        ids = np.array(tensors["ids"].tobytes().decode().split("\n"), dtype=np.str_)
        scored, posterior = _read_scored(tensors, meta["scored"], "")
        groups = {group: tensors[f"groups/{group}"] for group in values}
        arrays = AuditArrays(
            ids,
            tensors["member"].astype(bool),
            tensors["labels"],
            tensors["fold"],
            scored,
            groups,
            {name: tuple(words) for name, words in values.items()},
            posterior,
            vulnerability=tensors.get("vulnerability"),
            overlap=tensors["overlap"].astype(bool) if "overlap" in tensors else None,
            unit=tensors.get("unit"),
            null_draw=tensors["null_draw"].astype(bool) if "null_draw" in tensors else None,
        )
        for name, listed in others.items():
            member, fold = tensors[f"{name}/member"].astype(bool), tensors[f"{name}/fold"]
            found, _ = _read_scored(tensors, listed, f"{name}/")
            arrays.targets[name] = _add_comparable_scores(
                AuditArrays(ids, member, tensors["labels"], fold, found, unit=arrays.unit)
            )
    # A truncated file fails in many ways, which all mean the same to a reader
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(
            f"Expected the complete arrays of an audit, got {file}: {error}. Run the audit again."
        ) from error
    return _add_comparable_scores(arrays)


def _add_comparable_scores(arrays: AuditArrays) -> AuditArrays:
    """Add the comparable scores that follow from the arrays."""
    from memberscope.auditing.scoring import pool_scores

    # They are not stored, as they follow from scores and folds
    arrays.comparable.update(
        {entry.name: pool_scores(entry, arrays.member, arrays.fold) for entry in arrays.scored}
    )
    return arrays
