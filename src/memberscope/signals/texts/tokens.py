"""Ask a language model about the tokens of each record, in blocks that are stored as they finish.

One query a record shows the log-probability of its tokens. The same tokens under the base model,
the lower-cased record and the record after a prefix take one more query each, and are asked for
only where an attack reads them.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.attacks import compute_token_features
from memberscope.errors import InputError, MemberscopeError, TargetError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.signals.collect import PROBE, Observed, measure_own_seconds
from memberscope.signals.measured import MeasuredSignal, build_single_stage
from memberscope.signals.store import Store, build_signal_key, digest_records
from memberscope.targets.wrappers import find_metered_target
from memberscope.texts import (
    TOKEN_ARRAYS,
    Chat,
    Completion,
    TextRecord,
    TokenPart,
    TokenSignals,
    join_token_signals,
    read_scored_text,
)
from memberscope.types import Floats, Records, SignalSpec, Target

# Parts that take a query of their own, about a changed copy of each record
COPIED: tuple[TokenPart, ...] = ("lowercase", "recall")
BLOCK = 512  # records asked, checked and stored together
Progress = Callable[[int, int], None]


def collect_tokens(
    target: Target,
    records: Records,
    parts: Sequence[TokenPart] = (),
    *,
    store: Store | None = None,
    progress: Progress | None = None,
    known: TokenSignals | None = None,
) -> TokenSignals:
    """Ask the target about the tokens of every record, and for the `parts` besides.

    Blocks that `store` holds for the same target and records are reused. `moments` and `top` come
    with the first query where the target shows them. `known` is what it answered already.

    Raises:
        TargetError: The model fails, or gives other tokens than it should.
        UnmetNeedError: The target does not show a part, or has no base model or prefix for it.
    """
    n, data = len(records), digest_records(records) if store else ""
    # Once for all blocks, since a digest reads all weights
    digests = _digest_models(target, parts) if store else {}
    found: list[TokenSignals] = []
    for start in range(0, n, BLOCK):
        rows = slice(start, min(n, start + BLOCK))
        block = _Block(target, records, rows, data, digests, store)
        signals = block.ask_identity() if known is None else known.take(block.rows)
        for part in parts:
            signals = _add_part(part, signals, block)
        found.append(signals)
        if progress:
            progress(block.rows.stop, n)
    return join_token_signals(found)


def _digest_models(target: Target, parts: Sequence[TokenPart]) -> dict[str, str | None]:
    """Digest the models by what is asked of them: the base for its part, the target for all else."""
    own = target.digest
    found: dict[str, str | None] = dict.fromkeys(("identity", "lowercase", "recall"), own)
    base = read_target_facts(target).base
    return found | ({"base": base.digest} if base is not None and "base" in parts else {})


@dataclass(frozen=True, eq=False)
class _Block:
    """The records at `rows`, asked of a target together.

    `data` is the digest of all records, and `digests` are those of the models by what they are
    asked.
    """

    target: Target
    records: Records
    rows: slice
    data: str
    digests: Mapping[str, str | None]
    store: Store | None

    @property
    def texts(self) -> list[TextRecord]:
        """The texts of the block."""
        return list(self.records.x[self.rows])

    def ask_identity(self) -> TokenSignals:
        """Ask about the texts as they are, and add their sizes."""
        return _add_sizes(self.ask("identity", self.target, self.texts), self.texts)

    def ask(self, name: str, model: Target, texts: Sequence[TextRecord]) -> TokenSignals:
        """Ask a model about texts made from the block's, or take its answer from the store."""
        place = (self.rows.start, self.rows.stop)
        # What is put before a record is not in the digest of the records
        prefix = read_target_facts(self.target).prefix if name == "recall" else None
        told = () if not prefix else (hashlib.sha256(prefix.encode()).hexdigest(),)
        spec = SignalSpec("tokens", views=(name, *told))
        digest = self.digests.get(name)
        key = build_signal_key(digest, self.data, spec, place) if digest else None
        kept = self.store.get_all(key) if self.store and key else None
        if kept is not None:
            return _restore_tokens(kept)
        answer = _measure_texts(model, texts, self.records.ids[self.rows])
        if self.store and key:
            self.store.put_all(key, _list_arrays(answer))
        return answer


