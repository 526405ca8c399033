"""Record what a result was made from and with: content hashes, versions, platform."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from importlib.metadata import version

from memberscope._digests import digest_array
from memberscope.auditing.collect.collect import Collected
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.documents.plan import Plan
from memberscope.facts import read_recipe_facts
from memberscope.signals import digest_records


def digest_inputs(plan: Plan, got: Collected, training: Training | None = None) -> dict[str, str]:
    """Hash the contents that tie the result to its inputs."""
    found = {
        "plan": plan.digest(),
        "records": digest_records(got.subject.records),
        "outputs": digest_array(got.observed.outputs),
    }
    # A model whose outputs depend on more than can be known has no digest
    model = got.subject.target.digest
    if model:
        found["target"] = model
    stored = got.subject.stored_references
    if stored is not None:
        # Model by model, which copies no more than one at a time
        models = "\n".join(digest_array(outputs) for outputs in stored.outputs)
        found["references"] = hashlib.sha256(models.encode()).hexdigest()
        found["design"] = digest_array(stored.inside)
    if training is not None:
        recipe = read_recipe_facts(training.recipe).digest
        if recipe:
            found["recipe"] = recipe
        if training.design is not None:
            found["design"] = digest_array(training.design)
        if training.population is not None:
            found["population"] = digest_records(training.population)
    return found


def collect_environment() -> dict[str, str]:
    """Collect the date (UTC), and the versions that the last digits of numbers may depend on."""
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    for name in ("numpy", "scipy", "scikit-learn"):
        found[name] = version(name)
    return found
