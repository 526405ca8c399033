"""Estimate epsilon as evidence allows it.

There is a one-run lower bound only where independent coins assigned the members.
"""

from __future__ import annotations

import numpy as np

from memberscope.auditing.documents.plan import EstimateSettings, Plan
from memberscope.auditing.documents.result import AuditArrays
from memberscope.auditing.estimates.attack_part import build_whole_part
from memberscope.statistics import (
    Interval,
    count_right_guesses,
    epsilon_one_run,
    find_distinct_rankings,
)
from memberscope.types import Estimate

# Fixed beforehand: the surest twentieth guessed in, the least sure twentieth guessed out
GUESS_SHARE = 0.1
METHOD = (
    "one-run lower bound (arXiv:2305.08846), {guesses} guesses fixed beforehand, {right} right; "
    "delta = 0; corrected for "
    "{attacks} attacks"
)


def estimate_one_run_epsilon(
    plan: Plan, arrays: AuditArrays, rng: np.random.Generator
) -> list[Estimate]:
    """Estimate `epsilon_lower` of each attack that learns nothing from members.

    Empty unless coins were declared.

    Attacks fitted on other records' membership are left out, since the bound's proof wants guesses
    that do not use it. All bounds hold together at the confidence (Bonferroni over different
    rankings). A bound has a lower limit only; `high` repeats the largest value that this many
    guesses could have shown.
    """
    if plan.assignment != "independent_coins":
        return []
    settings = EstimateSettings((), plan.all_priors(), plan.confidence)
    m = len(arrays.member)
    # As many guesses in as out, and at least one of each
    guesses = max(2, 2 * int(m * GUESS_SHARE / 2))
    entries = [entry for entry in arrays.scored if not entry.learned]
    # Attacks with equal rankings make equal guesses, so they count once in the correction
    attacks = max(1, len(find_distinct_rankings([entry.scores for entry in entries])))
    significance = (1 - settings.confidence) / attacks
    most = epsilon_one_run(m, guesses, guesses, significance=significance)
    found = []
    for scored in entries:
        part = build_whole_part(scored, arrays)
        right = count_right_guesses(part.scores, part.member, guesses, rng)
        value = epsilon_one_run(m, guesses, right, significance=significance)
        interval = Interval(
            value,
            value,
            max(most, value),
            METHOD.format(guesses=guesses, right=right, attacks=attacks),
            # Never below the value, whatever rounding does
        )
        found.append(part.estimate("epsilon_lower", interval, settings.confidence))
    return found
