"""Load weights of torch modules as trainers save them.

They may be inside checkpoints, and under names that training put around them.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets.files.trust import LoadedTarget, TrustSettings
from memberscope.targets.loading.wrap import place_target
from memberscope.targets.torch_modules.wrappers import unwrap_module
from memberscope.types import Target

# Double suffixes are names that some trainers give
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pth.tar", ".pt.tar")

# Where checkpoints keep the weights, the likeliest first
HOLDERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
# Parts of names that wrappers of a module put in
WRAPPERS = (
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
    "_forward_module.",
)
# A second set of weights, which is taken where no other fits
AVERAGES = ("ema", "teacher", "swa", "average")
DEPTH = 3  # levels of nested mappings that are searched
MOST = 50  # names in a message

Named = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FittedWeights:
    """The `weights` under the names of the module, and where they were found.

    `holder` is the key in the file, `prefix` that of their names.
    """

    weights: Named
    holder: str
    prefix: str
    unused: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for a reader of the result."""
        where = f" in {self.holder!r}" if self.holder else ""
        # The plain case, where nothing was chosen, needs no note
        if not self.unused and not any(word in self.holder for word in AVERAGES):
            return ()
        left = (
            f"; left out {len(self.unused)} others: {_join_names(self.unused)}"
            if self.unused
            else ""
        )
        return (f"Took the weights{where} whose names begin with {self.prefix!r}{left}.",)


def is_weights(path: Path) -> bool:
    """Check whether a file is one of torch's by its name.

    >>> is_weights(Path("best.pth.tar")), is_weights(Path("model.onnx"))
    (True, False)
    """
    return path.name.lower().endswith(SUFFIXES)


def load_torch_weights(
    path: Path,
    factory: str | None,
    trust: TrustSettings,
    *,
    build: Callable[[str], Any],
    device: str | None = None,
    outputs: str | None = None,
) -> LoadedTarget:
    """Load a torch module built by `factory` with the weights in a file.

    `build` calls a factory by its name.

    Raises:
        InputError: The file is damaged, there is no factory, or the weights fit another module.
        UnsafeFileError: The file holds other objects than weights, and was not declared safe.
    """
    try:
        from memberscope.targets.torch_modules.target import TorchTarget

        read, notes = _read_weights(path, trust)
    except ImportError as error:
        raise InputError(
            f"Expected torch for this model, got: {error}. Run `pip install memberscope[torch]`."
        ) from error
    # A whole module from a trusted file; a factory, where there is one, goes first
    if not isinstance(read, Mapping) and hasattr(read, "state_dict"):
        if factory is None:
            return LoadedTarget(place_target(TorchTarget(read), device, outputs), notes)
        read = read.state_dict()
    if factory is None:
        raise InputError(
            f"Expected a factory for the weights in {path}, got none. Add --factory "
            "module:function."
        )
    found = build(factory)
    # A factory may return the target itself, for example with outputs declared
    module = found.module if isinstance(found, TorchTarget) else unwrap_module(found)
    if not hasattr(module, "load_state_dict"):
        raise InputError(
            f"Expected {factory} to build a torch module, got {type(module).__name__}. Return the "
            "module."
        )
    fitted = _fit_weights(read, module, path, factory)
    try:
        # Names and shapes were compared before; types and hooks of the module may still fail
        module.load_state_dict(fitted.weights)
    except (AttributeError, RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"Expected weights that fit {factory}, got {path}: {why}. Use the factory that they "
            "were saved from."
        ) from error
    # The factory's own target is kept, with all that it declares
    target: Target = found if isinstance(found, TorchTarget) else TorchTarget(module)
    return LoadedTarget(place_target(target, device, outputs), (*notes, *fitted.notes))


