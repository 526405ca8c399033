"""Read templates and build content security policies for self-contained HTML pages."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

# Long enough for every option of the command line, and short enough for a phone
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]{0,29}(?![\w-])")


def read_template(name: str, room: str = "reports") -> str:
    """Read a file of a room's templates folder."""
    return (files(f"memberscope.{room}") / "templates" / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    """Hash a block of script or style as a content security policy writes it.

    >>> _hash_source("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def keep_options_whole(text: object) -> Markup:
    """Escape a text, and keep each option such as `--out` on one line, which else breaks at `--`.

    >>> str(keep_options_whole("run <it> --effort normal"))
    'run &lt;it&gt; <span class="option">--effort</span> normal'
    """
    # Imported here, since most commands render nothing
    from markupsafe import Markup, escape

    return Markup(OPTION.sub(r'<span class="option">\g<0></span>', str(escape(text))))


def build_content_policy(scripts: list[str], styles: list[str]) -> str:
    """Give a policy that admits only these scripts and styles, and no connection anywhere."""
    script, style = (
        " ".join(map(_hash_source, blocks)) or "'none'" for blocks in (scripts, styles)
    )
    return f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; base-uri 'none'; form-action 'none'"
