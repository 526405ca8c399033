"""Wrap an attack of somebody's own: any object with `name`, `needs` and `score`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from memberscope._own_code import digest_object
from memberscope.attacks._inputs import has_log_ratio, require_needs
from memberscope.errors import InputError, UnmetNeedError
from memberscope.texts import TOKEN_ARRAYS, TokenSignals
from memberscope.types import Evidence, Floats, Needs

NAME = re.compile(r"[a-z][a-z0-9_.]{0,59}")
# Words that results use in the place of an attack's name
TAKEN = ("all", "strongest", "targets")


@dataclass(frozen=True)
class CustomAttack:
    """An attack of somebody's own, by `wrap_attack`.

    `digest` is a hash of its code and its parameters. `own` is the object itself, None in a plan
    that was read from a file. `log_ratio` is the object's own word, see `has_log_ratio`.

    >>> class Constant:
    ...     name, needs = "constant", Needs()
    ...     def score(self, evidence, rng):
    ...         return np.zeros(len(evidence))
    >>> attack = wrap_attack(Constant())
    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> attack.score(evidence, np.random.default_rng(0)).tolist()
    [0.0, 0.0]
    """

    name: str
    version: int
    needs: Needs
    digest: str
    own: Any = field(default=None, compare=False, repr=False)
    log_ratio: bool = False

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give its scores (n,); NaN where a record is not hidden.

        Raises:
            UnmetNeedError: The evidence lacks what it needs, it raises, or it gives anything but
                one finite number for each hidden record.
        """
        require_needs(self, evidence)
        if self.own is None:
            raise UnmetNeedError(
                f"Expected the code of the attack {self.name}, got only its name. Give the object, "
                "--attack-file or the package that it comes from."
            )
        try:
            # Read-only, as all attacks share one evidence
            found = self.own.score(_protect_evidence(evidence), rng)
        except UnmetNeedError:
            raise
        # Whatever it raises, the other attacks go on
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise UnmetNeedError(
                f"Expected scores of the attack {self.name}, got {type(error).__name__}: {first}. "
                "Correct its score."
            ) from error
        return self._check_scores(found, evidence)

    def _check_scores(self, found: Any, evidence: Evidence) -> Floats:
        """Check that there is one finite number for each hidden record.

        Raises:
            UnmetNeedError: There is not.
        """
        n = len(evidence)
        try:
            scores = np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UnmetNeedError(
                f"Expected {n} numbers from the attack {self.name}, got {type(found).__name__}. "
                "Return an array of floats."
            ) from error
        if scores.shape != (n,):
            raise UnmetNeedError(
                f"Expected scores of shape ({n},) from the attack {self.name}, got "
                f"{scores.shape}. Return one number for each record."
            )
        wrong = int((~np.isfinite(scores[evidence.hidden])).sum())
        if wrong:
            raise UnmetNeedError(
                f"Expected a finite score for each hidden record from the attack {self.name}, got "
                f"NaN or infinity for {wrong} of {int(evidence.hidden.sum())}. Give them a number."
            )
        return np.where(evidence.hidden, scores, np.nan)


def is_attack(thing: Any) -> bool:
    """Tell whether an object has what an attack has: `name`, `needs` and `score`.

    >>> is_attack("gap")
    False
    """
    return all(hasattr(thing, name) for name in ("name", "needs", "score"))


def wrap_attack(own: Any) -> CustomAttack:
    """Check an attack of somebody's own, an object or a class without arguments, and wrap it.

    Raises:
        InputError: It lacks something, or its name cannot stand in a result.

    >>> wrap_attack(3)
    Traceback (most recent call last):
    ...
    memberscope.errors.InputError: Expected an attack with name, needs and score, got int ...
    """
    if isinstance(own, type):
        try:
            own = own()
        except TypeError as error:
            raise InputError(
                f"Expected an attack that works without arguments, got {own.__name__}: {error}. "
                "Give an object of the class."
            ) from error
    missing = [name for name in ("name", "needs", "score") if not hasattr(own, name)]
    if missing:
        raise InputError(
            f"Expected an attack with name, needs and score, got {type(own).__name__} without "
            f"{', '.join(missing)}. Add what is missing."
        )
    check_name(own.name, "attack")
    if not isinstance(own.needs, Needs):
        raise InputError(
            f"Expected needs of the type memberscope.types.Needs for the attack {own.name}, got "
            f"{type(own.needs).__name__}. Write needs = Needs()."
        )
    version = getattr(own, "version", 1)
    if not callable(own.score) or not isinstance(version, int):
        raise InputError(
            f"Expected a method score and a whole version of the attack {own.name}, got "
            f"{type(own.score).__name__} and {version!r}. Write score(evidence, rng)."
        )
    return CustomAttack(own.name, version, own.needs, digest_object(own), own, has_log_ratio(own))


def check_name(name: Any, kind: str) -> None:
    """Check a name that stands in results, in columns of tables and in keys of arrays.

    Raises:
        InputError: It has other characters, or is a word that results use.

    >>> check_name("my_attack", "attack")
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in TAKEN:
        raise InputError(
            f"Expected a name of the {kind} in lower case such as my_{kind}, got {name!r}. Use "
            "letters, digits and underscores."
        )


def _protect_evidence(evidence: Evidence) -> Evidence:
    """Give the same evidence with arrays that cannot be written to."""
    arrays = ("target", "labels", "known", "references", "inside", "features")
    views = {}
    for name in arrays:
        value = getattr(evidence, name)
        if value is not None:
            views[name] = value.view()
            views[name].flags.writeable = False
    outside, tokens = evidence.population, evidence.tokens
    return replace(
        evidence,
        **views,
        population=None if outside is None else _protect_evidence(outside),
        tokens=None if tokens is None else _protect_tokens(tokens),
    )


def _protect_tokens(tokens: TokenSignals) -> TokenSignals:
    """Give the same token signals with arrays that cannot be written to."""
    views: dict[str, Any] = {}
    for name in ("offsets", *TOKEN_ARRAYS, "n_bytes", "zlib_bytes"):
        value = getattr(tokens, name)
        if value is not None:
            views[name] = value.view()
            views[name].flags.writeable = False
    copies = {name: value.copy() for name, value in tokens.copies.items()}
    return replace(tokens, copies=copies, **views)
