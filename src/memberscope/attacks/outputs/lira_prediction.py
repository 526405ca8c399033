"""LiRA on the prediction itself.

The truth is the same under every model, so that nothing is gained by turning the prediction into an
error: it loses the side of the truth that the model erred to. A prediction is close to normal over
models, and several outputs are so together, with the correlation that they have within a record.

References:
    [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramer, "Membership Inference Attacks
        From First Principles", IEEE S&P 2022, arXiv:2112.03570.
    [2] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
        matrices", Journal of Multivariate Analysis 88, 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memberscope.attacks.outputs._blocks import Convert, keep_outputs
from memberscope.attacks.outputs._correlation import Side
from memberscope.attacks.outputs._normal_ratio import OutputLiRA
from memberscope.types import Bools, Evidence, Floats

# Share of members among the hidden records that the offline attack assumes
ASSUMED_SHARE = 0.5
# Least and most of the way to the truth that training on a record is taken to move a prediction
NEAREST, FURTHEST = 0.01, 1.0


@dataclass(frozen=True)
class LiRAPrediction(OutputLiRA):
    """Likelihood ratio of the normals of the prediction under models with and without the record.

    Offline, where no model was trained with it, training on a record is taken to move its
    prediction a part of the way from the mean of the models without it to the truth. That part is
    the slope of the target's deviation on theirs, over the hidden records, were half of them
    members. `variance` is pooled over records (`fixed`), a record's own (`per_example`), or `auto`:
    fixed below 64 models. The correlation of outputs is pooled over records and shrunk [2], or left
    out (`diagonal`).

    >>> import numpy as np
    >>> inside = np.array([[True, False]] * 2 + [[False, True]] * 2)
    >>> refs = np.where(inside, 40.0, 30.0) + np.array([[1.0], [-1.0], [1.0], [-1.0]])
    >>> evidence = Evidence("prediction", np.array([[[39.0]], [[31.0]]]), np.full((2, 1), 45.0), np.full(2, -1, dtype=np.int8),
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> LiRAPrediction().score(evidence, np.random.default_rng(0)).round(6).tolist()
    [40.0, -40.0]
    """

    _base: ClassVar[str] = "lira_prediction"

    def _build_converter(self, evidence: Evidence) -> Convert:
        return keep_outputs

    def _score_offline(self, out: Side, value: Floats, truth: Floats, hidden: Bools) -> Floats:
        return compute_shift_ratio(out.whiten(value), out.whiten(truth), hidden)


def compute_shift_ratio(value: Floats, truth: Floats, hidden: Bools) -> Floats:
    """Compute the log-ratio (n,) of a normal moved towards the truth and one that is not.

    Both `value` and `truth` (n, d) are deviations from the unmoved mean in standard deviations.

    >>> import numpy as np
    >>> value, truth = np.array([[2.0], [0.0]]), np.array([[4.0], [4.0]])
    >>> compute_shift_ratio(value, truth, np.ones(2, dtype=bool)).tolist()
    [2.0, -2.0]
    """
    along, length = (value * truth).sum(axis=1), (truth * truth).sum(axis=1)
    total = float(length[hidden].sum())
    slope = float(along[hidden].sum()) / total / ASSUMED_SHARE if total > 0 else NEAREST
    # Members lie nearer to the truth by definition: what is found may not turn the direction round
    part = min(max(slope, NEAREST), FURTHEST)
    ratio: Floats = part * along - part**2 * length / 2
    return ratio
