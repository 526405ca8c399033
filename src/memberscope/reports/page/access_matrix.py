"""Build the table of access by attack.

One row a level of access: what its strongest attack finds and costs, and the leading attacks.
"""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.reports.select import (
    find_estimate,
    find_headline,
    list_levels,
    list_unmeasured_levels,
    select_estimates,
)
from memberscope.types import Access, Estimate, list_access_levels

UNMEASURED = "Not measured: no attack ran here."
SHOWN = 7  # attacks with a column of their own
WORDS = {
    "label": "the predicted label",
    "probabilities": "every class's probability",
    "logits": "raw logits",
    "white_box": "the model itself",
    "generations": "texts that the model writes",
    "top_tokens": "the same, with the likeliest tokens",
    "token_probabilities": "log-probabilities of given tokens",
    "vocabulary": "the whole vocabulary's probabilities",
    "weights": "the model itself",
    "prediction": "what the model predicts",
}
LIMITS = {
    "top": "the {} likeliest, with probabilities",
    "round": "probabilities to {} decimals",
    "temperature": "temperature {}",
}
TEXT_LIMITS = {
    "top": "log-probabilities of the {} likeliest tokens of each place",
    "round": "log-probabilities to {} decimals",
}

OUTPUT_LIMITS = {
    "decimals": "rounded to {} decimals",
    "digits": "rounded to {} significant digits",
    "interval": "the middle of an interval {} wide",
    "bins": "one of {} bins from {} to {}",
    "edges": "one of the bins between given edges",
    "clip": "cut off below {} and above {}",
    "labels": "whether each label is likelier than {}",
}
LIMITS_BY_LADDER = {"classification": LIMITS, "text": TEXT_LIMITS, "outputs": OUTPUT_LIMITS}


@dataclass(frozen=True)
class MatrixRow:
    """One level: in words, with the strongest attack's numbers and each shown attack's AUC.

    `why` is set if it was not audited.
    """

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
    """The rows, weakest access first, and the attacks that have a column.

    `fpr` and `prior` are those that the rows speak of.
    """

    attacks: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    fpr: float | None
    prior: float


def build_matrix(result: Result) -> Matrix:
    """Build the table of a result; levels that were not audited say why."""
    # One rate for all rows, so that they compare
    best, prior = find_headline(result), result.plan.threat.prior
    fpr = None if best is None else best.fpr
    attacks = _find_leading_attacks(result)
    rows = [_build_matrix_row(result, level, attacks, fpr, prior) for level in list_levels(result)]
    # Levels without an attack, and then those that were never to be audited, keep their row
    unmeasured = list_unmeasured_levels(result)
    rows += [
        MatrixRow(format_level(*place), _describe_access(*place), why=UNMEASURED)
        for place in unmeasured
    ]
    seen = {access for access, _ in (*list_levels(result), *unmeasured)}
    rows += [
        MatrixRow(access.word, WORDS[access.word], why=_explain_missing_level(result, access))
        for access in list_access_levels(result.plan.task)
        if access.word not in seen
    ]
    return Matrix(attacks, tuple(rows), fpr, prior)


def _build_matrix_row(
    result: Result,
    level: tuple[str, str | None],
    attacks: tuple[str, ...],
    fpr: float | None,
    prior: float,
) -> MatrixRow:
    """Build one audited level."""
    tpr = find_estimate(result, attack=STRONGEST, level=level, metric="tpr", fpr=fpr)
    auc = find_estimate(result, attack=STRONGEST, level=level, metric="auc")
    leading = tpr or auc
    return MatrixRow(
        format_level(*level),
        _describe_access(*level),
        attack="" if leading is None else leading.reaching_attack,
        tpr=tpr,
        ppv=find_estimate(
            result, attack=STRONGEST, level=level, metric="ppv", fpr=fpr, prior=prior
        ),
        auc=auc,
        areas=tuple(
            find_estimate(result, attack=attack, level=level, metric="auc") for attack in attacks
        ),
    )


def _find_leading_attacks(result: Result) -> tuple[str, ...]:
    """Find the attacks with the largest AUC at any level, one at least for each level."""
    areas: dict[str, float] = {}
    must = []
    for level in list_levels(result):
        found = [
            entry
            for entry in select_estimates(result, level=level, metric="auc")
            if entry.attack != STRONGEST
        ]
        if found:
            must.append(max(found, key=lambda entry: entry.value).attack)
        for entry in found:
            areas[entry.attack] = max(areas.get(entry.attack, 0.0), entry.value)
    ordered = sorted(areas, key=lambda name: -areas[name])
    # The gap attack is the baseline, so it is shown whenever it ran
    chosen = list(dict.fromkeys(["gap"] * ("gap" in areas) + must + ordered))[:SHOWN]
    return tuple(chosen)


def _describe_access(access: str, restriction: str | None) -> str:
    """Describe what one query returns.

    >>> _describe_access("probabilities", "top:3+round:2"), _describe_access("label", None)
    ('the 3 likeliest, with probabilities; probabilities to 2 decimals', 'the predicted label')
    """
    if restriction is None:
        return WORDS[access]
    # Chained restrictions are told one after the other
    parts = [part.split(":") for part in restriction.split("+")]
    limits = LIMITS_BY_LADDER[Access[access.upper()].ladder]
    words = "; ".join(
        limits.get(kind, kind + " {}").format(*numbers, "") for kind, *numbers in parts
    )
    return words.replace(
        "the 1 likeliest, with probabilities", "the likeliest class, with its probability"
    ).replace("the 1 likeliest tokens", "the likeliest token")


def _explain_missing_level(result: Result, access: Access) -> str:
    """Explain why a level of access was not audited."""
    # The target's own reason says more than the plan's
    for entry in result.not_run:
        if entry.attack == "all" and entry.access == access.word:
            return entry.why
    if Access[result.plan.threat.access.upper()] < access:
        return "Not granted by the threat model."
    return "The model does not offer it."


def name_omitted_attacks(result: Result) -> str:
    """Name the kinds of attack that were no part of this audit, in words."""
    ran = {entry.access for entry in select_estimates(result, metric="auc")}
    searched = bool(result.diagnostics.searches)
    missing = ["attacks with reference models"] * (
        not any(threat.references for threat in result.threat_models)
    )
    # Texts have no labels to search
    if result.plan.task == "classification":
        missing += ["label-only search"] * (not searched)
    missing += ["white-box attacks"] * (not ran & {"white_box", "weights"})
    return " and ".join([", ".join(missing[:-1]), missing[-1]] if len(missing) > 1 else missing)
