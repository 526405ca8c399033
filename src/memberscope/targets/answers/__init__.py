"""Find out what the numbers that a model returns are.

Probabilities, logits or labels, and which class counts as the model's decision.
"""

from memberscope.targets.answers.scores import Place, pick_scores
from memberscope.targets.answers.tolerance import compute_simplex_tolerance

__all__ = ["Place", "compute_simplex_tolerance", "pick_scores"]
