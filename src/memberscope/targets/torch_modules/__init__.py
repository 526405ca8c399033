"""Wrap torch modules: how they are called, and what their outputs are."""

from memberscope.targets.torch_modules.reading import AnswerReader, read_answers

__all__ = ["AnswerReader", "read_answers"]
