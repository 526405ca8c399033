"""Shadow-model attack classifiers: learn from reference models what outputs on members look like.

References:
    [1] R. Shokri, M. Stronati, C. Song, V. Shmatikov, "Membership Inference Attacks Against Machine
        Learning Models", IEEE S&P 2017, arXiv:1610.05820.
    [2] A. Salem, Y. Zhang, M. Humbert, P. Berrang, M. Fritz, M. Backes, "ML-Leaks", NDSS 2019,
arXiv:1806.01246.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope.attacks._inputs import (
    class_log_probabilities,
    require_needs,
    score_correctness,
    true_class_log_probability,
    true_class_logit,
    true_class_margin,
)
from memberscope.types import Access, Evidence, Floats, Ints, Needs

FEWEST = 50  # rows of each kind below which a class uses the classifier of all classes


@dataclass(frozen=True)
class Shokri:
    """Log-odds of membership from classifiers trained on the reference models' outputs.

    The outputs they learn from are about records other than the scored ones.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(4)[:, None] % 2 == np.arange(300) % 2
    >>> def outputs(member):
    ...     p = np.where(member, 0.9, 0.6) + rng.uniform(-0.09, 0.09, member.shape)
    ...     return np.stack([p, 1 - p], axis=-1)[..., None, :]
    >>> known = np.where(np.arange(300) < 200, 0, -1).astype(np.int8)
    >>> evidence = Evidence("probabilities", outputs(np.arange(300) < 250), np.zeros(300, dtype=int), known,
    ...                     references=outputs(inside), inside=inside)
    >>> scores = Shokri().score(evidence, rng)
    >>> bool(scores[200:250].mean() > 0.9 > 0.1 > scores[250:].mean())
    True
    """

    given: Literal["outputs", "statistics"] = "outputs"
    max_rows: int = 40_000
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`shokri`, or `shokri_statistics`."""
        return "shokri" + ("_statistics" if self.given == "statistics" else "")

    @property
    def needs(self) -> Needs:
        """Reference models with and without each record, and records besides those it scores.

        Their membership in the target is not used.
        """
        return Needs(
            access=Access.PROBABILITIES,
            signals=("probabilities", "logits"),
            known="non_members",
            references=(1, 1),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the classifier's log-odds of membership, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing.
        """
        require_needs(self, evidence)
        inputs, labels, inside = self.sample(evidence, rng)
        hidden = np.flatnonzero(evidence.hidden)
        asked = self.features(
            _build_row_evidence(evidence, hidden, np.asarray(evidence.target[hidden]))
        )
        # One classifier of all classes, which rare classes keep
        overall = _fit_membership_classifier(inputs, inside)
        odds = overall.decision_function(asked)
        # The paper's one classifier for each class; statistics have the class as an input
        if self.given == "outputs":
            for label in np.unique(evidence.labels[hidden]):
                own = labels == label
                # Fewer rows of either kind are too few for a classifier of their own
                if min(int(inside[own].sum()), int((~inside[own]).sum())) >= FEWEST:
                    rows = evidence.labels[hidden] == label
                    odds[rows] = _fit_membership_classifier(
                        inputs[own], inside[own]
                    ).decision_function(asked[rows])
        scores = np.full(len(evidence), np.nan)
        scores[hidden] = odds
        return scores

    def sample(
        self, evidence: Evidence, rng: np.random.Generator
    ) -> tuple[Floats, Ints, NDArray[np.bool_]]:
        """Draw pairs of a reference model and a record that is not hidden.

        The answer is their features, labels and membership.
        """
        assert evidence.references is not None and evidence.inside is not None
        # Hidden records are scored, and must not be learned from
        records = np.flatnonzero(~evidence.hidden)
        # The same share of each model, so that none dominates what is learned
        per_model = max(1, min(len(records), self.max_rows // evidence.n_references))
        inputs, labels, inside = [], [], []
        for model in range(evidence.n_references):
            rows = np.sort(rng.choice(records, per_model, replace=False))
            inputs.append(
                self.features(
                    _build_row_evidence(
                        evidence, rows, np.asarray(evidence.references[model])[rows]
                    )
                )
            )
            labels.append(evidence.labels[rows])
            inside.append(np.asarray(evidence.inside[model])[rows])
        return np.concatenate(inputs), np.concatenate(labels), np.concatenate(inside)

    def features(self, seen: Evidence) -> Floats:
        """Assemble the classifier's inputs for each row, (n, f)."""
        if self.given == "outputs":
            # The trees bin their inputs: zero probabilities would stretch the bins
            return np.maximum(class_log_probabilities(seen), -50.0)
        # Statistics do not depend on the number of classes, unlike the outputs themselves
        log_p = class_log_probabilities(seen)
        entropy = -(np.exp(log_p) * log_p).sum(axis=1)
        columns = (
            true_class_log_probability(seen),
            true_class_logit(seen),
            true_class_margin(seen),
            entropy,
            score_correctness(seen),
            seen.labels,
        )
        return np.column_stack(columns)


def _build_row_evidence(evidence: Evidence, rows: Ints, outputs: NDArray[Any]) -> Evidence:
    """Build evidence about `rows` alone.

    `outputs` (len(rows), views, k) take the place of the target's.
    """
    # Membership must not reach the features
    hidden = np.full(len(rows), -1, dtype=np.int8)
    # What has one entry for each record would no longer fit the rows
    plain = replace(evidence, references=None, inside=None, features=None, population=None)
    return replace(plain, target=outputs, labels=evidence.labels[rows], known=hidden)


def _fit_membership_classifier(inputs: Floats, inside: NDArray[np.bool_]) -> Any:
    """Fit a classifier of membership (r,) to `inputs` (r, f), deterministically."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Without early stopping, which would hold records out at random
    model = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, learning_rate=0.15, early_stopping=False
    )
    return model.fit(inputs, inside)
