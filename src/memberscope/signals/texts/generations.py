"""Ask a language model to write on from the first half of each text, and compare with the second.

It takes generated texts alone. How much of the second half the model writes again is the signal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from memberscope.attacks import compute_ngram_coverage, split_in_halves
from memberscope.errors import MemberscopeError, TargetError, UnmetNeedError
from memberscope.signals.collect import Observed
from memberscope.signals.measured import MeasuredSignal, build_single_stage, read_parameter
from memberscope.signals.store import Store, build_signal_key, digest_records
from memberscope.texts import Chat, Completion, TextRecord, read_scored_text
from memberscope.types import Floats, Records, SignalSpec, Target

SAMPLES = 5  # continuations of each text
MOST_TOKENS = 256  # of one continuation
CHARACTERS = 3  # a token at least, in text of most tokenizers
BLOCK = 64  # texts asked, checked and stored together
SEED = 0
Progress = Callable[[int, int], None]


def measure_generations(
    target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None
) -> MeasuredSignal:
    """Measure how much of each text's second half is in continuations of its first half, (n, 1, 1).

    Raises:
        UnmetNeedError: The target does not generate texts.
        TargetError: It fails.
    """
    n_samples = int(read_parameter(spec, "samples", SAMPLES))
    values = _cover_records(target, records, n_samples, None, progress)
    return build_single_stage(values, n_samples)


def collect_generation_answers(
    target: Target,
    records: Records,
    *,
    budget: int | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Observed:
    """Ask a target that only generates texts, as the one answer for each record.

    Each continuation is a query, of which a record has at most `budget`.

    Raises:
        UnmetNeedError: The target does not generate texts.
        TargetError: It fails.
    """
    n_samples = SAMPLES if budget is None else min(SAMPLES, budget)
    values = _cover_records(target, records, n_samples, store, progress)
    return Observed(values, "generations", n_samples * len(records), None, 0.0)


def _cover_records(
    target: Any, records: Records, n_samples: int, store: Store | None, progress: Progress | None
) -> Floats:
    """Compute the n-gram coverage (n, 1) of each record, in blocks that the store keeps."""
    if not hasattr(target, "generate"):
        raise UnmetNeedError(
            f"Expected a model that writes texts, got {type(target).__name__}. Audit one with "
            "generate(prompts, n, max_tokens, seed)."
        )
    n, data = len(records), digest_records(records) if store else ""
    model = target.digest if store else None
    # One length for all records, whatever others share a block
    longest = max(len(_split_record(record)[1]) for record in records.x) // CHARACTERS + 1
    spec = SignalSpec("generations", parameters=(("samples", float(n_samples)),))
    parts = []
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        key = None
        if store and model:
            key = build_signal_key(model, data, spec, (start, stop))
        values = store.get(key) if store and key else None
        if values is None:
            values = _cover_texts(target, list(records.x[start:stop]), n_samples, longest)
            if store and key:
                store.put(key, values)
        parts.append(values)
        if progress:
            progress(stop, n)
    return np.concatenate(parts)


def _cover_texts(target: Any, texts: list[TextRecord], n_samples: int, longest: int) -> Floats:
    """Compute the n-gram coverage (b, 1) of a block of texts, from at most `longest` tokens.

    Raises:
        TargetError: The target fails, or gives another number of continuations.
    """
    prompts, wanted = zip(*map(_split_record, texts), strict=True)
    try:
        written = target.generate(list(prompts), n_samples, min(longest, MOST_TOKENS), SEED)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected continuations of {len(texts)} texts, got {type(error).__name__}: {first}. "
            "Call generate on these texts yourself to see why."
        ) from error
    if len(written) != len(texts) or any(len(one) != n_samples for one in written):
        raise TargetError(
            f"Expected {n_samples} continuations of each of {len(texts)} texts, got others. "
            "Return one list for each prompt."
        )
    shares = [compute_ngram_coverage(*pair) for pair in zip(wanted, written, strict=True)]
    return np.array(shares)[:, None]


def _split_record(record: TextRecord) -> tuple[str, str]:
    """Split a record into what the model is given and what it is hoped to write.

    >>> _split_record(Completion("Q: Who?", " I came and saw"))
    ('Q: Who? I came', ' and saw')
    """
    first, second = split_in_halves(read_scored_text(record))
    if isinstance(record, Completion):
        return record.prompt + first, second
    if isinstance(record, Chat):
        before = "\n".join(content for _, content in record.messages[:-1])
        return f"{before}\n{first}" if before else first, second
    return first, second
