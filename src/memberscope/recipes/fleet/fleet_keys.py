"""Name what models answered, and their weights, in the store.

The names are hashes of everything that decides the contents.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from memberscope._digests import digest_array
from memberscope.facts import read_recipe_facts
from memberscope.signals import SignalRequest, digest_records

if TYPE_CHECKING:
    from memberscope.recipes.fleet.fleet import TrainingJob

VERSION = 1


def build_model_keys(order: TrainingJob) -> list[str] | None:
    """Build the store's key of each model.

    It is a hash of recipe, records, membership, seed and what is observed; None if the recipe has
    no digest. Models trained together share each other's membership and seeds in their keys, since
    sums may depend on what else is in a stack.
    """
    digest = read_recipe_facts(order.recipe).digest
    if digest is None:
        return None
    wanted = [_name_wanted_signal(entry) for entry in order.wanted]
    shared = [
        VERSION,
        digest,
        digest_records(order.pool),
        wanted,
        order.views,
        order.signal,
        order.n_classes,
    ]
    shared.append(digest_records(order.population) if order.population else None)
    # Added only where it applies, so that keys of earlier runs without it stay valid
    shared += ["whole"] if order.whole else []
    shared += [order.task, order.tokens_identity] if order.task != "classification" else []
    return ["model-" + name for name in _hash_models(order, shared)]


def _name_wanted_signal(wanted: SignalRequest) -> str:
    """Name a signal, with the digest of its restriction where the name does not say it all."""
    defence = wanted.restriction
    return (
        wanted.name
        if defence is None or defence.digest == defence.name
        else f"{wanted.name} {defence.digest}"
    )


def build_weight_keys(order: TrainingJob) -> list[str] | None:
    """Build the key of each model's weights: like `build_model_keys`, without what is observed."""
    digest = read_recipe_facts(order.recipe).digest
    if digest is None:
        return None
    return [
        "weights-" + name
        for name in _hash_models(order, [VERSION, digest, digest_records(order.pool)])
    ]


def _hash_models(order: TrainingJob, shared: list[Any]) -> list[str]:
    """Hash what all models share, the batch each is trained in, and its place there."""
    found = []
    for batch in order.batches():
        rows = list(batch)
        # All models of the batch: sums may depend on what else is in a stack
        company = [digest_array(order.inside[rows]), [order.seeds[row] for row in rows]]
        for place in range(len(rows)):
            found.append(
                hashlib.sha256(json.dumps([*shared, *company, place]).encode()).hexdigest()
            )
    return found
