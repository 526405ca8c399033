"""What output defences let be seen of a language model's log-probabilities."""

from memberscope.outputs.texts.shown_tokens import UNTOLD, ShownTokens, is_text_defence

__all__ = ["UNTOLD", "ShownTokens", "is_text_defence"]
