"""Query the model once for each record, in batches that are stored as they finish.

Outputs are checked before anything is computed from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import _check
from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.facts import read_target_facts
from memberscope.frames import slice_rows
from memberscope.signals.store import Store, build_signal_key, digest_records
from memberscope.targets.answers import compute_simplex_tolerance
from memberscope.targets.stored import has_percentages
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import (
    OUTPUT_SIGNALS,
    Floats,
    Ints,
    Records,
    Signal,
    SignalSpec,
    Target,
)

LARGEST = 1e15  # size of a predicted number, to which those of reference models are clipped too
SURE = 20  # records that must all look like probabilities before logits are refused as such
PROBE = 32  # records asked twice, to see whether the model answers the same
SECOND = SignalSpec("outputs", parameters=(("again", 1.0),))  # key of the second answers
# Key of the labels that the model itself decides on
LABELS = SignalSpec("outputs", parameters=(("labels", 1.0),))
BUSY = 0.2  # share of a call's time from which the processor, not waiting, is what takes it
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Observed:
    """Answers of a model: `outputs` (n, k), their signal, and how many records were sent.

    `deterministic` is true if asking twice gave the same, and None where nothing was asked twice,
    since one query is the budget. What an earlier run sent and stored counts too, so that a resumed
    audit says the same as one that was never interrupted. `labels` (n,) are the classes that the
    model itself decides on, None where these are the top ones of `outputs`. `timed` lists the calls
    of this run as (records, seconds); what was read from the store took none.
    """

    outputs: Floats
    signal: Signal
    queries: int
    deterministic: bool | None
    largest_change: float
    labels: Ints | None = None
    timed: tuple[tuple[int, float], ...] = ()


def collect_outputs(
    target: Target,
    records: Records,
    *,
    store: Store | None = None,
    batch_size: int = 4096,
    probe: bool = True,
    progress: Progress | None = None,
) -> Observed:
    """Query the target once for each record.

    Batches that `store` holds for the same target and records are reused. With `probe` the first
    records are asked a second time, to see whether the model answers the same.

    Raises:
        TargetError: The model fails or gives another number of rows.
        InputError: Its answers are not finite, not probabilities or of the wrong width, or labels
            are out of range.
    """
    validate_truth(target.signal, records.y, target.n_classes)
    n = len(records)
    # Hashing a model of many trees takes a good part of a second
    model, data = (target.digest, digest_records(records)) if store else (None, "")
    facts = read_target_facts(target)
    counted = find_metered_target(target)
    # A query of an endpoint has a size of its own, by which its budget is counted
    batch_size = batch_size if counted is None else counted.rows_a_query

    timed: list[tuple[int, float]] = []

    def answered(start: int, stop: int, spec: SignalSpec) -> Floats:
        # Without a digest the target cannot be told from another one, and nothing is stored
        name = build_signal_key(model, data, spec, (start, stop)) if store and model else None
        answer = store.get(name) if store and name else None
        if answer is None:
            started = time.perf_counter(), time.process_time()
            answer = query_records(
                target, records, start, stop, None if spec is SECOND else progress
            )
            timed.append((stop - start, measure_own_seconds(*started)))
            validate_outputs(
                target.signal, answer, records.ids[start:stop], target.n_classes, hides=facts.hides
            )
            if store and name:
                store.put(name, answer)
        return answer

    parts: list[Floats] = []
    for start in range(0, n, batch_size):
        stop = min(n, start + batch_size)
        parts.append(answered(start, stop, SignalSpec()))
        if progress:
            progress(stop, n)
    outputs = np.concatenate(parts)
    labels = None if facts.predict is None else _collect_decisions(target, records, store)
    # The model's own labels take a second query of each record
    sent = n if labels is None else 2 * n
    if not probe:
        return Observed(outputs, target.signal, sent, None, 0.0, labels, tuple(timed))
    twice = min(PROBE, n)
    first, second = np.nan_to_num(outputs[:twice]), np.nan_to_num(answered(0, twice, SECOND))
    change = float(np.max(np.abs(second - first)))
    # Batching and threads move the last digits of float32
    allowed = 1e-5 * max(1.0, float(np.abs(first).max()))
    return Observed(
        outputs, target.signal, sent + twice, change <= allowed, change, labels, tuple(timed)
    )


def measure_own_seconds(wall: float, processor: float) -> float:
    """Measure the seconds of one core since two readings of the clocks.

    What other programs took does not count, as processor time tells, unless the model waits for
    something else, such as a graphics card.
    """
    passed, used = time.perf_counter() - wall, time.process_time() - processor
    return used if used > BUSY * passed else passed


def _collect_decisions(target: Any, records: Records, store: Store | None = None) -> Ints:
    """Collect the classes (n,) that the target's own `predict` gives the records.

    They are read from the `store` where they are there.

    Raises:
        TargetError: The model fails or gives another number of labels.
        InputError: It gives something else than its classes.
    """
    n, model = len(records), target.digest if store else None
    name = (
        build_signal_key(model, digest_records(records), LABELS, (0, n))
        if store and model
        else None
    )
    kept = store.get(name) if store and name else None
    if kept is not None:
        return kept[:, 0].astype(np.int64)
    labels = predict_labels(target, records.x)
    if labels.shape != (n,):
        raise TargetError(
            f"Expected {n} labels from predict, got shape {labels.shape}. Return one label for "
            "each record."
        )
    validate_outputs("labels", labels[:, None].astype(np.float64), records.ids, target.n_classes)
    # Stored after the check, so that a bad answer is never taken from the store later
    if store and name:
        store.put(name, labels[:, None].astype(np.float64))
    return labels


def predict_labels(target: Any, x: Any) -> Ints:
    """Give what the target's own `predict` says about the records `x`, as class numbers (n,).

    Raises:
        TargetError: It fails.
    """
    try:
        return np.asarray(target.predict(x), dtype=np.int64)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected labels from predict, got {type(error).__name__}: {first}. Call predict on "
            "these records yourself to see why."
        ) from error


def query_records(
    target: Target, records: Records, start: int, stop: int, progress: Progress | None = None
) -> Floats:
    """Query the records from `start` up to `stop`, for outputs (stop - start, k).

    A target with a budget learns which records the queries are for. A target that makes batches
    itself reports to `progress` how many are answered.

    Raises:
        TargetError: The model fails or gives another number of rows.
    """
    counted, whose = find_metered_target(target), {}
    if counted is not None:
        whose["owners"] = records.ids[start:stop].tolist()
        counted.told = (
            None if progress is None else lambda done: progress(start + done, len(records))
        )
    try:
        answer = np.asarray(
            target.query(slice_rows(records.x, start, stop), **whose), dtype=np.float64
        )
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        raise TargetError(
            f"Expected answers for records {start} to {stop - 1}, got {type(error).__name__}: "
            f"{first}. Call the model on these records yourself to see why."
        ) from error
    finally:
        if counted is not None:
            counted.told = None
    if answer.ndim != 2 or len(answer) != stop - start:
        raise TargetError(
            f"Expected {stop - start} rows of outputs, got shape {answer.shape}. Return one row "
            "for each record."
        )
    return answer


def _name_column(signal: Signal) -> str:
    """Name what a column of answers is about.

    >>> _name_column("prediction"), _name_column("logits")
    ('output', 'class')
    """
    return {"prediction": "output", "label_probabilities": "label"}.get(signal, "class")


def validate_outputs(
    signal: Signal, outputs: Floats, ids: NDArray[np.str_], n_classes: int, *, hides: bool = False
) -> None:
    """Refuse outputs (n, k) that do not fit `signal`, naming the first record that is wrong.

    A target that `hides` classes gives NaN for them, and what it gives need not sum to one.

    Raises:
        InputError: They are not finite, not probabilities, negative losses, or of the wrong width.
    """
    width = 1 if signal in ("labels", "loss") else n_classes
    if outputs.shape[1] != width:
        raise InputError(
            f"Expected {width} columns of {signal}, got {outputs.shape[1]}. Give one column for "
            f"each {_name_column(signal)}, or correct n_classes."
        )
    if hides and signal == "probabilities":
        empty = np.flatnonzero(np.isnan(outputs).all(axis=1))
        if len(empty):
            raise InputError(
                f"Expected at least one class answered, got none for record {str(ids[empty[0]])!r} "
                f"({len(empty)} records in all). Show at least the top class."
            )
        # Hidden classes fit any range, and must not make the rest look infinite
        outputs = np.where(np.isnan(outputs), 0.0, outputs)
    _check.check_finite(f"outputs ({signal})", outputs, ids)
    if signal in OUTPUT_SIGNALS:
        _refuse_odd_outputs(signal, outputs, ids)
    if signal == "probabilities":
        outside = np.flatnonzero((outputs < -1e-6).any(axis=1) | (outputs > 1 + 1e-6).any(axis=1))
        sums = outputs.sum(axis=1)
        uneven = (
            np.flatnonzero(np.abs(sums - 1) > compute_simplex_tolerance(outputs))
            if not hides
            else outside
        )
        # Told first: percentages lie outside 0 to 1 too, where logits would be suspected
        if has_percentages(outputs):
            raise InputError(
                "Expected probabilities that sum to 1, got rows that sum to 100, percentages. "
                "Divide them by 100."
            )
        if len(outside):
            worst = outputs[outside[0]][np.argmax(np.abs(outputs[outside[0]] - 0.5))]
            raise InputError(
                f"Expected probabilities between 0 and 1, got {worst:.4g} for record "
                f"{str(ids[outside[0]])!r}. "
                "If these are logits, declare them: --outputs logits, wrap(model, "
                "outputs='logits'), or the columns z0, z1, … of a table."
            )
        if len(uneven):
            raise InputError(
                f"Expected probabilities that sum to 1, got {sums[uneven[0]]:.4f} for record "
                f"{str(ids[uneven[0]])!r} "
                f"({len(uneven)} records in all). Divide each row by its sum; of a model, in a "
                f"function around it: wrap(f, n_classes={n_classes})."
            )
    # A model whose logits all look like probabilities gives probabilities: attacks on logits would
    # then take a softmax of a softmax
    if (
        signal == "logits"
        and len(outputs) >= SURE
        and outputs.min() >= 0
        and (np.abs(outputs.sum(axis=1) - 1) < 1e-5).all()
    ):
        raise InputError(
            "Expected logits, got numbers that are probabilities in every record. Declare them as "
            "probabilities: columns p0, p1, … "
            "in a table, TorchTarget(module, outputs='probabilities') for a module."
        )
    if signal == "labels":
        strange = (
            (outputs[:, 0] != np.floor(outputs[:, 0]))
            | (outputs[:, 0] < 0)
            | (outputs[:, 0] >= n_classes)
        )
        if strange.any():
            where = int(np.argmax(strange))
            raise InputError(
                f"Expected labels as whole numbers from 0 to {n_classes - 1}, got "
                f"{outputs[where, 0]:g} for record {str(ids[where])!r} ({int(strange.sum())} "
                "records in all). Declare the model's classes, as in OnnxTarget(session, "
                "classes=(1, 2, 3))."
            )
    if signal == "loss" and (outputs < -1e-9).any():
        first = str(ids[int(np.argmax(outputs[:, 0] < -1e-9))])
        raise InputError(
            f"Expected losses of at least 0, got a negative one for record {first!r}. Give the "
            "cross-entropy in nats."
        )


def _refuse_odd_outputs(signal: Signal, outputs: Floats, ids: NDArray[np.str_]) -> None:
    """Refuse predicted numbers whose squares would overflow, and odd probabilities of labels (n, k).

    Rows of probabilities need not sum to one.

    Raises:
        InputError: Some are too large, or outside 0 to 1.
    """
    if signal == "prediction":
        huge = np.flatnonzero((np.abs(outputs) > LARGEST).any(axis=1))
        if len(huge):
            raise InputError(
                f"Expected predictions of at most {LARGEST:g} in size, got "
                f"{np.abs(outputs[huge[0]]).max():.3g} for record {str(ids[huge[0]])!r} "
                f"({len(huge)} records in all). Give them in a larger unit."
            )
    if signal != "label_probabilities":
        return
    outside = np.flatnonzero((outputs < -1e-6).any(axis=1) | (outputs > 1 + 1e-6).any(axis=1))
    if len(outside):
        worst = outputs[outside[0]][np.argmax(np.abs(outputs[outside[0]] - 0.5))]
        raise InputError(
            f"Expected a probability between 0 and 1 for each label, got {worst:.4g} for record "
            f"{str(ids[outside[0]])!r} ({len(outside)} records in all). Let the model end in a "
            "sigmoid, or wrap it in a function that applies one."
        )


def validate_truth(signal: Signal, labels: NDArray[Any], width: int) -> None:
    """Refuse true classes, numbers or labels that do not fit a model's answers of `width` columns.

    Raises:
        InputError: Classes are out of range, numbers are not finite or not of that width, or labels
            are not 0 or 1.

    >>> validate_truth("prediction", np.array([0.5, 2.0]), 1)
    """
    if signal not in OUTPUT_SIGNALS:
        validate_labels(labels, width)
        return
    # A released table answers about records that have no truth apart from their columns
    if signal == "proximity":
        return
    truth = np.asarray(labels).reshape(len(labels), -1)
    if truth.shape[1] != width:
        raise InputError(
            f"Expected true values of {width} outputs as the model answers, got "
            f"{truth.shape[1]}. Name one column of the table for each output; of a forecast "
            "give the horizon that the model answers."
        )
    if signal == "label_probabilities" and not np.isin(truth, (0, 1)).all():
        odd = truth[~np.isin(truth, (0, 1))]
        raise InputError(
            f"Expected 0 or 1 for each label, got {odd[0]} ({len(odd)} values in all). Give one "
            "column for each label, 1 where it applies."
        )
    if not np.isfinite(truth).all():
        wrong = int((~np.isfinite(truth)).any(axis=1).sum())
        raise InputError(
            f"Expected finite true values, got NaN or infinity for {wrong} records. Fill them, or "
            "leave the records out."
        )


def validate_labels(labels: Ints, n_classes: int) -> None:
    """Refuse labels (n,) outside 0 to n_classes - 1.

    Raises:
        InputError: Some label is out of range.
    """
    odd = (labels < 0) | (labels >= n_classes)
    if odd.any():
        raise InputError(
            f"Expected labels from 0 to {n_classes - 1}, got {int(labels[odd][0])} "
            f"({int(odd.sum())} records out of range). "
            f"Use 0-based classes in the order of the model's outputs."
        )
