"""Learn from reference fine-tunes what token signals of members look like.

Whoever fine-tunes models knows who is in them, and so has labelled examples without end. What is
learned there is applied to the audited model's signals.

References:
    [1] R. Shokri, M. Stronati, C. Song, V. Shmatikov, "Membership Inference Attacks Against Machine
        Learning Models", IEEE S&P 2017, arXiv:1610.05820.
    [2] D. Ilić, K. Cvejoski, D. Stanojević, E. Grigorenko, "Learning the Signature of Memorization
        in Autoregressive Language Models", 2026, arXiv:2604.03199.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import read_first_view, require_needs
from memberscope.attacks.text._logistic import fit_membership_logistic
from memberscope.errors import UnmetNeedError
from memberscope.types import Access, Bools, Evidence, Floats, Needs, SignalSpec


@dataclass(frozen=True)
class TokenClassifier:
    """Log-odds of membership from a logistic regression on about 25 features of the token signals.

    It is fitted to the features under the reference models and who was in them [1]; [2] trains a
    transformer on single tokens in its place. At most `max_rows` pairs of a model and a record are
    used, drawn with the generator. The truth about the audited model is not used.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(4)[:, None] % 2 == np.arange(100) % 2
    >>> member = np.arange(100) < 50
    >>> draw = lambda known: (rng.normal(size=(*known.shape, 3)) + 2 * known[..., None])[..., None, :]
    >>> evidence = Evidence("token_features", draw(member), np.zeros(100, dtype=int), np.full(100, -1, dtype=np.int8),
    ...                     references=draw(inside), inside=inside)
    >>> scores = TokenClassifier().score(evidence, rng)
    >>> bool(scores[:50].mean() > 0 > scores[50:].mean())
    True
    """

    max_rows: int = 40_000
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`token_classifier`."""
        return "token_classifier"

    @property
    def needs(self) -> Needs:
        """One reference model with each record and one without it, and the features of both."""
        return Needs(
            access=Access.TOKEN_PROBABILITIES,
            signals=("token_features",),
            spec=SignalSpec("token_features"),
            references=(1, 1),
            tasks=("text",),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the log-odds, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing, or have other features.
        """
        require_needs(self, evidence)
        assert evidence.references is not None
        features = read_first_view(evidence)
        theirs = evidence.references.shape[-1]
        if theirs != features.shape[1]:
            raise UnmetNeedError(
                f"Expected {features.shape[1]} token features of the reference models as of the "
                f"audited one, got {theirs}. Give both the same base model and access."
            )
        fitted = fit_membership_logistic(*self._sample_references(evidence, rng))
        scores = np.full(len(evidence), np.nan)
        scores[evidence.hidden] = fitted.compute_log_odds(features[evidence.hidden])
        return scores

    def _sample_references(
        self, evidence: Evidence, rng: np.random.Generator
    ) -> tuple[Floats, Bools]:
        """Draw features (r, d) and membership (r,) of pairs of a reference model and a record."""
        assert evidence.references is not None and evidence.inside is not None
        # The same share of each model, so that none dominates what is learned
        share = max(1, min(len(evidence), self.max_rows // evidence.n_references))
        inputs, inside = [], []
        for model in range(evidence.n_references):
            rows = np.arange(len(evidence))
            if share < len(rows):
                rows = np.sort(rng.choice(rows, share, replace=False))
            # Model by model, since the array may be a memory map larger than the memory
            inputs.append(np.asarray(evidence.references[model, :, 0], np.float64)[rows])
            inside.append(np.asarray(evidence.inside[model])[rows])
        return np.concatenate(inputs), np.concatenate(inside)