def _read_weights(path: Path, trust: TrustSettings) -> tuple[Any, tuple[str, ...]]:
    """Read what a file of torch or safetensors holds, with notes.

    Nothing in it is run unless it is trusted.

    Raises:
        InputError: It is damaged.
        UnsafeFileError: It holds other objects than weights.
    """
    import torch

    try:
        # This format holds tensors and nothing that could run
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path), ()
        with warnings.catch_warnings():
            # torch remarks on pickle protocols; what matters is whether it refuses
            warnings.simplefilter("ignore")
            # On the CPU, since the device that it was saved from may not exist here
            return torch.load(path, map_location="cpu", weights_only=True), ()
    except pickle.UnpicklingError as error:
        # Refused by torch: only the user's word lets it be opened all the same
        if trust.code:
            return _run_trusted_file(path)
        raise UnsafeFileError(
            f"Expected weights of plain tensors, got {path} with {_objects_in(path)}, which could "
            "run code. Save the weights alone, torch.save(model.state_dict(), 'weights.pt'), and "
            "add --factory module:function; or add --trust-code if you trust the file's origin."
        ) from error
    except Exception as error:
        first = (str(error).splitlines() or [""])[0].split(". ")[0]  # torch adds advice of its own
        raise InputError(
            f"Expected complete torch weights, got {path}: {type(error).__name__}: {first}. Save "
            "them again."
        ) from error


