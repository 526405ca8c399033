"""Parse defences by their names on the command line, of training and of outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from memberscope.defences.behind_outputs import BehindOutputs
from memberscope.defences.distillation import Distillation
from memberscope.defences.dpsgd import DPSGD
from memberscope.defences.estimator_parameter import KNOBS, EstimatorParameter, parse_setting
from memberscope.defences.regularization import (
    L2,
    Augment,
    Dropout,
    EarlyStopping,
    LabelSmoothing,
    Mixup,
)
from memberscope.defences.relaxloss import HAMP, RelaxLoss
from memberscope.defences.selena import Selena
from memberscope.errors import InputError
from memberscope.outputs import KINDS, parse_restriction
from memberscope.types import Recipe, Records, TrainingDefence


@dataclass(frozen=True, eq=False)
class Defended:
    """A named defence: what it does to the recipe, in order, and to outputs.

    `restriction` names what is done to outputs, as `parse_restriction` reads it.
    """

    name: str
    training: tuple[TrainingDefence, ...] = ()
    restriction: str | None = None

    @property
    def trains(self) -> str:
        """Name of what it does to training; `none` for nothing.

        Defences with one such name share their models.
        """
        return "+".join(part.name for part in self.training) or NONE

    @property
    def settings(self) -> str:
        """Code that sets up the defence."""
        calls = "recipe"
        for part in self.training:
            # Records cannot be written out in code, so that their names stand for them
            if isinstance(part, BehindOutputs):
                fitted_to = "at_random=True" if part.at_random else "reserve"
                calls = f"BehindOutputs({part.output!r}, {fitted_to})({calls})"
            elif isinstance(part, Distillation):
                calls = f"Distillation({part.temperature:g}, public)({calls})"
            else:
                calls = f"{part!r}({calls})"
        words = [f"train = {calls}"] if self.training else []
        return (
            "; ".join(words + ([f'restrict = "{self.restriction}"'] if self.restriction else []))
            or "as it is"
        )

    def recipe(self, base: Recipe) -> Recipe:
        """Apply every training defence to the recipe.

        Raises:
            InputError: A part cannot be applied to this recipe.
        """
        for part in self.training:
            base = part(base)
        return base


NONE = "none"
# Defaults are those of the command line's names, such as `dropout` for `dropout:0.5`
TRAINING: dict[str, Callable[..., TrainingDefence]] = {
    "l2": lambda strength: L2(float(strength)),
    "dropout": lambda share="0.5": Dropout(float(share)),
    "early_stopping": lambda patience="5": EarlyStopping(int(patience)),
    "augment": lambda kind, *number: Augment(":".join((kind, *number))),
    "smooth": lambda share="0.1": LabelSmoothing(float(share)),
    "mixup": lambda alpha="0.4": Mixup(float(alpha)),
    "relaxloss": lambda alpha, upper="1": RelaxLoss(float(alpha), float(upper)),
    "hamp": lambda entropy="0.5", alpha="0.001": HAMP(float(entropy), float(alpha)),
    "selena": lambda k="25", l="10": Selena(int(k), int(l)),  # noqa: E741
    "dpsgd": lambda *words: _parse_dpsgd(words),
    "set": lambda text: parse_setting(text),
}
EXAMPLES = "l2:0.001, dropout:0.5, early_stopping, relaxloss:1, selena:25:10, dpsgd:eps=8, memguard:1, top:3 or set:max_depth=4"


def parse_defence(
    name: str, public: Records | None = None, reserve: Records | None = None
) -> Defended:
    """Parse the defence called `name`: parts joined by `+`.

    Parts that change training come before parts that change outputs.

    Raises:
        InputError: A part is unknown, its numbers do not fit, or parts of training follow parts of
            outputs.

    >>> found = parse_defence("l2:0.01+top:3")
    >>> found.training, found.restriction
    ((L2(strength=0.01),), 'top:3')
    """
    training: list[TrainingDefence] = []
    limits: list[str] = []
    for part in name.split("+"):
        kind = part.strip().split(":")[0]
        # Only by itself: `none+top:3` is a mistake, `none` the model without a defence
        if kind == NONE and name == NONE:
            continue
        # Fitted output defences count as training, as each model gets its own
        if kind in KINDS and kind not in FITTED:
            limits.append(part.strip())
        elif limits:
            raise InputError(
                f"Expected what changes training before what changes outputs, got {name!r}. Put "
                "the parts in that order."
            )
        else:
            training.append(_parse_training_defence(part.strip(), public, reserve))
    limit = parse_restriction("+".join(limits)).name if limits else None
    done = Defended(name, tuple(training), limit)
    # The name is written anew, so that one defence has one name
    words = [word for word in (done.trains if training else None, limit) if word]
    return Defended("+".join(words) or NONE, done.training, limit)


def _parse_training_defence(
    part: str, public: Records | None, reserve: Records | None
) -> TrainingDefence:
    """Parse one part that changes training, or that is fitted to what was trained.

    Raises:
        InputError: It is unknown, or its numbers do not fit.
    """
    # A setting's value may hold a colon
    kind, *numbers = part.split(":", 1) if part.startswith("set:") else part.split(":")
    try:
        if kind in FITTED:
            return BehindOutputs(parse_restriction(part), reserve, at_random=kind == "hamp_output")
        if kind == "distill":
            return Distillation(float(numbers[0]) if numbers else 1.0, public)
        if kind in KNOBS:
            return EstimatorParameter(kind, float(*numbers))
        return TRAINING[kind](*numbers)
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"Expected a defence such as {EXAMPLES}, got {part!r}. Check the name, and the numbers "
            "that it takes."
        ) from error


FITTED = ("memguard", "hamp_output")  # output defences that are fitted to the trained model


# Short words of a name and the settings that they stand for
PRIVATE = {"eps": "epsilon", "noise": "noise_multiplier", "clip": "max_grad_norm", "delta": "delta"}


def _parse_dpsgd(words: tuple[str, ...]) -> DPSGD:
    """Parse DP-SGD from words such as `eps=8`, `noise=1.1`, `clip=0.5`, `delta=1e-6` and `fix`.

    Raises:
        InputError: Neither eps nor noise is among them, or both.

    >>> _parse_dpsgd(("eps=8", "clip=0.5")).name
    'dpsgd:eps=8:clip=0.5'
    """
    given = dict(word.partition("=")[::2] for word in words)
    numbers = {PRIVATE[word]: float(value) for word, value in given.items() if word != "fix"}
    return DPSGD(**numbers, fix="fix" in given)


def expand_sweep(names: tuple[str, ...]) -> tuple[str, ...]:
    """Write out alternatives in names, each result once.

    >>> expand_sweep(("depth:2|4", "top:1"))
    ('depth:2', 'depth:4', 'top:1')
    >>> expand_sweep(("l2:0.1|0.2+top:1",))
    ('l2:0.1+top:1', 'l2:0.2+top:1')
    """
    found: list[str] = []
    for name in names:
        found += [
            "+".join(parts)
            for parts in itertools.product(*map(_expand_alternatives, name.split("+")))
        ]
    # Names may give the same defence twice: each is trained once
    return tuple(dict.fromkeys(found))


def _expand_alternatives(part: str) -> list[str]:
    """Repeat a part once for each of its values.

    >>> _expand_alternatives("dpsgd:eps=2|8")
    ['dpsgd:eps=2', 'dpsgd:eps=8']
    """
    first, *others = part.split("|")
    # The alternatives replace the last value only
    stem = first[: max(first.rfind(":"), first.rfind("=")) + 1]
    return [first, *(stem + other for other in others)]