def collect_token_answers(
    target: Target,
    records: Records,
    *,
    store: Store | None = None,
    probe: bool = True,
    progress: Progress | None = None,
) -> tuple[Observed, TokenSignals]:
    """Ask a text target about every record once, for its losses and what it says of the tokens.

    With `probe` the first records are asked a second time, to see whether the model answers the
    same.

    Raises:
        TargetError: The model fails, or gives other tokens than it should.
        InputError: Its log-probabilities are not usable.
    """
    started = time.perf_counter(), time.process_time()
    tokens = collect_tokens(target, records, store=store, progress=progress)
    timed = ((len(records), measure_own_seconds(*started)),)
    outputs, n = compute_losses(tokens), len(records)
    if not probe:
        return Observed(outputs, target.signal, n, None, 0.0, None, timed), tokens
    twice = min(PROBE, n)
    again = compute_losses(_measure_texts(target, list(records.x[:twice]), records.ids[:twice]))
    change = float(np.max(np.abs(again - outputs[:twice])))
    # Batches of other lengths move the last digits of float32
    fixed = change <= 1e-4 * max(1.0, float(outputs[:twice].max()))
    return Observed(outputs, target.signal, n + twice, fixed, change, None, timed), tokens


def measure_token_features(
    target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None
) -> MeasuredSignal:
    """Measure the features (n, 1, d) of what a text target says of each record's tokens.

    With a base model they compare with it too.

    Raises:
        TargetError: The model fails.
        UnmetNeedError: The base model scores other tokens.
    """
    parts: tuple[TokenPart, ...] = ("base",) if read_target_facts(target).base else ()
    tokens = collect_tokens(target, records, parts, progress=progress)
    return build_single_stage(compute_token_features(hide_vocabulary(tokens)), 1)


def hide_vocabulary(signals: TokenSignals) -> TokenSignals:
    """Leave out what log-probabilities of the given tokens alone do not show.

    >>> one = np.array([-1.0])
    >>> hide_vocabulary(TokenSignals(np.array([0, 1]), one, mean=one, variance=-one)).has_part("moments")
    False
    """
    return replace(signals, mean=None, variance=None)


def _add_part(part: TokenPart, signals: TokenSignals, block: _Block) -> TokenSignals:
    """Add one part to the token signals of a block.

    Raises:
        UnmetNeedError: The target does not show it, or what it takes is missing.
    """
    facts = read_target_facts(block.target)
    # Stored signals bring what was stored of them
    if signals.has_part(part):
        return signals
    if part == "base" and facts.base is not None:
        other = block.ask("base", facts.base, block.texts)
        if not np.array_equal(other.offsets, signals.offsets):
            raise UnmetNeedError(
                "Expected the base model to score the same tokens as the audited model, got "
                f"{len(other.log_probability)} tokens instead of {len(signals.log_probability)}. "
                "Give a base model with the same tokenizer."
            )
        return replace(signals, base=other.log_probability)
    if (
        facts.stored
        or part in ("moments", "top", "base")
        or (part == "recall" and not facts.prefix)
    ):
        raise UnmetNeedError(explain_missing_part(part))
    if part == "recall" and any(_has_no_prompt(record) for record in block.texts):
        raise UnmetNeedError(
            "Expected chats that end with an answer of the assistant, got one of which all "
            "messages are scored, a prefix before it among them. Leave out recall."
        )
    changed = [
        lower_record(record) if part == "lowercase" else put_prefix(facts.prefix or "", record)
        for record in block.texts
    ]
    answer = block.ask(part, block.target, changed)
    # What the prefix pushes out of the context would be compared with a longer text
    if part == "recall" and (n_cut := int((answer.counts < signals.counts).sum())):
        raise UnmetNeedError(
            f"Expected a prefix that leaves room for each record in the model's context, got one "
            f"with which {n_cut} of {len(signals)} records are cut. Shorten the texts of "
            "--recall-prefix, or give --long windows."
        )
    return replace(signals, copies={**signals.copies, part: answer.mean_log_probability()})


def _has_no_prompt(record: TextRecord) -> bool:
    """Tell whether all messages of a chat are scored, so that nothing can stand before them.

    >>> _has_no_prompt(Chat((("user", "Hello"),))), _has_no_prompt("Hello")
    (True, False)
    """
    return isinstance(record, Chat) and (
        len(record.messages) < 2 or record.messages[-1][0] != "assistant"
    )


def explain_missing_part(part: TokenPart) -> str:
    """Explain why a part of the token signals cannot be had.

    >>> explain_missing_part("base")
    'Expected the model before fine-tuning, got none. Give --base-model, or base= of the target.'
    """
    return {
        "moments": "Expected the whole distribution of each token, got the given tokens' "
        "log-probabilities alone. Audit a model whose whole vocabulary is open.",
        "top": "Expected to know whether each token was the most probable one, got its "
        "log-probability alone. Audit a model that tells its top token.",
        "base": "Expected the model before fine-tuning, got none. Give --base-model, or base= of "
        "the target.",
        "recall": "Expected a prefix of texts that the model was not trained on, got none. Give "
        "--recall-prefix, or prefix= of the target.",
        "lowercase": "Expected a model that can be asked about lower-cased texts, got stored "
        "signals. Audit the model itself.",
    }[part]


