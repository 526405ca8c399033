"""QueryEvent: one answered request, as the monitor sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from memberscope.guard.policy.tables import ServingConfig
from memberscope.types import Ints
from memberscope.wire import Batch

if TYPE_CHECKING:
    pass

from typing import NamedTuple


class QueryEvent(NamedTuple):
    """One answered request: who asked about which records, and the answer.

    `client` is `kind:subject`, `key` its keyed hash, `group` the name of its class. `labels` (n,)
    are the answered top classes, -1 where none was answered, or where they are still to be read
    from `answer`, the body of one that passed as it was, in the way of `serving`. `status` is the
    answer's, 499 if the client left before. `seconds` is the time that it took.

    >>> import numpy as np
    >>> QueryEvent(Batch(np.eye(2)), "network:192.0.2.7/32", "00", "default", np.array([-1, -1]), 429, 0.001).records
    2
    """

    batch: Batch
    client: str
    key: str
    group: str
    labels: Ints
    status: int
    seconds: float
    answer: bytes = b""
    serving: ServingConfig | None = None

    @property
    def records(self) -> int:
        """Number of records that were asked about."""
        return len(self.labels)


Watch = Callable[[QueryEvent], None]
