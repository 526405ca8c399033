"""Access by attack: one row a level of access, what its strongest attack finds and costs, and the leading attacks beside it."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents.access_levels import level_word
from memberscope.reports.select import first, headline, levels, reached_by, select, unmeasured_levels
from memberscope.types import Access, Estimate

UNMEASURED = "Not measured: no attack ran here."
SHOWN = 7  # attacks with a column of their own
WORDS = {
    "label": "the predicted label",
    "probabilities": "every class's probability",
    "logits": "raw logits",
    "white_box": "the model itself",
}
LIMITS = {
    "top": "the {} likeliest, with probabilities",
    "round": "probabilities to {} decimals",
    "temperature": "temperature {}",
}


@dataclass(frozen=True)
class Row:
    """One level: in words, with the strongest attack's numbers and each shown attack's AUC; `why` if it was not audited."""

    level: str
    words: str
    why: str | None = None
    attack: str = ""
    tpr: Estimate | None = None
    ppv: Estimate | None = None
    auc: Estimate | None = None
    areas: tuple[Estimate | None, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """The rows, weakest access first, the attacks that have a column, and the rate and prior that the rows speak of."""

    attacks: tuple[str, ...]
    rows: tuple[Row, ...]
    fpr: float | None
    prior: float


def matrix(result: Result) -> Matrix:
    """The table of a result; levels that were not audited say why."""
    best, prior = headline(result), result.plan["threat"]["prior"]
    fpr = None if best is None else best.fpr
    attacks = leading_attacks(result)
    rows = [row_of(result, level, attacks, fpr, prior) for level in levels(result)]
    unmeasured = unmeasured_levels(result)
    rows += [Row(level_word(*place), in_words(*place), why=UNMEASURED) for place in unmeasured]
    seen = {access for access, _ in (*levels(result), *unmeasured)}
    rows += [
        Row(access.word, WORDS[access.word], why=why_missing(result, access)) for access in Access if access.word not in seen
    ]
    return Matrix(attacks, tuple(rows), fpr, prior)


def row_of(result: Result, level: tuple[str, str | None], attacks: tuple[str, ...], fpr: float | None, prior: float) -> Row:
    """One audited level."""
    tpr = first(result, attack=STRONGEST, level=level, metric="tpr", fpr=fpr)
    auc = first(result, attack=STRONGEST, level=level, metric="auc")
    leading = tpr or auc
    return Row(
        level_word(*level),
        in_words(*level),
        attack="" if leading is None else reached_by(leading),
        tpr=tpr,
        ppv=first(result, attack=STRONGEST, level=level, metric="ppv", fpr=fpr, prior=prior),
        auc=auc,
        areas=tuple(first(result, attack=attack, level=level, metric="auc") for attack in attacks),
    )


def leading_attacks(result: Result) -> tuple[str, ...]:
    """The attacks with the largest AUC at any level, one at least for each level."""
    areas: dict[str, float] = {}
    must = []
    for level in levels(result):
        found = [entry for entry in select(result, level=level, metric="auc") if entry.attack != STRONGEST]
        if found:
            must.append(max(found, key=lambda entry: entry.value).attack)
        for entry in found:
            areas[entry.attack] = max(areas.get(entry.attack, 0.0), entry.value)
    ordered = sorted(areas, key=lambda name: -areas[name])
    chosen = list(dict.fromkeys(["gap"] * ("gap" in areas) + must + ordered))[:SHOWN]
    return tuple(chosen)


def in_words(access: str, restriction: str | None) -> str:
    """What one query returns.

    >>> in_words("probabilities", "top:3+round:2"), in_words("label", None)
    ('the 3 likeliest, with probabilities; probabilities to 2 decimals', 'the predicted label')
    """
    if restriction is None:
        return WORDS[access]
    parts = [part.split(":") for part in restriction.split("+")]
    words = "; ".join(LIMITS.get(kind, kind + " {}").format(*numbers, "") for kind, *numbers in parts)
    return words.replace("the 1 likeliest, with probabilities", "the likeliest class, with its probability")


def why_missing(result: Result, access: Access) -> str:
    """Why a level of access was not audited."""
    for entry in result.not_run:
        if entry.attack == "all" and entry.access == access.word:
            return entry.why
    if Access[result.plan["threat"]["access"].upper()] < access:
        return "Not granted by the threat model."
    return "The model does not offer it."


def outside(result: Result) -> str:
    """Kinds of attack that were no part of this audit, in words."""
    ran = {entry.access for entry in select(result, metric="auc")}
    searched = bool(result.diagnostics.get("searches"))
    missing = ["attacks with reference models"] * (not any(threat.references for threat in result.threat_models))
    missing += ["label-only search"] * (not searched) + ["white-box attacks"] * ("white_box" not in ran)
    return " and ".join([", ".join(missing[:-1]), missing[-1]] if len(missing) > 1 else missing)
