"""Read waivers: failed claims of a policy that an owner accepts, for a reason and until a date."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from memberscope._files import explain_read_error, parse_toml, read_regular_file
from memberscope._text import suggest_nearest
from memberscope.auditing.documents.policy import KINDS, AnyClaim, EpsilonClaim, Policy
from memberscope.auditing.documents.result import Result
from memberscope.errors import InputError
from memberscope.types import Access, Finding

LARGEST = 1 << 20  # bytes of a file of waivers
KEYS = (
    "claim",
    "fpr",
    "prior",
    "group",
    "attack",
    "access",
    "title",
    "at_most",
    "reason",
    "owner",
    "expires",
)
EXAMPLE = "expires = 2027-01-31"
DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Waiver:
    """A failed claim that `owner` accepts for a `reason` up to and with the day `expires`.

    `claim` is the policy's key (`max_tpr`, `max_auc`, `max_ppv`, `max_epsilon`), and `fpr`, `prior`
    and `group` are those of its row, needed where it has several. With `attack` or `access` it
    holds only while that attack, at that level, is the one that fails the claim, with a `title` for
    the audit of that title alone, and with `at_most` while no more than that is measured.
    """

    claim: str
    reason: str
    owner: str
    expires: date
    fpr: float | None = None
    prior: float | None = None
    group: str | None = None
    attack: str | None = None
    access: str | None = None
    title: str | None = None
    at_most: float | None = None

    def describe(self) -> str:
        """Write what is waived in words.

        >>> Waiver("max_tpr", "told", "Ada", date(2027, 1, 31), fpr=0.01).describe()
        'max_tpr at an fpr of 0.01'
        """
        words = [self.claim]
        if self.fpr is not None:
            words.append(f"at an fpr of {self.fpr:g}")
        if self.group is not None:
            words.append(f"in {self.group}")
        return " ".join(words)

    def explain(self) -> str:
        """Write who accepts it, why, and until when.

        >>> Waiver("max_auc", "customers were told", "Ada", date(2027, 1, 31)).explain()
        'Owner: Ada. Reason: customers were told. Until 2027-01-31.'
        """
        return f"Owner: {self.owner}. Reason: {self.reason.rstrip('.')}. Until {self.expires}."


def read_waivers(path: Path, today: date) -> tuple[Waiver, ...]:
    """Read the `[[waiver]]` entries of a TOML file, all in force on the day `today`.

    Raises:
        InputError: The file cannot be read, or an entry is expired, has no owner, no reason or no
            date, or names no claim that there is.
    """
    try:
        document = parse_toml(read_regular_file(path, LARGEST).decode())
    except FileNotFoundError:
        raise InputError(
            f"Expected a file of waivers, got {str(path)!r}, which is not there. Check the path "
            "that --waivers names."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected a TOML file of waivers, got {str(path)!r} with: "
            f"{explain_read_error(error)}. Correct it."
        ) from error
    entries = document.pop("waiver", [])
    if document or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise InputError(
            f"Expected entries [[waiver]] and nothing else in {str(path)!r}, got "
            f"{', '.join(document) or 'waiver in another form'}. Correct it."
        )
    return tuple(
        _read_entry(entry, f"waiver {place} in {path}", today)
        for place, entry in enumerate(entries, start=1)
    )


def _read_entry(entry: dict[str, Any], where: str, today: date) -> Waiver:
    """Read one waiver that is in force `today`.

    Raises:
        InputError: It is not one.
    """
    for key in entry:
        if key not in KEYS:
            raise InputError(
                f"Expected the keys {', '.join(KEYS)} for {where}, got {key!r}."
                f"{suggest_nearest(key, KEYS)} Rename or remove it."
            )
    owner = _read_text(entry, "owner", where, 'Name who answers for it: owner = "…".')
    reason = _read_text(entry, "reason", where, 'Say why it is accepted: reason = "…".')
    claim = entry.get("claim")
    if not isinstance(claim, str) or claim not in KINDS:
        raise InputError(
            f"Expected a claim of a policy ({', '.join(KINDS)}) for {where}, got "
            f"{'none' if claim is None else repr(claim)}.{suggest_nearest(str(claim), KINDS)} "
            "Controls and required attacks cannot be waived."
        )
    texts: dict[str, str] = {
        key: _read_text(entry, key, where, f"Write {key} in quotes, or leave it out.")
        for key in ("group", "attack", "access", "title")
        if key in entry
    }
    if "access" in texts and texts["access"].upper() not in Access.__members__:
        levels = [level.word for level in Access]
        raise InputError(
            f"Expected access {', '.join(levels)} for {where}, got {texts['access']!r}."
            f"{suggest_nearest(texts['access'], levels)} Correct it."
        )
    expires = _read_expiry(entry, where)
    fpr, prior = (_read_rate(entry, key, where) for key in ("fpr", "prior"))
    at_most = _read_most(entry, where)
    found = Waiver(claim, reason, owner, expires, fpr, prior, **texts, at_most=at_most)
    if expires < today:
        raise InputError(
            f"Expected waivers that are in force on {today}, got {where} for {found.describe()} "
            f"(owner {owner}), which expired on {expires}. Remove it, or have its owner decide "
            "again."
        )
    return found


def _read_text(entry: dict[str, Any], key: str, where: str, advice: str) -> str:
    """Read a text that is not empty, on one line.

    Raises:
        InputError: It is missing, empty or no text.
    """
    value = entry.get(key)
    words = " ".join(value.split()) if isinstance(value, str) else ""
    if not words:
        got = "none" if value is None else repr(value)
        raise InputError(f"Expected {key} as a text for {where}, got {got}. {advice}")
    return words


def _read_rate(entry: dict[str, Any], key: str, where: str) -> float | None:
    """Read a rate, None where there is none.

    Raises:
        InputError: It is no number strictly between 0 and 1.
    """
    value = entry.get(key)
    if value is None:
        return None
    # True and false are whole numbers to Python, and no rates
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(
            f"Expected {key} strictly between 0 and 1 for {where}, got {value!r}. Write it as the "
            "policy does."
        )
    return float(value)


def _read_most(entry: dict[str, Any], where: str) -> float | None:
    """Read the most that a waiver accepts, None where it accepts any number.

    Raises:
        InputError: It is no positive number.
    """
    value = entry.get("at_most")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(
            f"Expected at_most above 0 for {where}, got {value!r}. Write the largest number that is "
            "accepted, such as 0.05."
        )
    return float(value)


def _read_expiry(entry: dict[str, Any], where: str) -> date:
    """Read the last day of a waiver, as a date of TOML or as text.

    Raises:
        InputError: It is missing or no date.
    """
    value = entry.get("expires")
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return parse_date(value)
    except ValueError:
        got = "none" if value is None else repr(str(value))
        raise InputError(
            f"Expected a date for expires of {where}, got {got}. Write {EXAMPLE}."
        ) from None


def parse_date(text: object) -> date:
    """Parse a date of the form YYYY-MM-DD.

    Raises:
        ValueError: It is none.

    >>> parse_date("2027-01-31")
    datetime.date(2027, 1, 31)
    """
    # Python also reads weeks and digits without hyphens, which people misread
    if not isinstance(text, str) or not DATE.fullmatch(text):
        raise ValueError("it is no date")
    return date.fromisoformat(text)


def match_waivers(
    waivers: Sequence[Waiver], result: Result, policy: Policy | None
) -> tuple[dict[str, Waiver], list[str]]:
    """Match waivers with the failed claims of a result: the waiver of each claim by its sentence.

    The sentences say which waivers had no effect.

    Raises:
        InputError: A waiver is about nothing that was judged, or two are about the same claim.
    """
    found: dict[str, Waiver] = {}
    notes = []
    for waiver in waivers:
        for finding in _find_findings(waiver, result, policy):
            why_not = _explain_mismatch(waiver, finding, result)
            if why_not is not None:
                notes.append(f"The waiver of {waiver.describe()} has no effect: {why_not}.")
            elif finding.claim in found:
                raise InputError(
                    f"Expected one waiver for each claim, got two for {waiver.describe()}. Remove "
                    "one of them."
                )
            else:
                found[finding.claim] = waiver
    return found, notes


def _find_findings(waiver: Waiver, result: Result, policy: Policy | None) -> list[Finding]:
    """Find the findings about the claim that a waiver names.

    Raises:
        InputError: There is no policy, no such claim, or several of them.
    """
    if policy is None:
        raise InputError(
            f"Expected a policy for the waiver of {waiver.describe()}, got none. Name it with "
            "--policy."
        )
    rows = [row for row in getattr(policy, waiver.claim) if _is_row(row, waiver)]
    if len(rows) > 1:
        raise InputError(
            f"Expected fpr, prior or group for the waiver of {waiver.claim} that {waiver.owner} "
            f"owns, got none that tells which of {len(rows)} claims is meant. Add what the "
            "policy has."
        )
    about = [
        finding
        for row in rows
        for finding in result.findings
        if _is_about(finding, row, waiver.group)
    ]
    if not about:
        sentences = [row.sentence() for row in getattr(policy, waiver.claim)]
        raise InputError(
            f"Expected a waiver of a claim that was judged, got {waiver.describe()} (owner "
            f"{waiver.owner}), which matches none. The policy {policy.name!r} claims under "
            f"{waiver.claim}: {' '.join(sentences) or 'nothing.'}"
        )
    return about


def _is_row(row: AnyClaim, waiver: Waiver) -> bool:
    """Tell whether a waiver may mean a row of the policy."""
    for key in ("fpr", "prior"):
        wanted = getattr(waiver, key)
        if wanted is not None and wanted != getattr(row, key, None):
            return False
    if waiver.group is None or row.group is None:
        return waiver.group is None and row.group is None
    # A row about `sex` is about every value, and a waiver may be about one of them
    return waiver.group == row.group or waiver.group.partition("=")[0] == row.group


def _is_about(finding: Finding, row: AnyClaim, group: str | None) -> bool:
    """Tell whether a finding is about a row, and about the value of its group that is meant."""
    if group is None or isinstance(row, EpsilonClaim):
        return finding.claim == row.sentence()
    measured = finding.estimate.group if finding.estimate is not None else None
    values = [group] if "=" in group else [value for value in (measured, group) if value]
    return any(
        value.partition("=")[0] == group.partition("=")[0]
        and finding.claim == replace(row, group=value).sentence()
        for value in values
    )


def _explain_mismatch(waiver: Waiver, finding: Finding, result: Result) -> str | None:
    """Say why a waiver has no effect on a finding about its claim; None if it has."""
    if finding.verdict == "PASS":
        return "its claim passes"
    if finding.verdict != "FAIL":
        return (
            f"its claim is {finding.verdict}, and only a claim that failed can be waived: "
            f"{finding.advice}"
        ).rstrip(".")
    if result.verdict != "FAIL":
        return "the audit is not to be trusted, which no waiver changes"
    reached = None if finding.estimate is None else finding.estimate.reaching_attack
    if waiver.attack is not None and waiver.attack != reached:
        return f"it is about {waiver.attack}, and {reached} fails the claim"
    if waiver.title is not None and waiver.title != result.title:
        return f"it is about the audit {waiver.title!r}, and this one is {result.title!r}"
    measured = None if finding.estimate is None else finding.estimate.value
    if waiver.at_most is not None and (measured is None or measured > waiver.at_most):
        found = "nothing" if measured is None else f"{measured:.4g}"
        return f"it accepts at most {waiver.at_most:g}, and {found} was measured"
    if waiver.access is not None and waiver.access != finding.access:
        return f"it is about {waiver.access} access, and the claim fails at {finding.access}"
    return None