def _run_trusted_file(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Load everything in a trusted file, and note that its code was run."""
    import hashlib

    import torch

    if str(Path.cwd()) not in sys.path:
        # A pickled module names the file that defines its class
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise InputError(
            f"Expected a complete model file, got {path}: {type(error).__name__}: {error}. Put its "
            "code on the path, or save it again."
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return found, (f"Ran the code in {path.name} (SHA-256 {digest}), as --trust-code allowed.",)


def _objects_in(path: Path) -> str:
    """Name what a file holds besides weights, as far as torch lists it."""
    try:
        from torch.serialization import get_unsafe_globals_in_checkpoint

        names = sorted(get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # older files and older versions of torch do not list it
        names = []
    return _join_names(names) if names else "other objects"


def _fit_weights(read: Any, module: Any, path: Path, factory: str) -> FittedWeights:
    """Find the weights of `module` in what a file holds.

    Raises:
        InputError: None fit; what is missing, unexpected or of another shape is named.

    >>> import torch
    >>> linear = torch.nn.Linear(2, 3)
    >>> saved = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in linear.state_dict().items()}}
    >>> sorted(_fit_weights(saved, linear, Path("best.pt"), "mine:net").weights)
    ['bias', 'weight']
    """
    wanted = dict(module.state_dict())
    # The likeliest first, since several sets may fit the module
    sets = sorted(_weight_sets(read), key=lambda entry: _rank_weight_set(entry[0]))
    if not sets:
        kind = (
            f"the keys {_join_names([str(key) for key in read])}"
            if isinstance(read, Mapping)
            else type(read).__name__
        )
        raise InputError(f"Expected weights in {path}, got {kind}. Save model.state_dict().")
    for holder, weights in sets:
        fitted = _fit_names(weights, wanted, holder)
        if fitted is not None:
            return fitted
    # The shortest description is of the set that fits best
    misfits = [_describe_misfit(_strip_wrapper_names(weights), wanted) for _, weights in sets]
    why = min(misfits, key=len)
    raise InputError(
        f"Expected weights that fit {factory}, got {path} with {why}. Use the factory that they "
        "were saved from."
    )


def _weight_sets(read: Any, holder: str = "", depth: int = 0) -> Iterator[tuple[str, Named]]:
    """Yield every mapping of names to tensors in what a file holds, with its key."""
    if hasattr(read, "state_dict") and not isinstance(read, Mapping):
        read = read.state_dict()
    if not isinstance(read, Mapping) or depth > DEPTH:
        return
    tensors = {
        name: value
        for name, value in read.items()
        if isinstance(name, str) and hasattr(value, "untyped_storage")
    }
    # A mapping with anything besides tensors is a holder, not a set of weights
    if tensors and len(tensors) == len(read):
        yield holder, tensors
        return
    for key, part in read.items():
        # The state of an optimiser has tensors of the same shapes as the weights
        if isinstance(key, str) and "optim" not in key.lower():
            yield from _weight_sets(part, f"{holder}.{key}" if holder else key, depth + 1)


def _rank_weight_set(holder: str) -> tuple[bool, int]:
    """Rank sets of weights, the likeliest first."""
    last = holder.rpartition(".")[2]
    place = HOLDERS.index(last) if last in HOLDERS else len(HOLDERS)
    # Averaged weights last: they are taken only where the plain ones do not fit
    return any(word in holder.lower() for word in AVERAGES), place


def _strip_wrapper_names(weights: Named) -> Named:
    """Remove the parts of names that torch.compile and sharding put in."""
    found = {}
    for name, value in weights.items():
        for part in WRAPPERS:
            name = name.replace(part, "")
        found[name] = value
    return found


def _fit_names(weights: Named, wanted: Named, holder: str) -> FittedWeights | None:
    """Fit weights to the module's names, with a common prefix removed or added.

    Give None if they do not fit.
    """
    weights = _strip_wrapper_names(weights)
    if not wanted:
        return None
    # The module's first name, wherever it occurs, shows which prefixes there are
    first = next(iter(wanted))
    prefixes = [name[: -len(first)] for name in weights if name.endswith(first)]
    ends = ("", *[prefix for prefix in prefixes if prefix.endswith(".")])
    # Plain weights before averages, then the shortest prefix
    for prefix in sorted(
        dict.fromkeys(ends), key=lambda text: (any(word in text for word in AVERAGES), len(text))
    ):
        own = {
            name.removeprefix(prefix): value
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        if _is_same(own, wanted):
            unused = tuple(name for name in weights if not name.startswith(prefix))
            return FittedWeights(own, holder, prefix, unused)
    # The module may wrap what was saved, so that its names are longer
    some = next(iter(weights))
    for prefix in dict.fromkeys(name[: -len(some)] for name in wanted if name.endswith(f".{some}")):
        own = {prefix + name: value for name, value in weights.items()}
        if _is_same(own, wanted):
            return FittedWeights(own, holder, "", ())
    return None


def _is_same(own: Named, wanted: Named) -> bool:
    """Check whether names and shapes are those wanted.

    Counters of batches, which old files lack, may be missing.
    """
    # A counter is no weight: it does not change what a trained model answers
    missing = [
        name for name in wanted if name not in own and not name.endswith("num_batches_tracked")
    ]
    if missing or any(name not in wanted for name in own):
        return False
    if any(own[name].shape != wanted[name].shape for name in own):
        return False
    # What was missing comes from the module, since torch refuses an incomplete set
    own.update({name: value for name, value in wanted.items() if name not in own})
    return True


def _describe_misfit(weights: Named, wanted: Named) -> str:
    """Describe what is wrong with weights, with the longest shared prefix removed."""
    heads = {name.split(".")[0] for name in weights}
    # Shared first parts of names would make every name look missing and unexpected
    while (
        len(heads) == 1 and all("." in name for name in weights) and not set(weights) & set(wanted)
    ):
        weights = {name.partition(".")[2]: value for name, value in weights.items()}
        heads = {name.split(".")[0] for name in weights}
    missing = [name for name in wanted if name not in weights]
    others = [name for name in weights if name not in wanted]
    shapes = [
        f"{name} of {tuple(weights[name].shape)} where the module has {tuple(wanted[name].shape)}"
        for name in weights
        if name in wanted and weights[name].shape != wanted[name].shape
    ]
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_join_names(missing)})")
    if others:
        parts.append(f"{len(others)} unexpected ({_join_names(others)})")
    if shapes:
        parts.append(f"{len(shapes)} of another shape ({_join_names(shapes)})")
    return ", ".join(parts)


def _join_names(names: Any) -> str:
    """Join names, at most fifty."""
    every = list(names)
    return ", ".join(every[:MOST]) + (f" and {len(every) - MOST} more" if len(every) > MOST else "")
