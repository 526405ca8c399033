"""Write texts of users, such as titles and names of groups, into files that other programs show."""

from __future__ import annotations

import html
import re

from memberscope._text import escape_controls

LONGEST = 500  # characters of a text in a file that people read
# What Markdown, or the host that shows it, could take for a mark
MARKS = re.compile(r"([\\`*_\[\]#|~$])")
# What hosts turn into mentions, links to issues, and addresses
LINKED = re.compile(r"@|\\#|:(?=//)|\bwww(?=\.)")


def flatten_text(text: str, longest: int = LONGEST) -> str:
    r"""Write a text as one line, cut to `longest` characters, with control characters as escapes.

    >>> flatten_text("two\nlines\x1b[2J"), flatten_text("abcdef", 4)
    ('two lines\\x1b[2J', 'abc…')
    """
    # No more than is shown is looked at, since a title may have any length
    line = " ".join(escape_controls(text[: 4 * longest]).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def escape_markdown(text: str, longest: int = LONGEST) -> str:
    r"""Write a text as one line that Markdown shows as it is, in tables too.

    A zero-width space keeps a host from mentioning people and from linking what looks like an
    address.

    >>> escape_markdown("a|b <i> @me")
    'a\\|b &lt;i&gt; @&#8203;me'
    """
    line = html.escape(flatten_text(text, longest), quote=False)
    return LINKED.sub(r"\g<0>&#8203;", MARKS.sub(r"\\\1", line))


def fence_command(command: str) -> str:
    """Write a command as a block of code that nothing in it can end.

    >>> print(fence_command("memberscope check out"))
    ```console
    memberscope check out
    ```
    """
    line = flatten_text(command, 2000)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n{line}\n{fence}"
