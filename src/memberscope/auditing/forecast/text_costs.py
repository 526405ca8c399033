"""What reference fine-tunes of a language model cost, and what they are known to buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.forecast.time_model import Timings
from memberscope.auditing.subject.subject import Subject
from memberscope.facts import read_recipe_facts, read_target_facts

FLEETS = (2, 4, 8)
# What `benchmarks/text_finetunes.py` prints
KNOWN = (
    "on a small model that was fine-tuned for four epochs, two of them raised the members found at "
    "1% false positives from 4% with the base model alone to 93%, four to 94%, and after one epoch "
    "from 3% to 33%"
)


@dataclass(frozen=True)
class ReferenceCost:
    """What so many reference fine-tunes of a language model cost; None where it is not known.

    Attributes:
        n_models: Reference models.
        requests: Texts that they are asked about.
        asked_tokens: Tokens of these texts.
        trained_tokens: Tokens read while training, all epochs together.
        minutes: Minutes to train and ask them on this machine.
        money: Price of all tokens, where a price a token was given.
    """

    n_models: int
    requests: int
    asked_tokens: int | None
    trained_tokens: int | None
    minutes: float | None
    money: float | None


def forecast_reference_costs(
    subject: Subject,
    training: Training | None,
    size: int,
    timings: Timings,
    at_once: int,
    price: float | None = None,
) -> list[ReferenceCost]:
    """Forecast what 2, 4 and 8 reference fine-tunes on `size` records cost.

    `at_once` models are trained at a time and `price` is that of a token. Nothing is asked or
    trained; empty where the target is no language model or the texts are not there.
    """
    records, facts = subject.records, read_target_facts(subject.target)
    if facts.task != "text" or records.x is None:
        return []
    n = len(records)
    read = None if facts.count_tokens is None else int(np.sum(facts.count_tokens(records.x)))
    count = None if training is None else read_recipe_facts(training.recipe).count_tokens
    # A model is trained on a part of the audited records, drawn at random
    learned = None if count is None else round(count(records) * size / n)
    seconds = None
    if timings.model is not None:
        asked = (timings.question or 0.0) + (timings.record or 0.0) * n
        seconds = timings.model + asked

    def cost(m: int) -> ReferenceCost:
        tokens = None if read is None or learned is None else m * (read + learned)
        return ReferenceCost(
            n_models=m,
            requests=m * n,
            asked_tokens=None if read is None else m * read,
            trained_tokens=None if learned is None else m * learned,
            # The last ones of a fleet do not fill all places
            minutes=None if seconds is None else -(-m // at_once) * seconds / 60,
            money=None if tokens is None or price is None else tokens * price,
        )

    return [cost(m) for m in FLEETS]


def describe_reference_costs(costs: Sequence[ReferenceCost]) -> list[str]:
    """Describe what each number of reference fine-tunes costs and is known to buy.

    >>> print(describe_reference_costs([ReferenceCost(2, 200, 10_000, 40_000, 1.5, None)])[0])
    2 reference fine-tunes cost about 1.5 minutes here, 40,000 tokens to train on and 10,000 to read for 200 questions
    """
    lines = [f"{cost.n_models} reference fine-tunes cost {_describe_cost(cost)}" for cost in costs]
    return [*lines, KNOWN] if lines else []


def describe_missing_references(costs: Sequence[ReferenceCost]) -> str:
    """Describe what an audit without reference fine-tunes leaves out, and what two would cost.

    For the first lines of a result. `costs` are those of `forecast_reference_costs`.

    >>> describe_missing_references([]).split(":")[0]
    'No reference fine-tune was trained, so leakage is likely understated'
    """
    two = next((cost for cost in costs if cost.n_models == 2), None)
    spent = "" if two is None else f" Two cost {_describe_cost(two)}."
    return (
        f"No reference fine-tune was trained, so leakage is likely understated: {KNOWN}.{spent} "
        "Give --recipe."
    )


def _describe_cost(cost: ReferenceCost) -> str:
    """Describe the cost of some reference fine-tunes, as the end of a sentence."""
    parts = []
    if cost.minutes is not None:
        parts.append(f"about {cost.minutes:.1f} minutes here")
    if cost.trained_tokens is not None:
        parts.append(f"{cost.trained_tokens:,} tokens to train on")
    if cost.asked_tokens is not None:
        of = " tokens" if cost.trained_tokens is None else ""
        parts.append(f"{cost.asked_tokens:,}{of} to read for {cost.requests:,} questions")
    else:
        parts.append(f"{cost.requests:,} questions")
    text = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return text if cost.money is None else f"{text}: {cost.money:,.2f} at the price given"
