"""Keep the weights of reference models, if asked for.

Another signal can then be observed later without training again.

scikit-learn models are kept as skops files, torch modules as safetensors; neither runs code when it
is opened.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._files import write_bytes
from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts
from memberscope.signals import Store
from memberscope.targets import SklearnOutputsTarget, SklearnTarget, TorchTarget, wrap
from memberscope.types import Recipe, Target

SKOPS = "skops"


def export_weights(recipe: Recipe, model: Target) -> dict[str, NDArray[Any]]:
    """Export what has to be kept of a model.

    These are the bytes of a skops file, or the arrays of a state dict by name.

    Raises:
        InputError: It is neither a scikit-learn model of known types nor a torch module.
    """
    # Arrays alone: the code of the module comes from the recipe
    if isinstance(model, TorchTarget):
        return {
            name: _convert_state_tensor(value) for name, value in model.module.state_dict().items()
        }
    if not isinstance(model, SklearnTarget | SklearnOutputsTarget):
        raise InputError(
            "Expected scikit-learn models or torch modules for --keep-weights, got "
            f"{type(model).__name__}. Leave --keep-weights out."
        )
    from skops.io import dumps, get_untrusted_types

    data = dumps(model.estimator)
    # Checked now, since a file that cannot be opened again would be of no use
    unknown = sorted(_find_foreign_types(get_untrusted_types(data=data), recipe))
    if unknown:
        raise InputError(
            "Expected models of types that skops knows for --keep-weights, got "
            f"{', '.join(unknown)}. Leave --keep-weights out."
        )
    return {SKOPS: np.frombuffer(data, dtype=np.uint8)}


def _find_foreign_types(types: list[str], recipe: Recipe) -> set[str]:
    """Find the types that neither scikit-learn nor the user's own estimator brings.

    scikit-learn defines some itself, such as the trees of a forest.
    """
    from skops.io import dumps, get_untrusted_types

    estimator = read_recipe_facts(recipe).estimator
    own = set() if estimator is None else set(get_untrusted_types(data=dumps(estimator)))
    return {name for name in types if not name.startswith("sklearn.")} - own


def _convert_state_tensor(tensor: Any) -> NDArray[Any]:
    """Convert a tensor to what numpy can hold.

    Half precision, part of which numpy lacks, becomes float32, which holds it exactly.
    """
    value = tensor.detach().cpu()
    return np.asarray(
        (value.float() if value.is_floating_point() and value.element_size() < 4 else value).numpy()
    )


def write_weights(store: Store, key: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a model's weights under `key`, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    # A skops file is kept as it is, so that skops itself can check it again
    if SKOPS in arrays:
        write_bytes(store.path / f"{key}.skops", arrays[SKOPS].tobytes())
    else:
        store.put_all(key, arrays)


def is_kept(store: Store, key: str) -> bool:
    """Check whether there is a file of weights under `key`.

    Whether it is complete shows when it is opened.
    """
    return any((store.path / f"{key}.{suffix}").is_file() for suffix in (SKOPS, "safetensors"))


def load_kept_model(store: Store, key: str, recipe: Recipe) -> Target | None:
    """Load the model whose weights are under `key`.

    Give None if they are missing, damaged, or of another kind than the recipe's.
    """
    file = store.path / f"{key}.{SKOPS}"
    if file.is_file():
        return _load_skops_model(file.read_bytes(), recipe)
    facts, arrays = read_recipe_facts(recipe), store.get_all(key)
    build = facts.built or facts.model
    return (
        None if arrays is None or build is None else _load_state_model(build, arrays, facts.device)
    )


def _load_skops_model(data: bytes, recipe: Recipe) -> Target | None:
    """Load a model from a skops file.

    Give None if it is damaged or holds types that its recipe does not bring.
    """
    from skops.io import get_untrusted_types, loads

    try:
        unknown = get_untrusted_types(data=data)
        if _find_foreign_types(unknown, recipe):
            return None
        return wrap(loads(data, trusted=unknown))
    # Whatever a damaged archive raises: the model is trained again, which is always safe
    except Exception:
        return None


def _load_state_model(build: Any, arrays: dict[str, NDArray[Any]], device: str) -> Target | None:
    """Build the module of `build()` with these weights; None if they are another module's."""
    import torch

    module = build()
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    # By size, since numpy stores a scalar in another shape
    if set(shapes) != set(arrays) or any(
        arrays[name].size != int(np.prod(shape)) for name, shape in shapes.items()
    ):
        return None
    state = {name: torch.from_numpy(arrays[name].copy()).reshape(shapes[name]) for name in shapes}
    # A module is built in float32, whatever it was trained in
    if any(value.dtype == torch.float64 for value in state.values()):
        module = module.double()
    module.load_state_dict(state)
    return TorchTarget(module.eval(), device=device)
