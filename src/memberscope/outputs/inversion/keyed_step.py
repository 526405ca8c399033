"""Split a restriction at the one part that draws by a key, and list what could have gone in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memberscope.outputs.chain import flatten_chain
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.inversion.vote_grids import list_loose_shares, list_vote_shares
from memberscope.outputs.keyed_parts import without_noise_keys
from memberscope.outputs.noise import OutputNoise, multiply_noise
from memberscope.outputs.noise_keys import derive_public_key
from memberscope.outputs.rounding import Rounding, pick_top_classes
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK
from memberscope.types import Bools, Floats, Ints, OutputDefence

CERTAIN = 1 - 1e-12  # a top class from which on nothing is left for noise to change
FLOOR = 1e-12  # stands for a probability of zero in logarithms
NEAR_WHOLE = 1e-6  # how near to a whole number of votes shown answers must come


@dataclass(frozen=True)
class KeyedStep:
    """A restriction as the parts before its keyed one, that one, and the parts after it.

    `before` and `after` are fixed functions of their inputs. A first `top` part is `shown_first`
    and stands in neither.
    """

    shown_first: TopK | None
    before: tuple[OutputDefence, ...]
    keyed: OutputNoise | HampOutput
    after: tuple[OutputDefence, ...]

    @property
    def _others(self) -> tuple[OutputDefence, ...]:
        """The parts that need no key."""
        return (*self.before, *self.after)

    @property
    def unit(self) -> float:
        """Size of the last digit that is shown; 0 where all are."""
        digits = [part.decimals for part in self.after if isinstance(part, Rounding)]
        return 10.0 ** -min(digits) if digits else 0.0

    @property
    def scale(self) -> float:
        """Standard deviation of the noise in the logarithms of what is shown."""
        scale = self.keyed.scale if isinstance(self.keyed, OutputNoise) else np.inf
        for part in self.after:
            # A temperature divides the logarithms
            scale /= part.temperature if isinstance(part, Temperature) else 1.0
        return float(scale)

    @property
    def is_exact(self) -> bool:
        """Whether answers tell which classes have no probability, and all other digits."""
        return not isinstance(self.keyed, HampOutput) and not any(
            isinstance(part, Rounding | TopK) for part in self._others
        )

    @property
    def is_whole(self) -> bool:
        """Whether what went into the chain comes back, and not what `shown_first` left."""
        return self.shown_first is None

    def group_answers(self, rows: Floats) -> Iterator[tuple[Ints, Floats]]:
        """Group answers (n, k) by the grid points without key that may stand behind them.

        Each group comes with what the points of `votes` are listed by: one of its answers.
        """
        if not self.is_exact:
            yield np.arange(len(rows)), rows[:1]
            return
        # What is shown in all is kept by noise and temperature, and so are zeros
        kinds = np.where(np.isnan(rows), -1.0, np.sign(rows))
        if self.shown_first is not None:
            kinds = np.column_stack([kinds, np.nansum(rows, axis=1).round(6)])
        _, first, group = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
        for number, place in enumerate(first):
            yield np.flatnonzero(group.reshape(-1) == number), rows[place][None]

    def list_points(self, votes: int, example: Floats) -> Floats | None:
        """List the grid points (g, k) that may stand behind an answer such as `example` (1, k).

        None where there are too many, or none.
        """
        k = example.shape[1]
        if not self.is_exact:
            return list_loose_shares(votes, k) if self.shown_first is None else None
        shown = np.flatnonzero(np.nan_to_num(example[0]) > 0)
        total = float(np.nansum(example)) * votes
        if abs(total - round(total)) > NEAR_WHOLE * votes:
            return None
        points = list_vote_shares(round(total), len(shown))
        if points is None:
            return None
        whole = np.where(np.isnan(example), np.nan, 0.0).repeat(len(points), axis=0)
        whole[:, shown] = points * (round(total) / votes)
        return whole

    def apply_before(self, points: Floats) -> Floats:
        """Apply the parts before the keyed one."""
        return _apply_parts(self.before, points)

    def answer_with_seeds(self, points: Floats, seeds: Sequence[int]) -> Floats:
        """Answer (len(seeds), g, k) about grid points (g, k) with the key of each public seed."""
        inputs, keys = self.apply_before(points), [derive_public_key(seed) for seed in seeds]
        if isinstance(self.keyed, OutputNoise):
            drawn = self.keyed.draw_by_keys(inputs, keys).reshape(-1, points.shape[1])
            answers = multiply_noise(np.tile(inputs, (len(seeds), 1)), drawn)
        else:
            answers = np.concatenate([replace(self.keyed, key=key)(inputs) for key in keys])
        return _apply_parts(self.after, answers).reshape(len(seeds), *points.shape)

    def measure_noise(self, seen: Floats, points: Floats) -> Floats:
        """Measure how unlikely the noise (n, g) from each point (g, k) to each answer (n, k) is.

        It is half the squared difference of logarithms in units of the noise, without the mean,
        which normalising took away; infinite where the point cannot be behind the answer.
        """
        smooth = [part for part in self.after if not isinstance(part, Rounding | TopK)]
        sites = _apply_parts(smooth, self.apply_before(points))
        floor = self.unit / 2 or FLOOR
        seen = np.nan_to_num(seen, nan=-1.0)
        one = np.log(np.maximum(seen, floor))
        # Rounding moves an answer by up to half a unit, evenly
        spread = self.scale**2 + self.unit**2 / 12 / np.exp(2 * one)
        weight = np.where(seen > 0, 1 / spread, 0.0)
        other = np.log(np.maximum(np.nan_to_num(sites), floor))
        linear = (weight * one).sum(axis=1)[:, None] - weight @ other.T
        square = (weight * one**2).sum(axis=1)[:, None] - 2 * (weight * one) @ other.T
        square = square + weight @ (other**2).T
        total = np.maximum(weight.sum(axis=1), 1e-300)[:, None]
        # What was rounded to zero must be small before, whatever normalising did
        above = (seen == 0) @ ((other - np.log(floor)) ** 2).T / self.scale**2
        loss: Floats = (square - linear**2 / total + above) / 2
        # Every part keeps the top class, and noise keeps zeros
        impossible = seen.argmax(axis=1)[:, None] != pick_top_classes(sites)[None, :]
        lost = (seen > 0).astype(float) @ (sites == 0).astype(float).T > 0
        if isinstance(self.keyed, OutputNoise):
            loss[impossible | lost] = np.inf
            return np.asarray(np.maximum(loss, 0.0), dtype=np.float64)
        # Nothing but the order is left of an answer
        same = _have_same_order(seen, self.apply_before(points))
        return np.asarray(np.where(same, 0.0, np.inf), dtype=np.float64)


def split_keyed_step(defence: OutputDefence) -> KeyedStep | None:
    """Split a restriction at its keyed part.

    None where it has more than one, one whose inputs cannot be listed, or parts that are not known.

    >>> from memberscope.outputs.chain import parse_restriction
    >>> step = split_keyed_step(parse_restriction("top:3+noise:0.1:7+temperature:2"))
    >>> step.shown_first, step.keyed.name, step.scale
    (TopK(k=3), 'noise:0.1', 0.05)
    """
    parts = flatten_chain(without_noise_keys(defence))
    keyed = [
        place for place, part in enumerate(parts) if isinstance(part, OutputNoise | HampOutput)
    ]
    fixed = [part for part in parts if isinstance(part, Rounding | TopK | Temperature)]
    if len(keyed) != 1 or len(fixed) + 1 != len(parts):
        return None
    found = parts[keyed[0]]
    assert isinstance(found, OutputNoise | HampOutput)
    first, before = None, parts[: keyed[0]]
    # The classes that a first part shows are all that matters behind it
    if before and isinstance(before[0], TopK):
        first, before = before[0], before[1:]
    return KeyedStep(first, before, found, parts[keyed[0] + 1 :])


def keep_noisy_answers(rows: Floats) -> Floats:
    """Keep the different answers (m, k) of `rows` (n, k) that can carry noise."""
    shown: Floats = np.unique(rows, axis=0)
    top = np.nanmax(np.where(np.isnan(shown), -np.inf, shown), axis=1)
    # A certain answer has no noise, so it says nothing about a key
    kept: Floats = shown[(top < CERTAIN) & ((shown > 0).sum(axis=1) > 0)]
    return kept


def _apply_parts(parts: Sequence[OutputDefence], outputs: Floats) -> Floats:
    """Apply parts one after another."""
    for part in parts:
        outputs = part(outputs)
    return outputs


def _have_same_order(seen: Floats, points: Floats) -> Bools:
    """Tell which points (g, k) have the order of classes of which answers (n, g)."""
    one = np.argsort(-seen, axis=1, kind="stable")
    other = np.argsort(-points, axis=1, kind="stable")
    same: Bools = (one[:, None, :] == other[None, :, :]).all(axis=2)
    return same
