"""Format numbers and values for sentences, and text so that a terminal only shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Controls other than tab and line feed, marks that change the direction of writing, line and
# paragraph separators, and lone surrogates
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape_controls(text: str) -> str:
    r"""Write control and direction characters as escapes, so that they are seen and do nothing.

    Text of a file could otherwise clear a terminal, move its cursor or show words in another order
    (CWE-150).

    >>> escape_controls("safe\x1b[2J"), escape_controls("caf\u00e9\tx")
    ('safe\\x1b[2J', 'café\tx')
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


# What keys and passwords look like: marks of their own, or a long word of letters and digits
MARKED = re.compile(
    r"[\x00-\x1f]|-----|://[^/]*@|(?:^|[^A-Za-z0-9])(?:sk|pk|eyJ|AKIA|gh[a-z]_)[-_A-Za-z0-9]{8}"
)
LONG_WORD = re.compile(r"(?=[A-Za-z+=]*[0-9])(?=[0-9+=]*[A-Za-z])[A-Za-z0-9+=]{20,}")


def format_percentage(value: float | None) -> str:
    """Format a rate as a percentage with three digits.

    >>> format_percentage(0.01234), format_percentage(0.5), format_percentage(None)
    ('1.23%', '50%', 'not available')
    """
    return "not available" if value is None else f"{100 * value:.3g}%"


def format_number(value: float | None) -> str:
    """Format a number with three digits after the point.

    >>> format_number(0.51234), format_number(None)
    ('0.512', 'not available')
    """
    return "not available" if value is None else f"{value:.3f}"


def quote_value(value: object, longest: int = 80) -> str:
    """Quote a value for a sentence; what looks like a key or a password is only described.

    Such a value stands where a name or a path belongs because somebody pasted it there.

    >>> quote_value("issuer.pem"), quote_value("sk-live-0123456789abcdef")
    ("'issuer.pem'", 'a text of 24 characters that may be a secret')
    """
    text = str(value)
    if MARKED.search(text) or LONG_WORD.search(text):
        return f"a text of {len(text)} characters that may be a secret"
    return repr(text[:longest])


def suggest_nearest(name: str, known: Iterable[object]) -> str:
    """Ask whether the known name spelt most like `name` was meant; empty where none is like it.

    >>> suggest_nearest("lyra", ["lira", "rmia"]), suggest_nearest("xyz", ["lira", "rmia"])
    (" Did you mean 'lira'?", '')
    """
    found = get_close_matches(name.lower(), [str(entry) for entry in known], n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""
