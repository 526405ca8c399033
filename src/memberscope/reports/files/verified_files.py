"""Read results and sweeps from disk together with the scores they rest on.

They are refused where the two do not agree.
"""

from __future__ import annotations

from pathlib import Path

from memberscope.auditing import (
    AuditArrays,
    Policy,
    Result,
    name_audit_folder,
    parse_training_name,
    verify_frontier,
    verify_result,
)
from memberscope.auditing.defend import Frontier
from memberscope.errors import InputError
from memberscope.reports.files.arrays_file import read_arrays
from memberscope.reports.files.result_json import read_result
from memberscope.reports.frontier import read_frontier


def read_verified(path: str | Path, policy: Policy | None = None) -> tuple[Result, AuditArrays]:
    """Read a result with its arrays, from an audit's folder or its result.json.

    It is judged by `policy` or by its own.

    Raises:
        InputError: One of the files is missing or broken, or the result is not what the arrays
    give.
    """
    path = Path(path)
    found, arrays = read_result(path), read_arrays(path if path.is_dir() else path.parent)
    judgement = verify_result(found, arrays, policy)
    # Another policy may give another verdict than the one that is stored
    judged = {
        name: getattr(judgement, name) for name in ("verdict", "limited", "reason", "findings")
    }
    return found.model_copy(update=judged), arrays


def read_verified_frontier(path: Path) -> tuple[Frontier, dict[str, Result]]:
    """Read a sweep with its audits, which lie beside it, by the name of their way of training.

    Raises:
        InputError: One of the files is missing or broken, or a row is not what its audit gives.
    """
    frontier = read_frontier(path)
    folder = path if path.is_dir() else path.parent
    # Undefended training is audited in every sweep, even where no row names it
    names = dict.fromkeys(
        ["none", *(parse_training_name(row.name) for row in frontier.rows if row.why_not is None)]
    )
    audits = {}
    for name in names:
        place = folder / name_audit_folder(name)
        try:
            audits[name] = read_result(place).model_copy(update={"arrays": read_arrays(place)})
        except InputError as error:
            what = "undefended training" if name == "none" else name
            raise InputError(
                f"Expected the sweep's audit of {what} in {str(place)!r}, got none that can be "
                "read. Give the sweep's folder."
            ) from error
    verify_frontier(frontier, audits)
    return frontier, audits
