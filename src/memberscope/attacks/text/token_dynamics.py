"""Learn, from records known to be in or out, how a model's surprise develops along a text.

What a text says early makes its later words easier, for members and others in unlike ways; the mean
over all tokens hides it. After CAMIA [1]: means up to several cut-offs, the slope, how often a token
is likelier than the tokens before it on average, shares below fixed losses, and how rugged the
course is, for which autocorrelations take the place of the paper's approximate entropy. One logistic
regression combines them, where the paper combines p-values, and the text is asked about once, not
several times in a row.

References:
    [1] H. Chang, A. S. Shamsabadi, K. Katevas, H. Haddadi, R. Shokri, "Context-Aware Membership
        Inference Attacks against Pre-trained Large Language Models", EMNLP 2025, arXiv:2409.13745.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks.text._blocks import (
    compute_by_blocks,
    iterate_groups,
    read_log_probability,
)
from memberscope.attacks.text._logistic import fit_membership_logistic
from memberscope.attacks.text._profiles import (
    centre_values,
    compute_autocorrelation,
    compute_shape,
    compute_slope,
)
from memberscope.attacks.text._statistic import build_token_needs
from memberscope.texts import TokenSignals
from memberscope.types import Access, Evidence, Floats, Needs

# Tokens of the beginning over which means go, and losses in nats below which tokens are counted
CUT_OFFS = (10, 25, 50, 100, 200)
LOSSES = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class TokenDynamics:
    """Log-odds of membership from a logistic regression on the course of the token losses [1].

    The regression is fitted to the known records.

    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(200) % 2
    >>> loss = rng.exponential(2.0, (200, 30)) * np.where(member, 0.8, 1.2)[:, None]
    >>> tokens = TokenSignals(np.arange(201) * 30, -loss.ravel())
    >>> known = np.where(np.arange(200) < 150, member, -1).astype(np.int8)
    >>> evidence = Evidence("tokens", np.zeros((200, 1, 1)), np.zeros(200, dtype=int), known, tokens=tokens)
    >>> scores = TokenDynamics().score(evidence, rng)
    >>> bool(scores[150:][member[150:] == 1].mean() > 0 > scores[150:][member[150:] == 0].mean())
    True
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`token_dynamics`."""
        return "token_dynamics"

    @property
    def needs(self) -> Needs:
        """The log-probability of each token, and known members and non-members."""
        return replace(build_token_needs(Access.TOKEN_PROBABILITIES, ()), known="both")

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the log-odds, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return FoldedDynamics(self).score(evidence, rng)

    def prepare_folds(self) -> Callable[[Evidence, np.random.Generator], Floats]:
        """Give what scores one evidence several times, the features being computed once."""
        return FoldedDynamics(self).score


@dataclass(frozen=True, eq=False)
class FoldedDynamics:
    """The attack on one evidence, of which other records are known at each call."""

    attack: TokenDynamics
    _kept: list[Floats] = field(default_factory=list, init=False)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the log-odds (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks what the attack needs.
        """
        require_needs(self.attack, evidence)
        assert evidence.tokens is not None
        if not self._kept:
            self._kept.append(compute_by_blocks(compute_token_dynamics, evidence.tokens))
        features, hidden = self._kept[0], evidence.hidden
        fitted = fit_membership_logistic(features[~hidden], evidence.known[~hidden] == 1)
        scores = np.full(len(evidence), np.nan)
        # Known records were learned, so that their scores would say nothing
        scores[hidden] = fitted.compute_log_odds(features[hidden])
        return scores


def compute_token_dynamics(tokens: TokenSignals) -> Floats:
    """Compute the features (n, 16) of the course of each text's token losses.

    >>> compute_token_dynamics(TokenSignals(np.array([0, 2, 3]), np.array([-1.0, -3.0, -0.5]))).shape
    (2, 16)
    """
    values = read_log_probability(tokens)
    mean, centred = centre_values(values, tokens)
    spread, skewness = compute_shape(centred, tokens)
    columns = [mean, spread, skewness, compute_slope(centred, tokens)]
    columns += [compute_autocorrelation(centred, tokens, lag) for lag in (1, 2)]
    columns += [tokens.sum_tokens(values > -loss) / tokens.counts for loss in LOSSES]
    return np.column_stack([*columns, _compute_progress(values, tokens)])


def _compute_progress(values: Floats, tokens: TokenSignals) -> Floats:
    """Compute, of each record (n, 6), the means up to the cut-offs and the share that improves.

    A token improves where it is likelier than the tokens before it on average.
    """
    found = np.empty((len(tokens), len(CUT_OFFS) + 1))
    for group in iterate_groups(tokens):
        laid = group.lay_out(values, 0.0)
        sums = np.cumsum(laid, axis=1)
        for column, cut in enumerate(CUT_OFFS):
            length = np.minimum(cut, group.counts)
            found[group.rows, column] = group.take_at(sums, length - 1) / length
        before = sums[:, :-1] / np.arange(1, sums.shape[1])
        better = ((laid[:, 1:] > before) & group.real[:, 1:]).sum(axis=1)
        found[group.rows, -1] = better / np.maximum(group.counts - 1, 1)
    return found
