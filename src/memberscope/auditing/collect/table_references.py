"""Compare generated tables with the released one.

How near a table's rows come to a record (`measure_output_quality`) shows whether the recipe makes
tables as the released one was made: equally near to records that both were made from, and to records
new to both, and as much nearer to their own.
"""

from __future__ import annotations

from memberscope.auditing.collect.output_references import (
    ALLOWED,
    FITTED,
    SHARE,
    measure_output_fidelity,
    measure_own_quality,
)
from memberscope.auditing.collect.reference_models import References
from memberscope.auditing.collect.training_comparison import (
    TrainingComparison,
    TrainingWords,
    find_other_level,
    run_training_control,
)
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject

RECORDS = {"members": "records that both were made from", "others": "records new to both"}
WORDS = TrainingWords(
    models="generated tables",
    too_weak=f"they come less than {FITTED:g} times as near to their records as the others do",
    mistrained="they were made in another way. Attacks with them say little; give the generator the "
    "settings of the released table.",
    alike="were made like the released one",
    unknown_gain="how much nearer they come to their own records cannot be told from this design",
)


def run_table_reference_control(found: References, subject: Subject, confidence: float) -> Control:
    """Check that enough tables were generated, and generated as the released one was."""
    return run_training_control(
        found,
        subject,
        measure_own_quality(subject, found.observed),
        measure_output_fidelity(found, subject),
        WORDS,
        confidence=confidence,
        explain=explain_other_nearness,
        describe_gains=lambda compared: (
            f"they come nearer to their own records by {compared.reference_gain or 0.0:.3g}, the "
            f"released one by {compared.target_gain or 0.0:.3g} (of one over one plus the distance)"
        ),
    )


def explain_other_nearness(found: TrainingComparison) -> str | None:
    """Say in what generated tables surely differ from the released one; None if in nothing.

    >>> from memberscope.auditing.collect.training_comparison import Difference
    >>> same, less = Difference(0.0, -0.01, 0.01), Difference(0.3, 0.25, 0.35)
    >>> explain_other_nearness(TrainingComparison(same, same, 0.2, 0.2, same)) is None
    True
    >>> explain_other_nearness(TrainingComparison(less, same, 0.2, 0.2, same))
    'come less near than the released one to records that both were made from'
    """
    target = max(found.target_gain or 0.0, 0.0)
    allowed = max(SHARE * target, ALLOWED)
    other = find_other_level(found, allowed)
    if other is not None:
        difference, where = other
        more = "less near" if difference.value > 0 else "nearer"
        return f"come {more} than the released one to {RECORDS[where]}"
    gain = found.gain
    if gain is None or (gain.high >= -allowed and gain.low <= max(target, ALLOWED)):
        return None
    return (
        f"come nearer to their own records by {found.reference_gain or 0.0:.3g}, where the released "
        f"one does by {target:.3g}"
    )
