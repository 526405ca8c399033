"""List the works behind the attacks that ran, with BibTeX."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from memberscope.auditing import STRONGEST, Result


@dataclass(frozen=True)
class Citation:
    """One work, and the `attacks` of this audit that come from it.

    `arxiv` is its id, empty where it has none.

    >>> work = Citation("li2021", ("transfer",), "Z. Li and Y. Zhang", "Membership Leakage", "CCS", 2021, "2007.15528")
    >>> print(work.bibtex)
    @misc{li2021,
      author = {Z. Li and Y. Zhang},
      title = {{Membership Leakage}},
      howpublished = {CCS},
      year = {2021},
      eprint = {2007.15528},
      archiveprefix = {arXiv}
    }
    """

    key: str
    attacks: tuple[str, ...]
    authors: str
    title: str
    venue: str
    year: int
    arxiv: str

    @property
    def bibtex(self) -> str:
        """The entry for a bibliography."""
        fields = {
            "author": self.authors,
            # Doubled, so that BibTeX keeps the capitals of names
            "title": f"{{{self.title}}}",
            "howpublished": self.venue.replace("&", r"\&"),
            "year": str(self.year),
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        return f"@misc{{{self.key},\n" + ",\n".join(lines) + "\n}"


@cache
def _read_works() -> dict[str, dict[str, Any]]:
    """Read the works by their key."""
    text = (files("memberscope.reports") / "citations.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = tomllib.loads(text)
    return found


def list_citations(result: Result) -> list[Citation]:
    """List the works behind the attacks with estimates, in the order of the literature's list."""
    ran = dict.fromkeys(entry.attack for entry in result.estimates if entry.attack != STRONGEST)
    return [work for work in cite_attacks(tuple(ran)) if work.attacks]


def cite_attacks(names: tuple[str, ...]) -> list[Citation]:
    """List every work with those of `names` that come from it, perhaps none.

    >>> [work.arxiv for work in cite_attacks(("loss", "rmia")) if work.attacks]
    ['1709.01604', '2312.03262']
    """
    found = []
    for key, entry in _read_works().items():
        matching = tuple(name for name in names if re.search(entry["attacks"], name))
        rest = {name: value for name, value in entry.items() if name != "attacks"}
        found.append(Citation(key, matching, **rest))
    return found
