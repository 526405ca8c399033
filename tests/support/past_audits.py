"""Past audits for tests of the history, and files that hold many of them."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from memberscope.reports.history import PastAudit, PastNumber, append_audit

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_past_number(level: str, metric: str, value: float, **more: object) -> PastNumber:
    fpr = 0.01 if metric == "tpr" else None
    limits = {"low": max(0.0, value - 0.05), "high": min(1.0, value + 0.05)}
    given = {"access": level, "restriction": None, "fpr": fpr, "attack": "lira", **limits, **more}
    return PastNumber(metric=metric, value=value, **given)  # type: ignore[arg-type]


def make_past_audit(number: int = 0, **more: object) -> PastAudit:
    """The audit of release `number`: retrained on the same records, a day after the one before."""
    leak = 0.02 + 0.01 * (number % 30)
    given: dict[str, object] = {
        "time": START + timedelta(days=number),
        "kind": "audit",
        "model": "fraud",
        "title": "fraud",
        "verdict": "FAIL" if leak > 0.1 else "PASS",
        "limited": False,
        "policy": "standard",
        "confidence": 0.95,
        "n_members": 1000,
        "n_non_members": 1000,
        "numbers": tuple(
            make_past_number(level, metric, value)
            for level, share in (("label", 0.5), ("probabilities", 1.0))
            for metric, value in (("tpr", share * leak), ("auc", 0.5 + share * leak))
        ),
        "worst": make_past_number("probabilities", "tpr", 0.2, group="sex=f"),
        "controls": {"null": True, "blind": None},
        "digests": {"model": f"m{number}", "records": "r", "plan": "p", "result": "0" * 64},
        "report": "",
        "version": "0.1.0",
    }
    return PastAudit(**given | more)  # type: ignore[arg-type]


def write_many(file: Path, n: int) -> None:
    """Write a history of `n` audits of ten models."""
    for number in range(40):
        append_audit(file, make_past_audit(number, model=f"model {number % 10}"))
    database = sqlite3.connect(file, isolation_level=None)
    names = [row[1] for row in database.execute("PRAGMA table_info(audits)") if row[1] != "id"]
    columns = ", ".join(names)
    database.execute("BEGIN")
    kept = 40
    while kept < n:
        more = min(kept, n - kept)
        query = f"INSERT INTO audits ({columns}) SELECT {columns} FROM audits LIMIT {more}"
        database.execute(query)
        kept += more
    database.execute("COMMIT")
    database.close()
