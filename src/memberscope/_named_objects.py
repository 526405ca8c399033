"""Import what a user names as `module:name`, such as a recipe or a model's factory."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from memberscope.errors import InputError, MemberscopeError


def import_named(spec: str, what: str) -> Any:
    """Import what `module:name` names, looked up in the working directory first.

    `what` it names is said in errors, such as `function`.

    Raises:
        InputError: The module or the name does not exist, or the module fails.

    >>> import_named("math:pi", "number")
    3.141592653589793
    """
    module, _, name = spec.partition(":")
    # A console script, unlike `python -m`, does not look there
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except MemberscopeError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        advice = "Check both names."
        if module.endswith(".py"):
            plain = ".".join(Path(module.removesuffix(".py")).parts)
            advice = f"Name the module, not its file: {plain}:{name}."
        raise InputError(
            f"Expected an importable module:{what}, got {spec!r}: {error}. {advice}"
        ) from error
    # The module is the user's own code, which may fail in any way
    except Exception as error:
        raise InputError(
            f"Expected the module of {spec!r} to import, got {type(error).__name__}: {error}. "
            "Import it yourself to see why."
        ) from error
