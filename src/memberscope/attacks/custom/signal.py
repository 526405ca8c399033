"""Declare a signal of one's own: one number a record, on which shipped attacks can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from memberscope._own_code import digest_object, pickle_by_value
from memberscope.attacks.custom.attack import check_name
from memberscope.errors import InputError, UnmetNeedError
from memberscope.types import Access, Floats, Records, SignalSpec, Target

SIDES = ("member", "non_member")


@dataclass(frozen=True)
class CustomSignal:
    """A function (target, records) -> (n,), and the direction in which it speaks.

    `higher` says who has the higher values: a `member` or a `non_member`. `access` is what a query
    has to return; the target that the function is given answers no more than that. `queries` are
    the most queries a record that it makes. LiRA fits normals to the values, and RMIA reads them as
    logits, so a scale without bounds suits both.

    >>> def top_share(target, records):
    ...     return target.query(records.x).max(axis=1)
    >>> signal = CustomSignal("top_share", top_share, higher="member")
    >>> signal.spec.title, signal.access.word
    ('top_share', 'probabilities')
    """

    name: str
    measure: Callable[[Target, Records], Any] = field(compare=False)
    higher: Literal["member", "non_member"]
    access: Access = Access.PROBABILITIES
    queries: int = 1
    digest: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_name(self.name, "signal")
        if not callable(self.measure):
            raise InputError(
                f"Expected a function (target, records) as measure of the signal {self.name}, got "
                f"{type(self.measure).__name__}. Give a function."
            )
        if self.higher not in SIDES:
            raise InputError(
                f"Expected higher 'member' or 'non_member' for the signal {self.name}, got "
                f"{self.higher!r}. Say who has the higher values."
            )
        if not isinstance(self.access, Access) or self.queries < 1:
            raise InputError(
                f"Expected an Access and at least one query for the signal {self.name}, got "
                f"{self.access!r} and {self.queries!r}. Write access=Access.PROBABILITIES."
            )
        # A worker gets the digest of the code as it was where the audit runs
        object.__setattr__(self, "digest", self.digest or digest_object(self.measure))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the signal with its function's own code, which a worker could not import."""
        rest = (self.name, self.higher, int(self.access), self.queries, self.digest)
        return _rebuild_signal, (pickle_by_value(self.measure), *rest)

    @property
    def spec(self) -> SignalSpec:
        """What an attack on it needs, and the key under which it is kept."""
        return SignalSpec("custom", parameters=(("queries", float(self.queries)),), own=self)

    def measure_records(self, target: Target, records: Records) -> Floats:
        """Measure the records (n,), higher for likelier members.

        Raises:
            UnmetNeedError: The function gives something else than one finite number a record.
        """
        n = len(records)
        found = np.asarray(self.measure(target, records), dtype=np.float64)
        if found.shape != (n,):
            raise UnmetNeedError(
                f"Expected values of shape ({n},) from the signal {self.name}, got {found.shape}. "
                "Return one number for each record."
            )
        wrong = int((~np.isfinite(found)).sum())
        if wrong:
            raise UnmetNeedError(
                f"Expected a finite value for each record from the signal {self.name}, got NaN or "
                f"infinity for {wrong} of {n}. Give them a number."
            )
        return found if self.higher == "member" else -found


def _rebuild_signal(code: bytes, name: str, higher: Any, access: int, *rest: Any) -> CustomSignal:
    """Rebuild a signal in a worker."""
    import cloudpickle

    return CustomSignal(name, cloudpickle.loads(code), higher, Access(access), *rest)


def is_signal(thing: Any) -> bool:
    """Tell whether an object has what a signal has: `name`, `measure` and `higher`.

    >>> is_signal("loss")
    False
    """
    return all(hasattr(thing, name) for name in ("name", "measure", "higher"))


def as_signal(thing: Any) -> CustomSignal:
    """Read any object with `name`, `measure(target, records)` and `higher` as a signal.

    Raises:
        InputError: It lacks something.

    >>> as_signal(3)
    Traceback (most recent call last):
    ...
    memberscope.errors.InputError: Expected a signal with name, measure and higher, got int ...
    """
    if isinstance(thing, CustomSignal):
        return thing
    thing = thing() if isinstance(thing, type) else thing
    missing = [name for name in ("name", "measure", "higher") if not hasattr(thing, name)]
    if missing:
        raise InputError(
            f"Expected a signal with name, measure and higher, got {type(thing).__name__} without "
            f"{', '.join(missing)}. Use memberscope.attacks.CustomSignal."
        )
    return CustomSignal(
        thing.name,
        thing.measure,
        thing.higher,
        getattr(thing, "access", Access.PROBABILITIES),
        getattr(thing, "queries", 1),
        # The whole object counts, as its values may decide what is measured
        digest_object(thing),
    )