def lower_record(record: TextRecord) -> TextRecord:
    """Lower-case the scored text of a record.

    >>> lower_record(Completion("Q: Why?", " Because"))
    Completion(prompt='Q: Why?', completion=' because')
    """
    if isinstance(record, Completion):
        return replace(record, completion=record.completion.lower())
    if isinstance(record, Chat):
        *before, (role, content) = record.messages
        return Chat((*before, (role, content.lower())))
    return record.lower()


def put_prefix(prefix: str, record: TextRecord) -> TextRecord:
    """Put a prefix before a record, of which no token is scored.

    >>> put_prefix("Once. ", "Upon a time")
    Completion(prompt='Once. ', completion='Upon a time')
    """
    if isinstance(record, Completion):
        return replace(record, prompt=prefix + record.prompt)
    if isinstance(record, Chat):
        (role, content), *rest = record.messages
        # The first message takes the prefix, so that the last one is scored as before
        return Chat(((role, prefix + content), *rest))
    return Completion(prefix, record)


def _measure_texts(model: Any, texts: Sequence[TextRecord], ids: NDArray[np.str_]) -> TokenSignals:
    """Ask a model about texts, and check what it says.

    Raises:
        TargetError: It fails, or gives other tokens than it should.
    """
    x = np.empty(len(texts), dtype=object)
    x[:] = texts
    counted, whose = find_metered_target(model), {}
    # A target with a budget learns which records the queries are for
    if counted is not None:
        whose["owners"] = ids.tolist()
    try:
        answer: TokenSignals = model.measure_tokens(x, **whose)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected token log-probabilities of {len(texts)} texts, got {type(error).__name__}: "
            f"{first}. Call the model on these texts yourself to see why."
        ) from error
    check_tokens(answer, ids)
    return answer


def check_tokens(signals: TokenSignals, ids: NDArray[np.str_]) -> None:
    """Refuse token signals that are not of these records, not finite, or no log-probabilities.

    Raises:
        TargetError: The number of records is another one.
        InputError: A record has no token, or a value is out of range.
    """
    if len(signals) != len(ids):
        raise TargetError(
            f"Expected token signals of {len(ids)} records, got {len(signals)}. Return one entry "
            "for each record."
        )
    empty = np.flatnonzero(signals.counts < 1)
    if len(empty):
        raise InputError(
            f"Expected at least one scored token, got none for record {str(ids[empty[0]])!r} "
            f"({len(empty)} records in all). A text needs two tokens, or a model that begins "
            "texts with a token of its own; leave out shorter ones."
        )
    values = np.asarray(signals.log_probability)
    wrong = np.flatnonzero(~np.isfinite(values) | (values > 1e-4))
    if len(wrong):
        where = int(np.searchsorted(signals.offsets, wrong[0], side="right")) - 1
        raise InputError(
            f"Expected finite log-probabilities of at most 0, got {float(values[wrong[0]]):.4g} for "
            f"a token of record {str(ids[where])!r} ({len(wrong)} tokens in all). Give natural "
            "logarithms of probabilities."
        )


def _add_sizes(signals: TokenSignals, texts: Sequence[TextRecord]) -> TokenSignals:
    """Add the bytes of each scored text, plain and compressed, where they are not given."""
    if signals.n_bytes is not None and signals.zlib_bytes is not None:
        return signals
    # Stored signals may come without their texts
    if any(isinstance(record, int | np.integer) for record in texts):
        return signals
    encoded = [read_scored_text(record).encode() for record in texts]
    return replace(
        signals,
        n_bytes=np.array([len(one) for one in encoded], dtype=np.int64),
        zlib_bytes=np.array([len(zlib.compress(one)) for one in encoded], dtype=np.int64),
    )


def _list_arrays(signals: TokenSignals) -> dict[str, Any]:
    """List the arrays of token signals by name, for the store."""
    names = ("offsets", *TOKEN_ARRAYS, "n_bytes", "zlib_bytes")
    found = {name: getattr(signals, name) for name in names}
    found |= {f"copy {name}": values for name, values in signals.copies.items()}
    return {name: np.asarray(values) for name, values in found.items() if values is not None}


def _restore_tokens(kept: dict[str, Any]) -> TokenSignals:
    """Restore token signals from the arrays of the store."""
    copies = {name[5:]: values for name, values in kept.items() if name.startswith("copy ")}
    return TokenSignals(
        copies=copies, **{name: v for name, v in kept.items() if not name.startswith("copy ")}
    )


def compute_losses(signals: TokenSignals) -> Floats:
    """Compute the outputs (n, 1) of a text target: minus the mean log-probability, in nats.

    >>> compute_losses(TokenSignals(np.array([0, 2]), np.array([-1.0, -3.0]))).tolist()
    [[2.0]]
    """
    return -np.minimum(signals.mean_log_probability(), 0.0)[:, None]
