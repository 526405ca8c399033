"""Save and load fitted output defences as safetensors.

Each part has its place in the chain, its name and its digest.

A part is kept under the chain up to and with it, such as `temperature:2+memguard:1`: fitted behind
another part, it is another one. No key and no seed is kept: what is fitted depends on neither.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._files import write_bytes
from memberscope.errors import InputError
from memberscope.outputs.chain import flatten_chain, join_parts, parse_restriction
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.keyed_parts import without_noise_keys
from memberscope.outputs.membership_classifier import SortedClassifier, digest_layers
from memberscope.outputs.memguard import MemGuard
from memberscope.types import Bools, Floats, OutputDefence

FORMAT = "memberscope-fitted/1"
META = "memberscope"  # the file's one entry of metadata, in JSON
# Far more than any classifier has, so that a damaged file is refused early
MOST_LAYERS = 16
Tensors = dict[str, NDArray[Any]]


def has_fittable_part(defence: OutputDefence) -> bool:
    """Tell whether some part has to be fitted to a model.

    >>> has_fittable_part(parse_restriction("memguard:1+round:2")), has_fittable_part(parse_restriction("top:3"))
    (True, False)
    """
    return any(isinstance(part, MemGuard | HampOutput) for part in flatten_chain(defence))


def _key_fittable_parts(defence: OutputDefence) -> dict[str, OutputDefence]:
    """Map each part that has to be fitted, without keys, by the name of the chain up to it.

    >>> list(_key_fittable_parts(parse_restriction("temperature:2+memguard:1+round:2")))
    ['temperature:2+memguard:1']
    """
    parts = flatten_chain(without_noise_keys(defence))
    names = [part.name for part in parts]
    return {
        "+".join(names[: place + 1]): part
        for place, part in enumerate(parts)
        if has_fittable_part(part)
    }


def with_fitted(
    defence: OutputDefence, fitted: Mapping[str, OutputDefence], n_classes: int | None = None
) -> OutputDefence:
    """Replace the parts that have to be fitted by those in `fitted` (from `load_fitted`).

    Keys and seeds stay those of `defence`.

    Raises:
        InputError: A part is not there, or is fitted to another number of classes than `n_classes`.
    """
    parts = []
    names = [part.name for part in flatten_chain(without_noise_keys(defence))]
    for place, part in enumerate(flatten_chain(defence)):
        if has_fittable_part(part):
            key = "+".join(names[: place + 1])
            if key not in fitted:
                raise InputError(
                    f"Expected a fitted {key}, got {', '.join(fitted) or 'none'}. Run `memberscope "
                    "guard fit`, and name its file."
                )
            found = fitted[key]
            if n_classes is not None and _count_fitted_classes(found) != n_classes:
                raise InputError(
                    f"Expected {key} fitted to {n_classes} classes, got "
                    f"{_count_fitted_classes(found)}. Fit it to this model's answers."
                )
            # What was learned comes from the file, how it is drawn from the defence
            part = replace(found, seed=part.seed, key=part.key)  # type: ignore[type-var, attr-defined]
        parts.append(part)
    return join_parts(parts)


def _count_fitted_classes(part: OutputDefence) -> int:
    """Count the classes that a part is fitted to; 0 if it is not fitted."""
    if isinstance(part, MemGuard) and part.classifier is not None:
        return part.classifier.n_classes
    return part.scores.shape[1] if isinstance(part, HampOutput) and part.scores is not None else 0


def fit_parts(
    defence: OutputDefence, outputs: Floats, member: Bools, random: Floats | None = None
) -> OutputDefence:
    """Fit each part of the defence to what those before it answer.

    `outputs` (n, k) are the model's answers about records that trained it (`member`, n) and others;
    `random` (r, k) those about inputs drawn at random, for hamp_output.

    Raises:
        InputError: hamp_output is among the parts without `random`, the answers are not usable, or
            a part that draws noise stands before one that is fitted and has no key.
    """
    fitted: list[OutputDefence] = []
    answered = 0
    for part in flatten_chain(defence):
        # A part is fitted to what those before it answer; the last ones need no key for that
        if has_fittable_part(part):
            for before in fitted[answered:]:
                outputs, random = before(outputs), None if random is None else before(random)
            answered = len(fitted)
        if isinstance(part, HampOutput):
            if random is None:
                raise InputError(
                    f"Expected the model's answers about random inputs for {part.name}, got none. "
                    "Add them as the array random."
                )
            part = part.fit(random, np.zeros(len(random), dtype=bool))
        else:
            part = part.fit(outputs, member)
        fitted.append(part)
    return join_parts(fitted)


def name_fitted_file(name: str) -> str:
    """Name the file of a defence's fitted parts.

    >>> name_fitted_file("hamp:0.5:0.001+hamp_output")
    'fitted-hamp-0.5-0.001+hamp_output.safetensors'
    """
    return f"fitted-{re.sub(r'[^A-Za-z0-9_.+=-]', '-', name)}.safetensors"


def save_fitted(defences: Iterable[OutputDefence], path: str | Path) -> tuple[str, ...]:
    """Write all fitted parts of `defences`, whole or not at all, readable by their owner alone.

    The result lists the keys that they are kept by.

    Raises:
        InputError: There are none, one is not fitted, two of one name differ, or the file cannot be
            written.
    """
    from safetensors.numpy import save

    parts: dict[str, OutputDefence] = {}
    for defence in defences:
        for key, part in _key_fittable_parts(defence).items():
            if not _count_fitted_classes(part):
                raise InputError(
                    f"Expected a fitted {key}, got one that is not. Call fit(outputs, member), and "
                    "save what it returns."
                )
            # Chains may share their first parts, which are then kept once
            if parts.setdefault(key, part).digest != part.digest:
                raise InputError(
                    f"Expected one fitted {key}, got two that differ. Save them in files of their "
                    "own."
                )
    if not parts:
        raise InputError(
            "Expected a fitted defence to save, got none. Only memguard and hamp_output are fitted."
        )
    # The place keeps apart arrays of one name that belong to different parts
    tensors: Tensors = {}
    for place, part in enumerate(parts.values()):
        tensors |= {
            f"{place}/{name}": np.ascontiguousarray(value)
            for name, value in _extract_tensors(part).items()
        }
    listed = [{"key": key, "name": part.name, "digest": part.digest} for key, part in parts.items()]
    meta = {META: json.dumps({"format": FORMAT, "parts": listed})}
    # For their owner alone: what is fitted tells about the records that it was fitted to
    write_bytes(Path(path), save(tensors, metadata=meta), mode=0o600)
    return tuple(parts)


def _extract_tensors(part: OutputDefence) -> Tensors:
    """Extract what a fitted part has learned."""
    if isinstance(part, MemGuard):
        assert part.classifier is not None
        layers = enumerate(part.classifier.layers)
        return {
            f"{name}{place}": value
            for place, layer in layers
            for name, value in zip(("w", "b"), layer, strict=True)
        }
    assert isinstance(part, HampOutput)
    assert part.scores is not None
    return {"scores": part.scores}


def load_fitted(path: str | Path) -> dict[str, OutputDefence]:
    """Load the fitted parts of a file, each by the name of the chain up to it.

    Raises:
        InputError: The file is missing, truncated, of another format, or some part is not what its
            digest says.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"Expected a file of fitted defences, got {str(path)!r}, which is none. Run "
            "`memberscope guard fit`."
        )
    try:
        with safe_open(file, framework="numpy") as opened:
            meta = json.loads(opened.metadata()[META])
            if meta["format"] != FORMAT:
                raise ValueError(f"the format {meta['format']!r}")
            tensors: Tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        found = {
            entry["key"]: _rebuild_part(entry, _select_part_tensors(tensors, place))
            for place, entry in enumerate(meta["parts"])
        }
        # All that is in the file must belong to some part, else it was made by something else
        if sum(len(_select_part_tensors(tensors, place)) for place in range(len(found))) != len(
            tensors
        ):
            raise ValueError("arrays that belong to no part")
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        OSError,
        InputError,
    ) as error:
        raise InputError(
            f"Expected complete fitted defences in {str(path)!r}, got {type(error).__name__}: "
            f"{error}. Fit them again."
        ) from error
    return found


