"""Count the audits of one model with one plan.

Many seeds tried until one passes are not one audit that passed.
"""

from __future__ import annotations

import json
from dataclasses import replace

from memberscope._files import read_json, write_bytes
from memberscope.auditing.documents.plan import Plan
from memberscope.signals import Store

FILE = "audits.json"
NAMES = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
)


def count_audit(store: Store, plan: Plan, model: str) -> dict[str, str]:
    """Note a finished audit in the store, and count those of the same model and plan.

    Gives their number and their seeds.

    `model` is a digest of the model or of its answers. The seed and the title are left out of what
    makes plans the same.
    """
    # A broken count must not lose an audit that is finished
    path = store.path / FILE
    try:
        past: list[dict[str, object]] = read_json(path)
        past = [dict(entry) for entry in past]
    except (OSError, ValueError, TypeError):
        past = []
    # Another seed or title makes no other plan, or trying seeds would not show
    own = {"model": model, "plan": replace(plan, seed=0, title="").digest(), "seed": plan.seed}
    past.append(own)
    write_bytes(path, (json.dumps(past, indent=1) + "\n").encode())
    same = [
        entry
        for entry in past
        if (entry.get("model"), entry.get("plan")) == (own["model"], own["plan"])
    ]
    seeds = dict.fromkeys(str(entry.get("seed")) for entry in same)
    return {"audits_of_this_plan": str(len(same)), "seeds_of_these_audits": ", ".join(seeds)}


def describe_repeats(environment: dict[str, str]) -> str | None:
    """Say which audit of this model with this plan it was; None for the first, or uncounted.

    >>> describe_repeats({"audits_of_this_plan": "3", "seeds_of_these_audits": "0, 1, 2"})
    'This is the third audit of this model with this plan; seeds tried: 0, 1, 2.'
    """
    n = int(environment.get("audits_of_this_plan", 1))
    if n < 2:
        return None
    name = NAMES[n - 1] if n <= len(NAMES) else f"{n}th"
    return f"This is the {name} audit of this model with this plan; seeds tried: {environment['seeds_of_these_audits']}."
