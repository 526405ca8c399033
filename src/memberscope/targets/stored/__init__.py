"""Read signals that were stored elsewhere: a table of answers with membership."""

from memberscope.targets.stored.answers import has_percentages

__all__ = ["has_percentages"]
