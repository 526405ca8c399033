"""Hold what reference models that others trained answered, and refuse what does not fit.

Arrays stay where they are: a memory map of a file is never copied here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.types import Bools, Floats

Higher = Literal["member", "non_member"]
# A number of this name lies on the scale of a logit: sigmoid(value) is the confidence
LOGIT = "logit_confidence"


@dataclass(frozen=True)
class StoredNumber:
    """One number a record and model, under a name of the user's choice.

    `higher` says of which records higher values are: `member` or `non_member`. A number that is
    called `logit_confidence` is read as one; any other has a scale of its own.

    >>> StoredNumber("log_density").sign, StoredNumber("distance", "non_member").sign
    (1.0, -1.0)
    """

    name: str
    higher: Higher = "member"

    def __post_init__(self) -> None:
        if self.higher not in get_args(Higher):
            raise InputError(
                f"Expected higher {' or '.join(get_args(Higher))} for the number {self.name!r}, got "
                f"{self.higher!r}. Say of which records higher values are."
            )

    @property
    def sign(self) -> float:
        """What the number is multiplied by, so that higher means more likely a member."""
        return 1.0 if self.higher == "member" else -1.0

    @property
    def is_logit(self) -> bool:
        """Whether it is a logit-scaled confidence."""
        return self.name == LOGIT


@dataclass(frozen=True, eq=False)
class ReferenceOutputs:
    """What m reference models answered about n records, and who was trained into which.

    `outputs` (m, n, views, d) are of the target's own kind: probabilities or logits of d classes,
    or one loss or number. Arrays (m, n) and (m, n, d) are taken too. `inside` (m, n) says which
    record was trained into which model. `target` (n, views, d) is what the target answered, where
    there are several views or a number. `train_accuracy` (m,) is known where training measured it;
    answers of classes need none. `where` names the source in messages.

    Raises:
        InputError: Shapes do not fit, values are not finite, or `inside` says nothing of whom the
            models were trained on.

    >>> found = ReferenceOutputs(np.zeros((2, 3)), np.array([[1, 0, 0], [0, 1, 1]]))
    >>> found.outputs.shape, len(found)
    ((2, 3, 1, 1), 2)
    """

    outputs: NDArray[Any]
    inside: Bools
    target: NDArray[Any] | None = None
    number: StoredNumber | None = None
    names: tuple[str, ...] = ()
    train_accuracy: Floats | None = None
    where: str = "the references"

    def __post_init__(self) -> None:
        outputs = np.asanyarray(self.outputs)
        if outputs.ndim not in (2, 3, 4) or outputs.dtype.kind not in "fiu":
            raise InputError(
                f"Expected numbers (models, records) or (models, records, outputs) in {self.where}, "
                f"got {outputs.dtype} of shape {outputs.shape}. Stack one array for each model."
            )
        # One view, and one output, where none are told apart
        if outputs.ndim == 2:
            outputs = outputs[:, :, None, None]
        elif outputs.ndim == 3:
            outputs = outputs[:, :, None, :]
        object.__setattr__(self, "outputs", outputs)
        names = self.names or tuple(str(number) for number in range(len(outputs)))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "inside", self._check_inside(outputs.shape[:2]))
        if self.train_accuracy is not None:
            object.__setattr__(self, "train_accuracy", self._check_accuracy())
        self._require_finite()

    def __len__(self) -> int:
        return len(self.inside)

    def take(self, keep: NDArray[Any]) -> ReferenceOutputs:
        """Keep only the records at positions `keep` (k,)."""
        target = None if self.target is None else self.target[keep]
        return ReferenceOutputs(
            self.outputs[:, keep],
            self.inside[:, keep],
            target,
            self.number,
            self.names,
            self.train_accuracy,
            self.where,
        )

    def limit(self, most: int) -> ReferenceOutputs:
        """Keep the first `most` models."""
        accuracy = None if self.train_accuracy is None else self.train_accuracy[:most]
        return ReferenceOutputs(
            self.outputs[:most],
            self.inside[:most],
            self.target,
            self.number,
            self.names[:most],
            accuracy,
            self.where,
        )

    def _check_inside(self, shape: tuple[int, ...]) -> Bools:
        """Check who was trained into which model (m, n).

        Raises:
            InputError: It does not fit, holds something else than 0 and 1, or says nothing.
        """
        values = np.asarray(self.inside)
        if values.shape != shape or not len(values):
            raise InputError(
                f"Expected inside of shape {shape} in {self.where}, one row for each reference "
                f"model and one column for each record, got {values.shape}. Give 1 where the model "
                "was trained on the record, else 0."
            )
        odd = values.dtype != bool and not ((values == 0) | (values == 1)).all()
        if odd:
            model, row = np.argwhere((values != 0) & (values != 1))[0]
            raise InputError(
                f"Expected 0 or 1 in inside of {self.where}, got {values[model, row]} for the "
                f"reference {self.names[model]} and record {row + 1}. Give 1 where the model was "
                "trained on the record."
            )
        inside = values if values.dtype == bool else values.astype(bool)
        sizes = inside.sum(axis=1)
        full = np.flatnonzero((sizes == 0) | (sizes == shape[1]))
        if len(full):
            what = "none" if sizes[full[0]] == 0 else "all"
            raise InputError(
                f"Expected reference models that were trained on some of the records, got "
                f"{self.names[full[0]]} of {self.where} with {what} of them ({len(full)} models in "
                "all). Leave these models out, or correct inside."
            )
        if len(inside) > 1 and (inside == inside[0]).all():
            raise InputError(
                f"Expected reference models that were trained on different records, got the same "
                f"{sizes[0]} records for all {len(inside)} in {self.where}. Correct inside, or give "
                "models that each left out others."
            )
        return inside

    def _check_accuracy(self) -> Floats:
        """Check the training accuracy (m,).

        Raises:
            InputError: There is not one for each model, or one is not a share.
        """
        values = np.asarray(self.train_accuracy, dtype=np.float64)
        if values.shape != (len(self.outputs),) or not ((values >= 0) & (values <= 1)).all():
            raise InputError(
                f"Expected train_accuracy of shape ({len(self.outputs)},) between 0 and 1 in "
                f"{self.where}, got {np.array2string(values[:4], precision=3)} of shape "
                f"{values.shape}. Give one share for each reference model, or leave it out."
            )
        return values

    def _require_finite(self) -> None:
        """Refuse answers that are not finite, model by model.

        Raises:
            InputError: Some are not; the message names the first.
        """
        # Model by model: the mask of all would take a quarter of the answers' own memory
        for name, values in zip(self.names, self.outputs, strict=True):
            if not (finite := np.isfinite(values)).all():
                row = int(np.argwhere(~finite)[0][0])
                raise InputError(
                    f"Expected finite numbers in {self.where}, got "
                    f"{float(values[row][~finite[row]][0])} of the reference {name} for record "
                    f"{row + 1} ({int((~finite).sum())} of this model in all). Leave the model out, "
                    "or ask it again."
                )


def refuse_other_records(references: ReferenceOutputs, member: Bools, width: int) -> None:
    """Refuse references that contradict the target's records: `member` (n,) and `width` outputs.

    Raises:
        InputError: They are about other records, answer otherwise, or are the target itself.
    """
    where = references.where
    n, d = references.outputs.shape[1], references.outputs.shape[3]
    if n != len(member):
        raise InputError(
            f"Expected answers about the {len(member)} records of the audited model in {where}, got "
            f"{n}. Ask each reference model about the same records, in the same order."
        )
    if d != width:
        raise InputError(
            f"Expected {width} outputs a record in {where}, as of the audited model, got {d}. Store "
            "the same answers of both."
        )
    same = np.flatnonzero((references.inside == member).all(axis=1))
    if len(same):
        raise InputError(
            f"Expected reference models that were trained on other records than the audited model, "
            f"got {references.names[same[0]]} of {where}, which was trained on exactly its "
            f"{int(member.sum())} members. Leave it out: it is the audited model, or a copy of it."
        )


def describe_dependent_design(inside: Bools, member: Bools) -> str | None:
    """Describe what a design (m, n) tells of the target's own membership (n,), if it surely does.

    Designs in which each record is in half of all models, the target included, tell it: a member is
    in one reference less. None where membership and design go their own ways.

    >>> member = np.arange(400) % 2 == 0
    >>> inside = np.random.default_rng(0).random((8, 400)) < 0.5
    >>> describe_dependent_design(inside, member) is None
    True
    >>> describe_dependent_design(np.vstack([inside, ~inside[:7], ~member]), member)[:40]
    'The references tell the membership of th'
    """
    counts = inside.sum(axis=0)
    sides = [counts[member], counts[~member]]
    n = [max(len(side), 1) for side in sides]
    spread = float(sum(side.var() / size for side, size in zip(sides, n, strict=True))) ** 0.5
    difference = float(sides[0].mean() - sides[1].mean())
    # Five standard errors, which designs of their own reach once in millions of audits
    if abs(difference) <= 5 * spread or abs(difference) < 0.05:
        return None
    return (
        f"The references tell the membership of the audited model's records: a member was trained "
        f"into {sides[0].mean():.4g} of them on average, another record into {sides[1].mean():.4g}, "
        "as where all models share one balanced design. Attacks that average over all models may "
        "gain from that alone; draw the audited model's records apart from the references'."
    )
