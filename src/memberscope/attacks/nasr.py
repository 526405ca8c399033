"""The gradient- and activation-based attack classifier: learn, from records known to be in or out, what being in looks like inside.

The paper's network reads whole gradients through convolutions, and a decoder makes of them a score; it is fitted to tens of thousands
of records. Here a regularised linear classifier, which a few hundred known records can fit, sees the norm of each layer's gradient,
the activations, the output, the loss and the class. Little is lost of the last layer, on which the paper relies most: its gradient is
the outer product of the output's error, which output and class determine, and of the activations that enter it.

References:
    [1] M. Nasr, R. Shokri, A. Houmansadr, "Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box Inference
        Attacks against Centralized and Federated Learning", IEEE S&P 2019, arXiv:1812.00910.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks.observed import first_view, require
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec

WIDTH = 64.0  # columns of each activation


@dataclass(frozen=True)
class Nasr:
    """Log-odds of membership from a classifier of what is seen inside the model, fitted to the known records.

    `given` is `gradients` (norms of each layer's and loss), `activations` (with the outputs), or `both`, each with the class. Columns
    are standardised on the known records; at most `max_rows` of those are used, drawn with the generator. `strength` is the weight of
    the data against the penalty on squared coefficients.

    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(200) % 2
    >>> seen = rng.normal(size=(200, 1, 6)) + 2 * member[:, None, None]
    >>> known = np.where(np.arange(200) < 150, member, -1).astype(np.int8)
    >>> scores = Nasr().score(Evidence("gradient_layers", seen, np.zeros(200, dtype=int), known), rng)
    >>> bool(scores[150:][member[150:] == 1].mean() > 0 > scores[150:][member[150:] == 0].mean())
    True
    """

    given: Literal["gradients", "activations", "both"] = "both"
    strength: float = 0.01
    max_rows: int = 20_000
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`nasr`, `nasr_gradients` or `nasr_activations`."""
        return (
            "nasr"
            + ("" if self.given == "both" else f"_{self.given}")
            + ("" if self.strength == 0.01 else f"_c{self.strength:g}")
        )

    @property
    def needs(self) -> Needs:
        """The model's parameters, and known members and non-members."""
        name: Literal["activations", "gradient_layers"] = "activations" if self.given == "activations" else "gradient_layers"
        spec = SignalSpec(name, parameters=(("activations", WIDTH),) if self.given == "both" else ())
        return Needs(Access.WHITE_BOX, (name,), spec, known="both")

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """The classifier's log-odds, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        require(self, evidence)
        learn = np.flatnonzero(~evidence.hidden)
        if len(learn) > self.max_rows:
            learn = np.sort(rng.choice(learn, self.max_rows, replace=False))
        scaler = StandardScaler().fit(first_view(evidence)[learn])
        inputs = np.hstack([scaler.transform(first_view(evidence)), one_hot(evidence)])
        model = LogisticRegression(C=self.strength, class_weight="balanced", max_iter=2000)
        model.fit(inputs[learn], evidence.known[learn])
        scores = np.full(len(evidence), np.nan)
        scores[evidence.hidden] = model.decision_function(inputs[evidence.hidden])
        return scores


def one_hot(evidence: Evidence) -> Floats:
    """Each record's class as a column of its own, (n, k)."""
    return np.eye(int(evidence.labels.max()) + 1)[evidence.labels]
