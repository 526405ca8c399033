"""Query top labels of moved records in batches, and count queries for each record.

All label-only searches use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._parallel import limit_small_call
from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.facts import read_target_facts
from memberscope.signals.collect import predict_labels
from memberscope.signals.domain import Domain
from memberscope.signals.measured import MeasuredSignal, Progress, read_parameter
from memberscope.signals.reduce import find_top_class
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import Bools, Floats, Ints, Records, SignalSpec, Target

CELLS = 2**22  # numbers in one batch of moved records
FIRST = 16  # queries up to the first stage; each later stage doubles them
SETTLED = 0.99  # rank correlation between two stages from which more queries are not worth asking
# And the mean change of the values, so that models searched to other stages stay comparable
DRIFT = 0.1

# Records (r,), of which each may stand more than once, and a copy of each (r, f)
Block = tuple[NDArray[np.int64], Floats]


@dataclass(eq=False)
class Oracle:
    """Target that gives top labels of a domain's numbers.

    `asked` (n,) counts the queries of each record. `owners` (n,) names the record and the search
    that each query is spent for, where the target keeps account.
    """

    target: Target
    domain: Domain
    labels: Ints
    asked: Ints
    owners: NDArray[np.str_] | None = None

    def keeps(self, rows: NDArray[np.int64], z: Floats) -> Bools:
        """Check whether copies `z` (r, f) of the records `rows` (r,) still get their true label.

        Raises:
            TargetError: The model fails, or gives another number of rows.
        """
        # A record may stand in several rows, each of which is a query
        self.asked += np.bincount(rows, minlength=len(self.asked))
        step = self.rows_a_call(z.shape[1])
        parts = [
            self.ask(rows[start : start + step], z[start : start + step])
            for start in range(0, len(z), step)
        ]
        same: Bools = (
            np.concatenate(parts) == self.labels[rows] if parts else np.zeros(0, dtype=bool)
        )
        return same

    def keeps_each(self, blocks: Iterable[Block]) -> list[tuple[NDArray[np.int64], Bools]]:
        """Check blocks of copies as `keeps` does, in as few calls as memory allows.

        A call costs time however few rows it has. Give the rows and the answers of each block.
        """
        found: list[tuple[NDArray[np.int64], Bools]] = []
        waiting: list[Block] = []
        # Blocks are made when their turn comes, so that few are held at a time
        for rows, z in blocks:
            held = len(rows) + sum(len(other) for other, _ in waiting)
            if held > self.rows_a_call(z.shape[1]):
                found += self._check_together(waiting)
                waiting = []
            waiting.append((rows, z))
        return found + self._check_together(waiting)

    def _check_together(self, blocks: list[Block]) -> list[tuple[NDArray[np.int64], Bools]]:
        """Check the copies of several blocks in one call."""
        if not blocks:
            return []
        rows, z = (np.concatenate(part) for part in zip(*blocks, strict=True))
        ends = np.cumsum([len(part) for part, _ in blocks])[:-1]
        kept = self.keeps(rows, z)
        return list(zip(np.split(rows, ends), np.split(kept, ends), strict=True))

    def ask(self, rows: NDArray[np.int64], z: Floats) -> Ints:
        """Query the top labels (r,) of copies `z` (r, f) of the records `rows` (r,), in one call."""
        x, owners = self.domain.decode(z), self.owners_of(rows)
        with limit_small_call(z.size):
            return ask_top_labels(self.target, x, owners)

    def rows_a_call(self, width: int) -> int:
        """Count the rows of `width` numbers that one call may have."""
        metered = find_metered_target(self.target)
        rows = max(1, CELLS // width)
        return rows if metered is None else min(rows, metered.rows_a_query)

    def owners_of(self, rows: NDArray[np.int64]) -> NDArray[np.str_] | None:
        """Name whose budget the queries about the records `rows` (r,) are taken from."""
        return None if self.owners is None else self.owners[rows]


def build_oracle(target: Target, domain: Domain, records: Records, search: str) -> Oracle:
    """Build an oracle about `records` without queries so far.

    Each search has a budget of its own.
    """
    owners = np.char.add(f"{search}:", np.asarray(records.ids).astype(np.str_))
    return Oracle(target, domain, records.y, np.zeros(len(records), dtype=np.int64), owners)


def ask_first_labels(oracle: Oracle, z: Floats) -> Ints:
    """Query the top label (n,) of each unchanged record: one query each."""
    # A record's first answer counts against its budget as well
    oracle.asked += 1
    parts = split_rows(np.arange(len(z)), z.shape[1])
    return np.concatenate([oracle.ask(part, z[part]) for part in parts])


def ask_top_labels(target: Target, x: object, owners: NDArray[np.str_] | None = None) -> Ints:
    """Give the labels (n,) that the target's `predict` gives the records `x`, or the top ones.

    No other part of its answers is used.

    Raises:
        TargetError: The model fails, or gives another number of rows.
    """
    # A model's own decision may differ from its top class
    facts = read_target_facts(target)
    if facts.predict is not None and facts.same_labels is None:
        return predict_labels(target, x)
    # No defence changes the top class, so that the model behind it gives the same, faster
    if facts.same_labels is not None:
        target = facts.same_labels
        facts = read_target_facts(target)
    try:
        whose: dict[str, Any] = (
            {"owners": owners.tolist()}
            if owners is not None and find_metered_target(target) is not None
            else {}
        )
        answer = np.asarray(target.query(x, **whose), dtype=np.float64)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected answers about moved records, got {type(error).__name__}: {first}. Call the "
            "model on one of them to see why."
        ) from error
    rows = x.shape[0] if hasattr(x, "shape") else len(x)  # type: ignore[arg-type]
    if answer.ndim != 2 or len(answer) != rows:
        raise TargetError(
            f"Expected {rows} rows of outputs, got shape {answer.shape}. Return one row for each "
            "record."
        )
    odd = np.isnan(answer).all(axis=1) if facts.hides else ~np.isfinite(answer).all(axis=1)
    if odd.any():
        raise TargetError(
            f"Expected finite outputs about moved records, got {int(odd.sum())} rows with NaN or "
            "infinity. Make the model answer all records in the range of the data."
        )
    if target.signal == "labels":
        return answer[:, 0].astype(np.int64)
    return find_top_class(answer)


def read_query_budget(spec: SignalSpec, default: int) -> int:
    """Read the number of queries for each record that the specification allows.

    Raises:
        InputError: Less than one.

    >>> read_query_budget(SignalSpec("noise", parameters=(("queries", 40.0),)), 64)
    40
    """
    queries = int(read_parameter(spec, "queries", default))
    if queries < 1:
        raise InputError(
            f"Expected a budget of at least 1 query for each record, got {queries}. Raise "
            "--query-budget."
        )
    return queries


def plan_stages(budget: int, first: int = FIRST) -> list[int]:
    """Plan the budgets at which values are kept: doubling, and the last.

    >>> plan_stages(100), plan_stages(5)
    ([16, 32, 64, 100], [5])
    """
    doubling = [first << power for power in range(20) if first << power < budget]
    return [*doubling, budget]


def _is_ranking_stable(before: Floats, after: Floats, usable: Bools, limit: float) -> bool:
    """Check whether two stages rank the `usable` records alike, with hardly changed values.

    >>> values = np.array([1.0, 2.0, 3.0])
    >>> _is_ranking_stable(values, values + 0.01, np.ones(3, dtype=bool), 0.99), _is_ranking_stable(values, -values, np.ones(3, dtype=bool), 0.99)
    (True, False)
    """
    # One record has no ranking that could change
    if usable.sum() < 2:
        return True
    a, b = before[usable], after[usable]
    first, second = _compute_centred_ranks(a), _compute_centred_ranks(b)
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return bool(np.abs(a - b).mean() <= DRIFT and (scale == 0 or first @ second >= limit * scale))


def _compute_centred_ranks(values: Floats) -> Floats:
    """Compute ranks (n,) with mean zero; equal values get their average rank.

    >>> _compute_centred_ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [0.5, -1.0, 0.5]
    """
    ordered = np.sort(values)
    places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray((places - len(values)) / 2.0, dtype=np.float64)


def measure_in_stages(
    spec: SignalSpec, plan: list[int], advance: Callable[[int], Floats], oracle: Oracle, right: Bools, progress: Progress | None
) -> MeasuredSignal:  # fmt: skip
    """Measure values (n, stages, 1) and queries (n, stages) with `advance`.

    `advance` spends up to a budget and gives what it then knows. Measuring ends with the plan, once
    no record asks any more, or when the ranking of the records that are `right` has settled.
    """
    limit = read_parameter(spec, "settled", SETTLED)
    values: list[Floats] = []
    queries: list[Ints] = []
    for budget in plan:
        values.append(advance(budget))
        queries.append(oracle.asked.copy())
        if progress:
            progress(int(queries[-1].sum()), len(right) * plan[-1])
        # Every record has finished its search
        idle = len(queries) > 1 and bool((queries[-1] == queries[-2]).all())
        if idle or (len(values) > 1 and _is_ranking_stable(values[-2], values[-1], right, limit)):
            break
    return MeasuredSignal(np.stack(values, axis=1)[:, :, None], np.stack(queries, axis=1))


def split_rows(rows: NDArray[np.int64], width: int) -> Iterator[NDArray[np.int64]]:
    """Split the records `rows` (r,) into batches, given `width` numbers for each record."""
    step = max(1, CELLS // width)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
