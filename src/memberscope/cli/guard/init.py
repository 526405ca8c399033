"""`memberscope guard init` and `guard fit`.

A policy from what an audit measured, and the defences in it that are fitted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.types import Bools, Floats


def write_guard_policy(
    source: Annotated[
        Path,
        typer.Option(
            "--from", help="Folder or result.json of an audit, or frontier.json of a sweep."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("guard.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    accept_limited: Annotated[
        bool,
        typer.Option(
            "--accept-limited", help="Do without the reference models that the policy requires."
        ),
    ] = False,
) -> None:
    """Write the least restrictive policy that the audit shows to be safe.

    Exit 1 if none is, 3 if that is open.
    """
    from memberscope._files import write_bytes
    from memberscope.policygen import choose_served_outputs, draft_policy, read_evidence

    if out.exists() and not force:
        raise InputError(
            f"Expected a new file, got {str(out)!r}, which is there. Choose another name or add "
            "--force."
        )
    evidence = read_evidence(source, accept_limited=accept_limited)
    choice = choose_served_outputs(evidence)
    if choice.candidate is None:
        typer.echo(f"No policy was written. {choice.sentence}")
        raise typer.Exit(choice.code)
    folder = source if source.is_dir() else source.parent
    write_bytes(out, draft_policy(evidence, choice.candidate, folder).encode())
    typer.echo(f"{choice.sentence} Written to {out}.")
    for note in evidence.notes:
        typer.echo(note)
    if not evidence.endpoint:
        typer.echo(
            "Edit [serving]: the audit did not ask a server, so it does not know how yours is "
            "asked."
        )


def fit_guard_defences(
    policy: Annotated[Path, typer.Option(help="guard.toml; its `fitted` names the file to write.")],
    outputs: Annotated[
        Path,
        typer.Option(
            help="NPZ of the served model's answers: outputs (n, k), member (n), and for hamp_output random (r, k)."
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Fit the policy's memguard and hamp_output to the served model's answers."""
    from memberscope.guard import read_policy
    from memberscope.outputs import fit_parts, has_fittable_part, parse_restriction, save_fitted

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
    if path.exists() and not force:
        raise InputError(
            f"Expected a new file, got {str(path)!r}, which is there. Change fitted, or add "
            "--force."
        )
    found, member, random = _read_answer_arrays(outputs)
    serving = declared.serving
    n_classes = len(serving.classes) if serving.classes else serving.n_classes
    if n_classes is not None and found.shape[1:] != (n_classes,):
        raise InputError(
            f"Expected outputs of {n_classes} classes as in [serving], got shape {found.shape}. "
            "Repair one of them."
        )
    kept = save_fitted(
        [fit_parts(parse_restriction(name), found, member, random) for name in names], path
    )
    typer.echo(f"Fitted {', '.join(kept)} to {len(found)} answers. Written to {path}.")


def _read_answer_arrays(file: Path) -> tuple[Floats, Bools, Floats | None]:
    """Answers (n, k), who is a member (n), and answers about random inputs (r.

    K) if they are there.

    Raises:
        InputError: The file is no NPZ with them, or they are no probabilities.
    """
    import zipfile

    import numpy as np

    try:
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
    """Whether rows (n, k) are probabilities."""
    import numpy as np

    return bool(
        values.ndim == 2
        and len(values)
        and (values >= 0).all()
        and np.allclose(values.sum(axis=1), 1, atol=1e-3)
    )
