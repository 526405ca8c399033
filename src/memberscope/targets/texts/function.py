"""Wrap a plain function from texts to log-probabilities of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from memberscope.errors import InputError, TargetError
from memberscope.texts import TokenSignals
from memberscope.types import Access, Floats, Signal, Task

PARTS = ("mean", "variance", "is_top")
ABOVE = 1e-4  # a log-probability may exceed zero by rounding


class TokenFunctionTarget:
    """A function from a list of records to the log-probabilities of their tokens.

    It gives an array (t,) for each record, or a dict with `log_probs` and, where they are known,
    `mean`, `variance` and `is_top`. Only tokens to score are among them: no padding, no prompt, and
    not a first token that nothing predicts.

    >>> target = TokenFunctionTarget(lambda texts: [np.full(len(text), -1.5) for text in texts])
    >>> target.query(["a text", "another"]).tolist()
    [[1.5], [1.5]]
    """

    task: Task = "text"
    signal: Signal = "loss"
    n_classes = 1
    n_parameters: int | None = None

    def __init__(
        self,
        function: Callable[[list[Any]], Sequence[Any]],
        *,
        access: Access = Access.TOKEN_PROBABILITIES,
        base: Any = None,
        prefix: str | None = None,
        batch_size: int = 256,
        tokens_identity: str | None = None,
        digest: str | None = None,
    ) -> None:
        """Wrap a `function` that is called with at most `batch_size` records.

        `access` is VOCABULARY where it gives `mean` and `variance`. `base` is another such function,
        or a target, of the model before fine-tuning. `tokens_identity` says how texts become
        tokens, which must agree with that of references. Answers are stored only with a `digest`.

        Raises:
            InputError: `access` is no level that shows log-probabilities.
        """
        if access not in (Access.TOKEN_PROBABILITIES, Access.VOCABULARY):
            raise InputError(
                "Expected access TOKEN_PROBABILITIES or VOCABULARY of a function of texts, got "
                f"{access.name}. Give one of these."
            )
        self.function = function
        self.access = access
        self.prefix = prefix
        self.batch_size = batch_size
        self.tokens_identity = tokens_identity
        self.digest = digest
        self.base = (
            base
            if base is None or hasattr(base, "measure_tokens")
            else TokenFunctionTarget(
                base, access=access, batch_size=batch_size, tokens_identity=tokens_identity
            )
        )

    def query(self, x: Any) -> Floats:
        """Query the losses (n, 1) of records: minus the mean log-probability of their tokens."""
        return -self.measure_tokens(x).mean_log_probability()[:, None]

    def measure_tokens(self, x: Any) -> TokenSignals:
        """Measure what the function says about the tokens of the records `x` (n,).

        Raises:
            TargetError: It gives another number of records, or values that are no log-probabilities.
        """
        records = list(x)
        answers: list[dict[str, Any]] = []
        for start in range(0, len(records), self.batch_size):
            part = records[start : start + self.batch_size]
            found = self.function(part)
            n = len(found) if hasattr(found, "__len__") else None
            if n != len(part):
                raise TargetError(
                    f"Expected an array for each of {len(part)} records of the function, got "
                    f"{type(found).__name__ if n is None else n}. Return a list of arrays."
                )
            answers += [
                _read_answer(answer, start + row, self.access) for row, answer in enumerate(found)
            ]
        counts = [len(answer["log_probs"]) for answer in answers]

        def join(name: str) -> Any:
            """Join one part of all answers; None if some lack it."""
            values = [answer[name] for answer in answers if name in answer]
            if len(values) < len(answers):
                return None
            return np.concatenate(values).astype(bool if name == "is_top" else np.float32)

        return TokenSignals(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            join("log_probs"),
            **{name: join(name) for name in PARTS},
        )


def _read_answer(answer: Any, row: int, access: Access) -> dict[str, Any]:
    """Read the answer about the record at position `row`.

    Raises:
        TargetError: It holds no log-probabilities, or arrays of several lengths.
    """
    where = f"record {row + 1}"
    given = answer if isinstance(answer, Mapping) else {"log_probs": answer}
    if "log_probs" not in given:
        raise TargetError(
            f"Expected log_probs for {where} of the function, got {', '.join(map(str, given))}. "
            "Return a dict with log_probs."
        )
    needed = ("mean", "variance") if access == Access.VOCABULARY else ()
    lacking = [name for name in needed if given.get(name) is None]
    if lacking:
        raise TargetError(
            f"Expected mean and variance for {where} of a function at access VOCABULARY, got no "
            f"{lacking[0]}. Return both, or declare Access.TOKEN_PROBABILITIES."
        )
    found = {
        name: np.asarray(value)
        for name, value in given.items()
        if name in ("log_probs", *PARTS) and value is not None
    }
    shapes = {name: values.shape for name, values in found.items()}
    n = len(found["log_probs"]) if found["log_probs"].ndim == 1 else 0
    if n == 0 or set(shapes.values()) != {(n,)}:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise TargetError(
            f"Expected one log-probability for each token of {where}, at least one, got {got}. "
            "Leave out records without a token that is predicted."
        )
    for name in ("log_probs", "mean", "variance"):
        if name in found and not np.isfinite(found[name].astype(np.float64)).all():
            raise TargetError(
                f"Expected finite {name} for {where}, got NaN or infinity. Look at what the "
                "function gives for it."
            )
    if found["log_probs"].max() > ABOVE:
        raise TargetError(
            f"Expected log-probabilities, which are at most 0, for {where}, got "
            f"{float(found['log_probs'].max()):.4g}. Return log p, not p or the loss."
        )
    return found
