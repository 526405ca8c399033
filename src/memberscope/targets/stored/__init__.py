"""Read signals that were stored elsewhere: a table of answers with membership."""

from memberscope.targets.stored.answers import has_percentages
from memberscope.targets.stored.token_files import TokenFile, read_token_file

__all__ = ["TokenFile", "has_percentages", "read_token_file"]
