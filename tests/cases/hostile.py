"""Load each file given and ask the model; print what came of it.

Run alone, so that a crash is seen as one.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

from memberscope.errors import MemberscopeError
from memberscope.targets import load_target


def opened(path: Path) -> str:
    """What came of one file."""
    try:
        target = load_target(str(path)).target
        target.query(
            np.random.default_rng(0).integers(0, 5, (50, int(path.stem.rpartition("-")[2])))
        )
        _ = target.digest, target.n_parameters
    except MemberscopeError as error:
        return f"{type(error).__name__}: {error}".replace("\n", " // ")
    except Exception as error:
        return f"a traceback of {type(error).__name__}: {error}".replace("\n", " // ")[:300]
    return "opened"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        print(Path(name).name, opened(Path(name)), sep="\t", flush=True)
