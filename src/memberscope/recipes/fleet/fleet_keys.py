"""Under which names the store keeps what models answered, and their weights.

Hashes of everything that decides them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from memberscope._digests import digest_array
from memberscope.signals import digest_records

if TYPE_CHECKING:
    from memberscope.recipes.fleet.fleet import TrainingJob

VERSION = 1


def build_model_keys(order: TrainingJob) -> list[str] | None:
    """The store's key of each model.

    A hash of recipe, records, membership, seed and what is observed; None without one.

    Models trained together share each other's membership and seeds in their keys, since sums may
    depend on the company.
    """
    digest = getattr(order.recipe, "digest", None)
    if digest is None:
        return None
    wanted = [entry.name for entry in order.wanted]
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
    shared += ["whole"] if order.whole else []
    return ["model-" + name for name in _hash_models(order, shared)]


def build_weight_keys(order: TrainingJob) -> list[str] | None:
    """The key of each model's weights: like `keys`, without what is observed of it."""
    digest = getattr(order.recipe, "digest", None)
    if digest is None:
        return None
    return [
        "weights-" + name
        for name in _hash_models(order, [VERSION, digest, digest_records(order.pool)])
    ]


def _hash_models(order: TrainingJob, shared: list[Any]) -> list[str]:
    """Hash of what all models share, of the company each is trained in, and of its place there."""
    found = []
    for batch in order.batches():
        rows = list(batch)
        company = [digest_array(order.inside[rows]), [order.seeds[row] for row in rows]]
        for place in range(len(rows)):
            found.append(
                hashlib.sha256(json.dumps([*shared, *company, place]).encode()).hexdigest()
            )
    return found
