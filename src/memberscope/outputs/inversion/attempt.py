"""Try to undo a randomised restriction, and say what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.inversion.keyed_step import (
    KeyedStep,
    keep_noisy_answers,
    split_keyed_step,
)
from memberscope.outputs.inversion.simulated import (
    TOLERANCE,
    GuardedVotes,
    LearnedRecovery,
    find_guarded_votes,
    learn_recovery,
)
from memberscope.outputs.inversion.vote_grids import VOTES
from memberscope.outputs.inversion.votes import (
    INVERTED,
    LEAST_ANSWERS,
    LEAST_SHARE,
    SEEDS,
    Recovery,
    find_vote_recovery,
)
from memberscope.outputs.keyed_parts import list_randomised_parts, without_noise_keys
from memberscope.outputs.memguard import MemGuard
from memberscope.types import Floats, OutputDefence

AnyRecovery = Recovery | GuardedVotes | LearnedRecovery


@dataclass(frozen=True)
class InversionAttempt:
    """What undoes a restriction, if anything does, and a sentence on what was tried.

    `is_whole` is false where something could not be tried. `share` of the answers were undone.
    """

    why: str
    recovery: AnyRecovery | None = None
    is_whole: bool = True
    share: float = 0.0

    @property
    def is_undone(self) -> bool:
        """Whether as many answers came back as count as undone."""
        return self.recovery is not None and self.share >= LEAST_SHARE


def is_inverted(restriction: str | None) -> bool:
    """Tell whether a level's restriction says that its noise was undone.

    >>> is_inverted("noise:0.5:7+inverted"), is_inverted("noise:0.5:7"), is_inverted(None)
    (True, False, False)
    """
    return restriction is not None and restriction.endswith(f"+{INVERTED}")


def try_inversion(
    answers: Floats, defence: OutputDefence, fitted: OutputDefence | None = None
) -> InversionAttempt:
    """Try to undo the randomised parts of `defence` on `answers` (n, k), without key or seed.

    `fitted` is the same restriction with what its parts are fitted to, where that is known: only
    the key counts as secret.

    >>> import numpy as np
    >>> from memberscope.outputs.noise import OutputNoise
    >>> p = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    >>> try_inversion(p, OutputNoise(0.5)).why
    'noise:0.5 was tried to be undone with the public seeds 0 to 2047 and on the votes of 20 to 500 trees, in vain.'
    """
    name, known = defence.name, without_noise_keys(fitted or defence)
    if defence.signal == "labels":
        return InversionAttempt(
            f"{name} shows labels alone, which its draws leave as they are: nothing is to be undone."
        )
    parts = list_randomised_parts(known)
    unfitted = [
        part.name
        for part in parts
        if (isinstance(part, MemGuard) and part.classifier is None)
        or (isinstance(part, HampOutput) and part.scores is None)
    ]
    if unfitted:
        return InversionAttempt(
            f"{name} was not tried to be undone: what {unfitted[0]} is fitted to is not known to "
            "this audit.",
            is_whole=False,
        )
    # Behind a random input's scores nothing but the order is left for any part
    if any(isinstance(part, MemGuard) for part in parts) and not any(
        isinstance(part, HampOutput) for part in parts
    ):
        return _try_guarded(answers, known, name)
    step = split_keyed_step(known)
    if step is None:
        return InversionAttempt(
            f"{name} was not tried to be undone: it has {len(parts)} parts with draws of their "
            "own, and one at a time is tried.",
            is_whole=False,
        )
    return _try_votes(answers, known, name, step)


def find_recovery(answers: Floats, defence: OutputDefence) -> AnyRecovery | None:
    """Find out how a restriction on `answers` (n, k) can be undone; None if it cannot.

    >>> import numpy as np
    >>> from memberscope.outputs.noise import OutputNoise
    >>> rng = np.random.default_rng(0)
    >>> votes = rng.integers(1, 20, 200)[:, None] / 20
    >>> seen = OutputNoise(0.5, seed=7)(np.column_stack([votes, 1 - votes]))
    >>> find_recovery(seen, OutputNoise(0.5)).seed
    7
    """
    return try_inversion(answers, defence, defence).recovery


def _try_votes(
    answers: Floats, defence: OutputDefence, name: str, step: KeyedStep
) -> InversionAttempt:
    """Try public seeds and the grid of votes."""
    found = find_vote_recovery(answers, defence)
    if found is not None:
        return InversionAttempt(f"{name} can be undone {found.words}.", found, share=found.share)
    seeds, votes = f"the public seeds 0 to {SEEDS - 1}", f"votes of {VOTES[0]} to {VOTES[-1]} trees"
    if isinstance(step.keyed, HampOutput):
        return InversionAttempt(
            f"Nothing but the order of the classes is left in {name}, which is attacked at its "
            f"own level; {seeds} were tried on {votes}, in vain."
        )
    listed = _measure_listed(answers, step)
    if listed < LEAST_SHARE:
        return InversionAttempt(
            f"{name} was tried to be undone with {seeds}, in vain, on the {100 * listed:.3g}% of "
            f"the answers of {answers.shape[1]} classes behind which not too many {votes} can "
            "stand; the others were not tried.",
            is_whole=False,
        )
    return InversionAttempt(
        f"{name} was tried to be undone with {seeds} and on the {votes}, in vain."
    )


def _measure_listed(answers: Floats, step: KeyedStep) -> float:
    """Measure the share of the noisy answers (n, k) of which the votes behind them can be listed.

    That is 1 where too few answers have noise.
    """
    rows = keep_noisy_answers(answers)
    if len(rows) < LEAST_ANSWERS:
        return 1.0
    listed = sum(
        len(at)
        for at, example in step.group_answers(rows)
        if any(step.list_points(votes, example) is not None for votes in VOTES)
    )
    return listed / len(rows)


def _try_guarded(answers: Floats, defence: OutputDefence, name: str) -> InversionAttempt:
    """Try to undo MemGuard, with what it is fitted to and another key."""
    found: GuardedVotes | LearnedRecovery | None = find_guarded_votes(answers, defence)
    found = found or learn_recovery(answers, defence)
    if found is None:
        return InversionAttempt(f"{name} was not tried: too few answers.", is_whole=False)
    if found.share >= LEAST_SHARE:
        return InversionAttempt(f"{name} can be undone {found.words}.", found, share=found.share)
    why = (
        f"{name} was tried to be undone with its fitted classifier and another key: of made-up "
        f"answers that it moves by more than {TOLERANCE:g}, {100 * found.share:.3g}% come back to "
        "within that. What comes back is attacked too."
    )
    return InversionAttempt(why, found, share=found.share)