def _select_part_tensors(tensors: Tensors, place: int) -> Tensors:
    """Select the arrays of the part at `place`, by their own names."""
    prefix = f"{place}/"
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _rebuild_part(entry: dict[str, object], tensors: Tensors) -> OutputDefence:
    """Rebuild a part from its name and its arrays.

    Raises:
        ValueError: The arrays do not fit, or the digest is another.
        InputError: The name is unknown.
    """
    empty = parse_restriction(str(entry["name"]))
    if without_noise_keys(empty) != empty:
        raise ValueError("a seed in a name, which would not be secret")
    # The key is the chain up to and with the part, so that it ends in its name
    if str(entry["key"]).split("+")[-1] != entry["name"]:
        raise ValueError(f"{entry['name']} under the key {entry['key']}")
    part: OutputDefence
    if isinstance(empty, MemGuard):
        part = replace(empty, classifier=_rebuild_classifier(tensors))
    elif isinstance(empty, HampOutput):
        part = _with_scores(empty, tensors)
    else:
        raise ValueError(f"{empty.name}, which is not fitted")
    # A part that changed since it was written would protect in another way than was measured
    if part.digest != entry["digest"]:
        raise ValueError(f"the digest {part.digest} where {entry['digest']} was written")
    return part


def _rebuild_classifier(tensors: Tensors) -> SortedClassifier:
    """Rebuild a classifier from its layers.

    Raises:
        ValueError: They do not fit on each other.
    """
    n = len(tensors) // 2
    if not 1 <= n <= MOST_LAYERS or set(tensors) != {
        f"{name}{place}" for name in "wb" for place in range(n)
    }:
        raise ValueError("other arrays than a classifier's layers")
    layers = tuple((tensors[f"w{place}"], tensors[f"b{place}"]) for place in range(n))
    # Each layer takes as many values as the one before gives
    wide = None
    for weights, offset in layers:
        if (
            weights.dtype != np.float32
            or offset.dtype != np.float32
            or weights.ndim != 2
            or offset.shape != weights.shape[1:]
        ):
            raise ValueError("a layer of another shape or type")
        if (
            weights.size == 0
            or wide not in (None, len(weights))
            or not (np.isfinite(weights).all() and np.isfinite(offset).all())
        ):
            raise ValueError("a layer that does not fit on the one before, or is not finite")
        wide = weights.shape[1]
    # The one output is the log-odds of membership
    if wide != 1:
        raise ValueError(f"a classifier with {wide} outputs")
    return SortedClassifier(digest_layers(layers), layers)


def _with_scores(empty: HampOutput, tensors: Tensors) -> HampOutput:
    """Give HAMP's part the scores of random inputs.

    Raises:
        ValueError: They are no falling probabilities.
    """
    if set(tensors) != {"scores"}:
        raise ValueError("other arrays than scores")
    scores = tensors["scores"]
    if (
        scores.dtype != np.float64
        or scores.ndim != 2
        or scores.size == 0
        or not np.isfinite(scores).all()
    ):
        raise ValueError("scores of another shape or type")
    if not (
        (scores >= 0).all()
        and (np.diff(scores, axis=1) < 0).all()
        and np.allclose(scores.sum(axis=1), 1.0)
    ):
        raise ValueError("scores that are no falling probabilities")
    return replace(
        empty, scores=scores, scores_digest=hashlib.sha256(scores.tobytes()).hexdigest()[:16]
    )
