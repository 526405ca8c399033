"""What is written and read: plan, policy, result, diagnostics, access levels and comparison."""

from memberscope.auditing.documents.access_levels import format_level
from memberscope.auditing.documents.comparison import (
    Baseline,
    Compared,
    Release,
    TrendPoint,
    ValueWithLimits,
)
from memberscope.auditing.documents.diagnostics import (
    DetectableRate,
    Diagnostics,
    ExtractionSummary,
    LeadingAttack,
    MeasuredValue,
    MissingHalves,
    ModelDescription,
    TargetSpread,
    TargetsSummary,
)
from memberscope.auditing.documents.plan_document import CustomDocument
from memberscope.auditing.documents.policy import (
    EXAMPLES,
    KINDS,
    AnyClaim,
    AucClaim,
    Claim,
    EpsilonClaim,
    PpvClaim,
)
from memberscope.auditing.documents.result import FORMAT

__all__ = [
    "AnyClaim",
    "AucClaim",
    "Claim",
    "PpvClaim",
    "Baseline",
    "Compared",
    "CustomDocument",
    "DetectableRate",
    "Diagnostics",
    "EXAMPLES",
    "EpsilonClaim",
    "FORMAT",
    "KINDS",
    "LeadingAttack",
    "MeasuredValue",
    "MissingHalves",
    "ModelDescription",
    "Release",
    "TargetSpread",
    "ExtractionSummary",
    "TargetsSummary",
    "TrendPoint",
    "ValueWithLimits",
    "format_level",
]
