"""Chain output defences, and parse their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from memberscope.errors import InputError
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.label_only import LabelOnly
from memberscope.outputs.memguard import MemGuard, Stop
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.predictions import (
    Bins,
    Clipping,
    Decimals,
    Digits,
    Edges,
    Intervals,
    LabelsOnly,
)
from memberscope.outputs.rounding import Rounding
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK
from memberscope.types import Bools, Floats, OutputDefence, Signal


@dataclass(frozen=True)
class Chain:
    """Apply each of `parts` to what the one before it answers.

    >>> import numpy as np
    >>> Chain((TopK(1), Rounding(1)))(np.array([[0.26, 0.74]])).tolist()
    [[nan, 0.7]]
    """

    parts: tuple[OutputDefence, ...]

    @cached_property
    def name(self) -> str:
        """Names of the parts, joined by `+`."""
        return "+".join(part.name for part in self.parts)

    @property
    def signal(self) -> Signal:
        """Kind of the last part's answers."""
        return self.parts[-1].signal

    @property
    def hides(self) -> bool:
        """Whether some part leaves something out."""
        return any(part.hides for part in self.parts)

    @property
    def digest(self) -> str:
        """Digests of the parts, joined by `+`."""
        return "+".join(part.digest for part in self.parts)

    def fit(self, outputs: Floats, member: Bools) -> Chain:
        """Fit the parts in order, each to what those before it answer."""
        fitted = [self.parts[0].fit(outputs, member)]
        for part in self.parts[1:]:
            outputs = fitted[-1](outputs)
            fitted.append(part.fit(outputs, member))
        return Chain(tuple(fitted))

    def __call__(self, outputs: Floats) -> Floats:
        """Answer with the last part's answers."""
        for part in self.parts:
            outputs = part(outputs)
        return outputs


def _parse_seed(text: str | None) -> int | None:
    """Parse the seed at the end of a name, if there is one."""
    return None if text is None else int(text)


KINDS: dict[str, Callable[..., OutputDefence]] = {
    "top": lambda k: TopK(int(k)),
    "round": lambda decimals: Rounding(int(decimals)),
    "temperature": lambda value: Temperature(float(value)),
    "noise": lambda scale, seed=None: OutputNoise(float(scale), _parse_seed(seed)),
    "memguard": lambda distortion, steps="300", stop="undecided", seed=None: MemGuard(
        float(distortion), int(steps), cast(Stop, stop), _parse_seed(seed)
    ),
    "hamp_output": lambda seed=None: HampOutput(_parse_seed(seed)),
    "label": LabelOnly,
    "decimals": lambda decimals: Decimals(int(decimals)),
    "digits": lambda digits: Digits(int(digits)),
    "interval": lambda width: Intervals(float(width)),
    "bins": lambda count, low, high: Bins(int(count), float(low), float(high)),
    "edges": lambda *edges: Edges(tuple(map(float, edges))),
    "clip": lambda low, high: Clipping(float(low), float(high)),
    "labels": lambda threshold="0.5": LabelsOnly(float(threshold)),
}
# Of a language model what `label` leaves is the text, without log-probabilities
OTHER_NAMES = {"no-logprobs": "label"}


def flatten_chain(defence: OutputDefence) -> tuple[OutputDefence, ...]:
    """List a chain's parts, nested chains flattened, or the defence alone.

    >>> [part.name for part in flatten_chain(parse_restriction("top:3+round:2"))]
    ['top:3', 'round:2']
    """
    if not isinstance(defence, Chain):
        return (defence,)
    return tuple(part for inner in defence.parts for part in flatten_chain(inner))


def join_parts(parts: Sequence[OutputDefence]) -> OutputDefence:
    """Join parts to a chain; one part stays as it is."""
    return parts[0] if len(parts) == 1 else Chain(tuple(parts))


def parse_restriction(name: str) -> OutputDefence:
    """Parse the name of an output defence.

    Names are `top:1`, `round:2`, `temperature:2`, `noise:0.5`, `label` (of a language model also
    `no-logprobs`), or several joined by `+`.
    Of numbers they are `decimals:1`, `digits:2`, `interval:5`, `bins:20:0:100`, `edges:0:10:100`
    and `clip:0:100`, of several labels `labels:0.5` and `decimals:2`.
    `memguard:1` and `hamp_output` come back unfitted, and say so when they are used. `noise`,
    `memguard` and `hamp_output` come back without a key (see `with_noise_key`), or with the seed
    that ends their name, as in `noise:0.5:1`.

    Raises:
        InputError: The name is unknown, its number does not fit, or something follows `label`.

    >>> parse_restriction("top:3+round:2")
    Chain(parts=(TopK(k=3), Rounding(decimals=2)))
    """
    parts = tuple(_parse_output_defence(part) for part in name.split("+"))
    # A label has no probabilities that a later part could change
    if any(part.signal == "labels" for part in parts[:-1]):
        raise InputError(f"Expected nothing after label, got {name!r}. Put label last.")
    return parts[0] if len(parts) == 1 else Chain(parts)


def _parse_output_defence(name: str) -> OutputDefence:
    """Parse the name of one part.

    Raises:
        InputError: It is unknown, or its number does not fit.
    """
    name = OTHER_NAMES.get(name.strip(), name)
    kind, *numbers = name.strip().split(":")
    try:
        return KINDS[kind](*numbers)
    # The defence has said by itself what does not fit
    except InputError:
        raise
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            "Expected a restriction such as top:1, round:2, temperature:2, noise:0.5 or label, or "
            "decimals:1, interval:5, bins:20:0:100 or clip:0:100 of numbers, "
            f"got {name!r}. Write one of these, or several joined by +."
        ) from error
