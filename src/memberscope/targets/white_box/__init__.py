"""Measure what white-box access shows of each record: gradients, activations, self-influence."""

from memberscope.targets.white_box.torch_access import has_embedding, use_eval_mode

__all__ = ["has_embedding", "use_eval_mode"]
