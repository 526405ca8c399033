"""Write and read calibrated thresholds as a file that people can read."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from memberscope._files import read_json, write_bytes
from memberscope.errors import InputError
from memberscope.guard.calibration.thresholds import Tuned
from memberscope.guard.detectors.boundary_search import BoundaryDetector
from memberscope.guard.detectors.enumeration import CoverageDetector
from memberscope.guard.detectors.feature_walks import NEVER
from memberscope.guard.detectors.membership_hits import Membership
from memberscope.guard.detectors.monitor import STREAMS, DetectorSettings
from memberscope.guard.detectors.near_copies import SIGNS, Probing
from memberscope.guard.detectors.volume import Volume

FORMAT = "memberscope-tuned/3"
PARTS: dict[str, Any] = {
    "volume": Volume,
    "probing": Probing,
    "boundary": BoundaryDetector,
    "membership": Membership,
    "coverage": CoverageDetector,
}


def write_tuned(path: str | Path, tuned: Tuned) -> None:
    """Write `tuned.json`."""
    write_bytes(Path(path), json.dumps({"format": FORMAT, **asdict(tuned)}, indent=1).encode())


def read_tuned(path: str | Path, key: str | None = None) -> Tuned:
    """Read a calibration; with `key`, refuse one made with another secret.

    Raises:
        InputError: The file cannot be read, is none, or was made with another secret.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "tuned.json"
    >>> write_tuned(file, Tuned(DetectorSettings({"volume.client": 9.0}, 0.1), 0.001, 10, 20, 0, 5, 0.0, 0.5, "k"))
    >>> read_tuned(file, "k").settings.thresholds
    {'volume.client': 9.0}
    """
    try:
        found = read_json(path)
        if (written := str(found.pop("format"))) != FORMAT:
            raise InputError(
                f"Expected thresholds of this version ({FORMAT}) in {str(path)!r}, got "
                f"{written[:40]!r}. "
                "Make them anew with memberscope guard tune."
            )
        told = found.pop("settings")
        # JSON has lists where the detectors need tuples
        parts = {
            name: make(**{key: _convert_to_tuple(value) for key, value in told.pop(name).items()})
            for name, make in PARTS.items()
        }
        settings = DetectorSettings(**told, **parts)
        tuned = Tuned(settings, **found)
        if not set(settings.thresholds) <= set(STREAMS) or not all(
            isinstance(v, int | float) for v in settings.thresholds.values()
        ):
            raise ValueError("other streams")
        # Other lengths or levels would only fail later, at the first query
        if len(settings.probing.usual) != SIGNS or settings.probing.level not in range(
            1, NEVER + 1
        ):
            raise ValueError("other signs")
        if any(
            isinstance(getattr(tuned, field.name), str) != (field.name == "key")
            for field in fields(tuned)
        ):
            raise ValueError("other types")
    except OSError as error:
        raise InputError(
            f"Expected thresholds in {str(path)!r}, got: {error.strerror}. Make them with "
            "memberscope guard tune."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Expected thresholds in {str(path)!r}, got something else. Make them with memberscope "
            "guard tune."
        ) from error
    # Under another key sketches differ, and with them the statistics that thresholds are for
    if key is not None and tuned.key != key:
        raise InputError(
            f"Expected thresholds found with the key {key}, got {tuned.key[:40]!r}. Find them anew "
            "with memberscope guard tune."
        )
    return tuned


def _convert_to_tuple(value: Any) -> Any:
    """Convert lists back to tuples."""
    return tuple(value) if isinstance(value, list) else value
