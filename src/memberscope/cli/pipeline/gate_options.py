"""Read what the options of a gate name: waivers, the day they must be in force, the baseline."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Waiver


def read_gate_waivers(path: Path | None, today: str | None) -> tuple[Waiver, ...]:
    """Read the waivers of a file that are in force today; none without a file.

    Raises:
        InputError: The file or the day cannot be read, or a waiver is not in force.
    """
    from memberscope.auditing import read_waivers

    day = _read_day(today)
    return () if path is None else read_waivers(path, day)


def _read_day(text: str | None) -> date:
    """Read the day that is given, or take that of the clock.

    Raises:
        InputError: It is no date.
    """
    from memberscope.auditing import parse_date

    # The one place where a verdict may depend on the clock, since waivers end by it
    if text is None:
        return datetime.now(tz=UTC).date()
    try:
        return parse_date(text)
    except ValueError:
        raise InputError(
            f"Expected a date such as 2027-01-31 for --today, got {text!r}. Correct it."
        ) from None


def choose_baseline(result: Path, baseline: Path | None, keep: Path | None) -> Path | None:
    """Choose the audit to compare with: the baseline that is named, or the one that is kept.

    Raises:
        InputError: The baseline is the audit itself or not the one that is kept, or the folder to
            keep it in holds other files.
    """
    from memberscope.reports import check_baseline_folder

    if keep is not None:
        check_baseline_folder(keep)
        if baseline is not None and baseline.resolve() != keep.resolve():
            raise InputError(
                f"Expected one folder for --baseline and --keep-baseline, got {str(baseline)!r} "
                f"and {str(keep)!r}. A baseline is kept where it is compared with; leave --baseline "
                "out."
            )
        baseline = keep if baseline is None and keep.exists() else baseline
    if baseline is not None and _find_folder(baseline) == _find_folder(result):
        raise InputError(
            f"Expected the audit of an earlier release for the baseline, got {str(baseline)!r}, "
            "which is the audit that is checked. Name another folder."
        )
    return baseline


def name_audit(path: Path) -> str:
    """Name an audit by its folder, or by its file where that is not called result.json.

    >>> name_audit(Path("v1/result.json")), name_audit(Path("v1")), name_audit(Path("v1.json"))
    ('v1', 'v1', 'v1.json')
    """
    return str(path.parent if path.name == "result.json" and path.parent != Path() else path)


def _find_folder(path: Path) -> Path:
    """Find the folder that an audit is in, without links."""
    return (path if path.is_dir() or not path.exists() else path.parent).resolve()
