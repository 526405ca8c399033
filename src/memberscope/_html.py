"""Read templates and build content security policies for self-contained HTML pages."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def read_template(name: str, room: str = "reports") -> str:
    """Read a file of a room's templates folder."""
    return (files(f"memberscope.{room}") / "templates" / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    """Hash a block of script or style as a content security policy writes it.

    >>> _hash_source("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def build_content_policy(scripts: list[str], styles: list[str]) -> str:
    """Give a policy that admits only these scripts and styles, and no connection anywhere."""
    script, style = (
        " ".join(map(_hash_source, blocks)) or "'none'" for blocks in (scripts, styles)
    )
    return f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; base-uri 'none'; form-action 'none'"
