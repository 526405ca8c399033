"""Let reference models play the target, and attack both with the same other models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.statistics.sets import ShareScores
from memberscope.types import Attack, Bools, Evidence, Ints

FEWEST = 4  # reference models: two pairs, each of which is attacked with the other


def score_references(attack: Attack, evidence: Evidence, rng: np.random.Generator) -> ShareScores:
    """Score each reference model of the evidence as if it were the target, and the target itself.

    Models of which each saw what the other did not are a pair, and leave together: of the others,
    as many saw a record as did not, whether the model attacked saw it or not. With one model left
    out alone, its members would have fewer models with them than other records, which scores show.
    The target is attacked with the models of each round, so that its scores are comparable.

    Raises:
        InputError: There are fewer than four reference models.
        UnmetNeedError: The models left in a round are too few for the attack.

    >>> from memberscope.attacks import RobustLiRA
    >>> rng = np.random.default_rng(0)
    >>> half = rng.random((2, 50)) < 0.5
    >>> inside = np.concatenate([half, ~half])
    >>> values = (rng.normal(size=(5, 50)) + 2 * np.concatenate([inside, half[:1]]))[:, :, None, None]
    >>> evidence = Evidence("logit_confidence", values[4], np.zeros(50, dtype=int), np.full(50, -1, dtype=np.int8),
    ...                     references=values[:4], inside=inside)
    >>> found = score_references(RobustLiRA(), evidence, rng)
    >>> found.target.shape, found.rounds.tolist()
    ((2, 50), [0, 1, 0, 1])
    """
    inside = evidence.inside
    if evidence.references is None or inside is None or len(inside) < FEWEST:
        got = 0 if inside is None else len(inside)
        raise InputError(
            f"Expected at least {FEWEST} reference models, of which each plays the target for the "
            f"others, got {got}. Give --references {FEWEST} or more."
        )
    rounds = _pair_complements(np.asarray(inside))
    target, references = [], np.empty(inside.shape)
    for number in range(int(rounds.max()) + 1):
        others = np.flatnonzero(rounds != number)
        left = _select_models(evidence, others)
        target.append(attack.score(left, rng))
        for i in np.flatnonzero(rounds == number):
            references[i] = attack.score(_put_in_place(left, evidence, int(i)), rng)
    return ShareScores(np.array(target), references, np.asarray(inside), rounds)


def _pair_complements(inside: Bools) -> Ints:
    """Number the round (m,) of each model of a design (m, n): pairs of complements share one."""
    rounds = np.full(len(inside), -1)
    number = 0
    for i, row in enumerate(inside):
        if rounds[i] >= 0:
            continue
        rounds[i] = number
        partners = np.flatnonzero((rounds < 0) & (inside == ~row).all(axis=1))
        rounds[partners[:1]] = number
        number += 1
    return rounds


def _select_models(evidence: Evidence, rows: Ints) -> Evidence:
    """Select reference models `rows` (k,), for the population as well."""
    assert evidence.references is not None and evidence.inside is not None
    others = evidence.population
    return replace(
        evidence,
        references=np.asarray(evidence.references[rows]),
        inside=evidence.inside[rows],
        population=None if others is None else _select_models(others, rows),
    )


def _put_in_place(left: Evidence, evidence: Evidence, i: int) -> Evidence:
    """Put reference model `i` of the evidence where the target is in what is `left` of it."""
    assert evidence.references is not None
    own: NDArray[Any] = np.asarray(evidence.references[i])
    others = left.population
    if others is not None:
        assert evidence.population is not None
        others = _put_in_place(others, evidence.population, i)
    return replace(left, target=own, population=others)
