"""`memberscope guard keys`: draw a new key without losing budgets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_option
from memberscope.cli.output import print_line
from memberscope.errors import InputError

DAY = 86400.0


@dataclass(frozen=True)
class RotateOptions:
    """The options of `guard keys rotate`."""

    policy: Path = add_option("The policy, guard.toml; its [monitor] names the key file.")
    models: tuple[Path, ...] | None = add_option(
        "The policy of a further model with the same key file; again for more.",
        default=None,
        is_repeated=True,
        flag="--model",
    )


@take_options(RotateOptions)
def rotate_guard_keys(options: RotateOptions) -> None:
    """Draw a new key for clients and records; budgets of the old one are kept until they are full.

    Where there is no key file, it is made.
    """
    import os
    import time

    from memberscope.guard import read_policy
    from memberscope.guard.hashing import (
        RESTART,
        Secret,
        read_secrets,
        rotate_secrets,
        write_secrets,
    )
    from memberscope.guard.monitor import find_monitor_secret

    policy = read_policy(options.policy)
    if policy.monitor.key is None:
        raise InputError(
            f"Expected the key file as key in [monitor] of {str(options.policy)!r}, got none. A "
            "guard without one draws a key at each start."
        )
    path = policy.path(policy.monitor.key)
    others = [read_policy(file) for file in options.models or ()]
    for other, file in zip(others, options.models or (), strict=True):
        named = other.monitor.key
        if named is None or other.path(named).resolve() != path.resolve():
            raise InputError(
                f"Expected {str(path)!r} as key in [monitor] of {str(file)!r}, got another file or "
                "none. Rotate the key of that model by itself."
            )
    # Also where a name is too long, or a folder on the way is closed
    if not os.access(path, os.F_OK):
        first = Secret.new()
        write_secrets(path, [first])
        print_line(f"Drew the first key, {first.id}. Written to {path}.")
        return
    sketch = policy.monitor.sketch
    made = sketch is not None and policy.path(sketch).is_file()
    in_use = find_monitor_secret(policy).id if made else ""
    # The file is one, so that the longest budget of all models decides
    seconds = max(entry.longest_refill for entry in (policy, *others))
    before = read_secrets(path)
    after = rotate_secrets(before, time.time(), keep_seconds=seconds, in_use=in_use)
    write_secrets(path, after)
    print_line(
        f"The key {after[-1].id} took the place of {before[-1].id}, by which budgets are still "
        f"looked up for {(seconds + RESTART) / DAY:g} days. Start every guard that reads the file "
        f"again within {RESTART / DAY:g} days."
    )
    if in_use:
        print_line(
            f"The sketch and the fingerprints are still those of the key {in_use}: make them anew "
            "with memberscope guard prepare, and thresholds with memberscope guard tune."
        )
