"""`memberscope guard init` and `fit`: a policy from an audit, and its fitted defences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_option
from memberscope.cli.output import print_line
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.types import Bools, Floats


@dataclass(frozen=True)
class GuardInitOptions:
    """The options of `guard init`."""

    source: Path = add_option(
        "Folder or result.json of an audit, or frontier.json of a sweep.", flag="--from"
    )
    out: Path = add_option("The file to write.", default=Path("guard.toml"))
    config: Path | None = add_option(
        "The audit.toml of the audit of a server, whose [target] has the body of requests; needed only "
        "where that holds texts of its own, which results do not keep.",
        default=None,
    )
    force: bool = add_option("Replace an existing file.", default=False)
    accept_limited: bool = add_option(
        "Do without the reference models that the policy requires.", default=False
    )


@dataclass(frozen=True)
class FitOptions:
    """The options of `guard fit`."""

    policy: Path = add_option("The policy, guard.toml; its `fitted` names the file to write.")
    outputs: Path = add_option(
        "NPZ of the served model's answers: outputs (n, k), member (n), and for hamp_output random "
        "(r, k)."
    )
    force: bool = add_option("Replace an existing file.", default=False)


@take_options(GuardInitOptions)
def write_guard_policy(options: GuardInitOptions) -> None:
    """Write the least restrictive policy that the audit shows to be safe, and its key file.

    Exit 1 if none is, 3 if that is open.
    """
    from memberscope._files import write_bytes
    from memberscope.guard.hashing import create_key_file
    from memberscope.policygen import choose_served_outputs, draft_policy, read_evidence

    source, out = options.source, options.out
    if out.exists() and not options.force:
        raise InputError(
            f"Expected a new file, got {str(out)!r}, which is there. Choose another name or add "
            "--force."
        )
    key = out.with_suffix(".key")
    if key == out:
        raise InputError(
            f"Expected another name for the policy, got {str(out)!r}, which is the name of its key "
            "file. Write --out guard.toml."
        )
    evidence = read_evidence(source, accept_limited=options.accept_limited)
    choice = choose_served_outputs(evidence)
    if choice.candidate is None:
        print_line(f"No policy was written. {choice.sentence}")
        raise typer.Exit(choice.code)
    folder = source if source.is_dir() else source.parent
    template = None if options.config is None else _read_request_template(options.config)
    draft = draft_policy(evidence, choice.candidate, folder, key=key.name, template=template)
    # A key that is there is kept: noise by another one could be averaged with what it gave
    fresh = create_key_file(key)
    # A template may hold a secret
    write_bytes(out, draft.encode(), mode=0o644 if template is None else 0o600)
    print_line(f"{choice.sentence} Written to {out}.")
    print_line(
        f"{'Its key' if fresh else 'Its key, which was there,'} is in {key}: keep it secret."
    )
    for note in evidence.notes:
        print_line(note)
    if not evidence.endpoint:
        print_line(
            "Edit [serving]: the audit did not ask a server, so it does not know how yours is "
            "asked."
        )


def _read_request_template(config: Path) -> str:
    """Read the body of requests in the [target] of `audit.toml`.

    Raises:
        InputError: The file cannot be read, or names none.
    """
    import tomllib

    try:
        body = tomllib.loads(config.read_text(encoding="utf-8")).get("target", {}).get("body")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"Expected the configuration of an audit, got {str(config)!r}, which cannot be read as "
            "one. Check --config."
        ) from error
    if not isinstance(body, str):
        raise InputError(
            f"Expected body in [target] of {str(config)!r}, got none. Give the file that the audit "
            "was run with."
        )
    return body


@take_options(FitOptions)
def fit_guard_defences(options: FitOptions) -> None:
    """Fit the policy's memguard and hamp_output to the served model's answers."""
    from memberscope.guard import build_keyed_defence, read_policy
    from memberscope.outputs import fit_parts, has_fittable_part, parse_restriction, save_fitted

    policy = options.policy
    declared = read_policy(policy)
    allowed = [*declared.clients, declared.default]
    every = dict.fromkeys([*(entry.restrict for entry in allowed), declared.respond.coarsen])
    names = [
        name for name in every if name != "none" and has_fittable_part(parse_restriction(name))
    ]
    if not names:
        raise InputError(
            f"Expected memguard or hamp_output in {str(policy)!r}, got neither. Nothing else is "
            "fitted."
        )
    if declared.fitted is None:
        raise InputError(
            f'Expected the file to write in {str(policy)!r}, got none. Add fitted = "fitted.safetensors" at its top.'
        )
    path = declared.path(declared.fitted)
    if path.exists() and not options.force:
        raise InputError(
            f"Expected a new file, got {str(path)!r}, which is there. Change fitted, or add "
            "--force."
        )
    found, member, random = _read_answer_arrays(options.outputs)
    serving = declared.serving
    n_classes = len(serving.classes) if serving.classes else serving.n_classes
    if n_classes is not None and found.shape[1:] != (n_classes,):
        raise InputError(
            f"Expected outputs of {n_classes} classes as in [serving], got shape {found.shape}. "
            "Correct one of them."
        )
    kept = save_fitted(
        [fit_parts(build_keyed_defence(declared, name), found, member, random) for name in names],
        path,
    )
    print_line(f"Fitted {', '.join(kept)} to {len(found)} answers. Written to {path}.")


def _read_answer_arrays(file: Path) -> tuple[Floats, Bools, Floats | None]:
    """Read answers (n, k), who is a member (n), and answers about random inputs (r, k) if any.

    Raises:
        InputError: The file is no NPZ with them, or they are no probabilities.
    """
    import zipfile

    import numpy as np

    from memberscope.targets import check_archive

    try:
        # Before numpy reads anything: a small archive can inflate to fill the memory
        check_archive(file)
        with np.load(file, allow_pickle=False) as opened:
            found: dict[str, Any] = {
                name: opened[name]
                for name in ("outputs", "member", "random")
                if name in opened.files
            }
        outputs, member = (
            np.asarray(found["outputs"], dtype=np.float64),
            np.asarray(found["member"]),
        )
        random = np.asarray(found["random"], dtype=np.float64) if "random" in found else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected an NPZ with outputs and member, got {str(file)!r}: {error}. Write it with "
            "numpy.savez."
        ) from error
    if not np.isin(member, (0, 1)).all():
        raise InputError(
            "Expected member of zeros and ones, got other values. Write 1 for records that trained "
            "the model."
        )
    for name, values in (("outputs", outputs), ("random", random)):
        if values is not None and not _has_probability_rows(values):
            raise InputError(
                f"Expected probabilities (n, k) as {name}, got shape {values.shape} or rows that "
                "do not sum to 1."
            )
    return outputs, member.astype(bool), random


def _has_probability_rows(values: Floats) -> bool:
    """Tell whether rows (n, k) are probabilities."""
    import numpy as np

    return bool(
        values.ndim == 2
        and len(values)
        and (values >= 0).all()
        and np.allclose(values.sum(axis=1), 1, atol=1e-3)
    )
