"""Put a language model behind an output defence, as a guard would serve it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from memberscope.errors import InputError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.outputs.texts import ShownTokens, is_text_defence
from memberscope.texts import TokenSignals
from memberscope.types import Access, Floats, OutputDefence, Signal, Target, Task

# What a target may offer that a defence of its outputs does not change
PASSED = (
    "model_kind",
    "prefix",
    "tokens_identity",
    "notes",
    "costly",
    "stored",
    "endpoint",
    "spent",
    "count_tokens",
    "generate",
)


class RestrictedTextTarget:
    """A language model seen through `label`, `top:k`, `round:n` or `top:k+round:n`.

    With `label` (also `no-logprobs`) only the texts that it generates are left. With `top:k` a token
    that is not among the k most probable ones of its place has the most that its log-probability can
    be; a model that does not tell these cannot be seen so. The base model, which an adversary asks
    too, is seen in the same way as far as it can be, so that like is compared with like.

    >>> import numpy as np
    >>> from memberscope.outputs import parse_restriction
    >>> from memberscope.targets import TokenFunctionTarget
    >>> whole = TokenFunctionTarget(lambda texts: [np.array([-1.26, -0.04])] * len(texts))
    >>> RestrictedTextTarget(whole, parse_restriction("round:1")).query(["a b c"]).round(3).tolist()
    [[0.65]]
    """

    task: Task = "text"
    n_classes = 1
    hides = False

    def __init__(self, target: Target, defence: OutputDefence) -> None:
        """Put `defence` in front of `target`.

        Raises:
            InputError: The defence is none of texts, or the target cannot be seen through it.
        """
        if not is_text_defence(defence.name):
            raise InputError(
                f"Expected no-logprobs, top:k or round:n in front of a language model, got "
                f"{defence.name}. Name one of these."
            )
        self.target, self.defence = target, defence
        self.shown = ShownTokens.of(defence)
        self.restriction: str | None = defence.name
        if self.shown.hidden and not hasattr(target, "generate"):
            raise InputError(
                "Expected a model that writes texts behind no-logprobs, got one that only scores "
                "them. Give one with generate()."
            )
        # A list of the most probable tokens that nobody kept cannot be made up
        if self.shown.k is not None and not hasattr(target, "measure_top_tokens"):
            raise InputError(
                f"Expected a model that tells its most probable tokens for {defence.name}, got "
                f"{type(target).__name__}. Audit the model's folder, or restrict to round:n or "
                "no-logprobs."
            )
        self.signal: Signal = "generations" if self.shown.hidden else "loss"
        most = Access.GENERATIONS if self.shown.hidden else Access.TOKEN_PROBABILITIES
        self.access = min(target.access, most)

    def __getattr__(self, name: str) -> Any:
        # Looked up when asked for, as a served model knows some of it only after a query
        if name in PASSED:
            return getattr(self.target, name)
        raise AttributeError(name)

    @property
    def n_parameters(self) -> int | None:
        """Number of trainable parameters of the model."""
        return self.target.n_parameters

    @property
    def digest(self) -> str | None:
        """Hash of the target's digest and the defence's; None if the target has none."""
        return self._name_answers(self.target.digest)

    @property
    def identity(self) -> str | None:
        """What answers where there is no digest."""
        return self._name_answers(read_target_facts(self.target).identity)

    @property
    def base(self) -> Target | None:
        """The model before fine-tuning, behind the same defence where it can be."""
        base = read_target_facts(self.target).base
        if base is None or self.shown.hidden:
            return None
        if self.shown.k is not None and not hasattr(base, "measure_top_tokens"):
            return base
        return RestrictedTextTarget(base, self.defence)

    def query(self, x: Any, **whose: Any) -> Floats:
        """Give minus the mean (n, 1) of the log-probabilities that may be seen."""
        return -self.measure_tokens(x, **whose).mean_log_probability()[:, None]

    def measure_tokens(self, x: Any, **whose: Any) -> TokenSignals:
        """Measure what the defence lets be seen of the tokens of the records `x` (n,).

        `whose` goes to a target that counts queries.

        Raises:
            UnmetNeedError: It lets nothing be seen of them.
        """
        if self.shown.hidden:
            raise UnmetNeedError(
                "Expected log-probabilities of tokens, got a model behind no-logprobs. Run attacks "
                "on generated texts."
            )
        asked: Any = self.target
        if self.shown.k is not None:
            found: TokenSignals = asked.measure_top_tokens(x, self.shown.k)
        else:
            found = asked.measure_tokens(x, **whose)
        # Moments are of the whole vocabulary, and stored copies of unrestricted answers
        return replace(
            found,
            log_probability=self.shown.write_all(found.log_probability),
            base=None if found.base is None else self.shown.write_all(found.base),
            mean=None,
            variance=None,
            copies={},
        )

    def _name_answers(self, inner: str | None) -> str | None:
        """Name the answers of a target of this name behind the defence."""
        if inner is None:
            return None
        return hashlib.sha256(f"{inner}:{self.defence.digest}".encode()).hexdigest()
