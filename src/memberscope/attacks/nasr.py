"""The attack classifier on gradients and activations.

It learns, from records known to be in or out, what membership looks like inside the model.

The paper's network reads whole gradients through convolutions, and a decoder makes of them a score;
it is fitted to tens of thousands of records. Here boosted trees, which some hundreds of known
records can fit, see the norm of each layer's gradient, the activations, the output, the loss and
the class. Little is lost of the last layer, on which the paper relies most: its gradient is the
outer product of the output's error, which output and class determine, and of the activations that
enter it. Trees find what no single threshold does, such as losses that are small but not the
smallest; so the same classifier on outputs alone is the baseline to beat.

References:
    [1] M. Nasr, R. Shokri, A. Houmansadr, "Comprehensive Privacy Analysis of Deep Learning: Passive
        and Active White-box Inference Attacks against Centralized and Federated Learning", IEEE S&P
        2019, arXiv:1812.00910.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import (
    class_log_probabilities,
    read_first_view,
    require_needs,
    true_class_log_probability,
    true_class_logit,
)
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec

WIDTH = 64.0  # columns of each activation
Given = Literal["gradients", "activations", "both", "outputs"]


@dataclass(frozen=True)
class Nasr:
    """Log-odds of membership from boosted trees on gradients and activations.

    The trees are fitted to the known records.

    `given` is `gradients` (norms of each layer's and the loss), `activations` (with the outputs),
    `both`, or `outputs`, the paper's black-box comparison, which takes one query; each with the
    class. At most `max_rows` known records are used, drawn with the generator.

    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(200) % 2
    >>> seen = rng.normal(size=(200, 1, 6)) + 2 * member[:, None, None]
    >>> known = np.where(np.arange(200) < 150, member, -1).astype(np.int8)
    >>> scores = Nasr().score(Evidence("gradient_layers", seen, np.zeros(200, dtype=int), known), rng)
    >>> bool(scores[150:][member[150:] == 1].mean() > 0 > scores[150:][member[150:] == 0].mean())
    True
    """

    given: Given = "both"
    max_rows: int = 20_000
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`nasr`, `nasr_gradients`, `nasr_activations` or `nasr_outputs`."""
        return "nasr" + ("" if self.given == "both" else f"_{self.given}")

    @property
    def needs(self) -> Needs:
        """The model's parameters, or one query, and known members and non-members."""
        if self.given == "outputs":
            return Needs(Access.PROBABILITIES, ("probabilities", "logits"), known="both")
        if self.given == "activations":
            return Needs(
                Access.WHITE_BOX, ("activations",), SignalSpec("activations"), known="both"
            )
        # Both come from one measurement
        more = (("activations", WIDTH),) if self.given == "both" else ()
        return Needs(
            Access.WHITE_BOX,
            ("gradient_layers",),
            SignalSpec("gradient_layers", parameters=more),
            known="both",
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the classifier's log-odds, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        require_needs(self, evidence)
        learn = np.flatnonzero(~evidence.hidden)
        if len(learn) > self.max_rows:
            # Sorted, so that the trees do not depend on the order of the draw
            learn = np.sort(rng.choice(learn, self.max_rows, replace=False))
        inputs = self.features(evidence)
        # Small trees without early stopping: some hundreds of known records, and a deterministic
        # fit
        trees = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=8,
            learning_rate=0.1,
            # Known members and non-members need not be equally many
            class_weight="balanced",
            early_stopping=False,
        )
        trees.fit(inputs[learn], evidence.known[learn])
        scores = np.full(len(evidence), np.nan)
        # Known records were learned, so that their scores would say nothing
        scores[evidence.hidden] = trees.decision_function(inputs[evidence.hidden])
        return scores

    def features(self, evidence: Evidence) -> Floats:
        """Assemble the classifier's inputs for each record, (n, f)."""
        if self.given != "outputs":
            # The class is an input, since gradients differ in size between classes
            return np.column_stack([read_first_view(evidence), evidence.labels])
        # The trees bin their inputs: -50 keeps a few zero probabilities from stretching the bins
        logs = np.maximum(class_log_probabilities(evidence), -50.0)
        return np.column_stack(
            [
                logs,
                true_class_log_probability(evidence),
                true_class_logit(evidence),
                evidence.labels,
            ]
        )
