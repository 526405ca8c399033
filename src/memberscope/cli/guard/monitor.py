"""`memberscope guard prepare`, `tune` and `replay`: set the monitor up, and look at a log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.guard import GuardPolicy
    from memberscope.guard.hashing import Secret
    from memberscope.guard.monitor import MonitorArtifacts
    from memberscope.guard.replay import Log
    from memberscope.wire import Batch


POLICY_HELP = "The policy, guard.toml; its [monitor] names the files."


@dataclass(frozen=True)
class PrepareOptions:
    """The options of `guard prepare`."""

    policy: Path = add_option(POLICY_HELP)
    population: Path = add_option(
        "Ordinary records as clients send them, nobody's in particular (.csv, .npz, .parquet)."
    )
    members: Path | None = add_option("The training set, to fingerprint.", default=None)
    honey: Path | None = add_option("Records that nobody has a reason to ask about.", default=None)
    drop: tuple[str, ...] | None = add_option(
        "A column that clients do not send, such as the label; again for more.",
        default=None,
        is_repeated=True,
    )
    false_rate: float = add_option(
        "Share of foreign records that share a member's fingerprint.", default=0.001
    )
    rotate: bool = add_option("Draw a new key; everything is made anew with it.", default=False)


@dataclass(frozen=True)
class TuneOptions:
    """The options of `guard tune`."""

    log: tuple[Path, ...] = add_argument(
        "Access logs without attacks: a guard's, or JSON lines or Parquet with request and answer."
    )
    policy: Path = add_option(POLICY_HELP)
    rate: float = add_option(
        "False alarms a client-day, over all detectors together.", default=0.001
    )


@dataclass(frozen=True)
class ReplayOptions:
    """The options of `guard replay`."""

    log: tuple[Path, ...] = add_argument(
        "Access logs: a guard's, or JSON lines or Parquet with request and answer."
    )
    policy: Path = add_option(POLICY_HELP)
    out: Path = add_option(
        "The folder for campaigns.html and replay.json.", default=Path("memberscope-replay")
    )


@take_options(PrepareOptions)
def prepare_monitor(options: PrepareOptions) -> None:
    """Make the key, the sketch, and salted fingerprints of the training set."""
    from memberscope.guard import read_policy
    from memberscope.guard.hashing import write_secrets
    from memberscope.guard.sketching import (
        Fingerprints,
        Sketcher,
        write_fingerprints,
        write_sketcher,
    )

    policy, members, honey, drop = (
        options.policy,
        options.members,
        options.honey,
        options.drop,
    )
    declared = read_policy(policy)
    watch = declared.monitor
    if (
        watch.key is None
        or watch.sketch is None
        or (members is not None and watch.fingerprints is None)
    ):
        wanted = "key, sketch" + (" and fingerprints" if members is not None else "")
        raise InputError(
            f"Expected the files to write as {wanted} in [monitor] of {str(policy)!r}, got none. "
            "Name them there."
        )
    if honey is not None and members is None:
        raise InputError("Expected --members beside --honey, got none. Both are kept in one file.")
    secrets = _extend_secrets(declared, options.rotate)
    secret = secrets[-1]
    sketcher = Sketcher.fit(
        watch.kind,
        _read_batch(options.population, declared, drop),
        secret,
        watch.shape,
        declared.serving.form,
    )
    found = None
    if members is not None:
        inside = sketcher.records(_read_batch(members, declared, drop))
        planted = (
            inside[:0] if honey is None else sketcher.records(_read_batch(honey, declared, drop))
        )
        found = Fingerprints.of(inside, planted, secret.id, options.false_rate)
    write_secrets(declared.path(watch.key), secrets)
    write_sketcher(declared.path(watch.sketch), sketcher)
    print_line(
        f"Sketch of {watch.kind} records with the key {secret.id}; near-duplicates lie within "
        f"{sketcher.radius:.3g}."
    )
    if found is not None:
        write_fingerprints(declared.path(str(watch.fingerprints)), found)
        print_line(
            f"{len(found.members)} fingerprints, {len(found.honey)} of honey records. Keep them "
            "apart from the key."
        )


@take_options(TuneOptions)
def tune_monitor(options: TuneOptions) -> None:
    """Find thresholds with a stated false-alarm rate on a benign log."""
    from memberscope.guard.calibration import tune_detectors as tuned_on
    from memberscope.guard.calibration import write_tuned
    from memberscope.guard.replay import Log, list_log_files

    policy, rate = options.policy, options.rate
    declared, equipment = _read_monitor_setup(policy)
    if declared.monitor.tuned is None:
        raise InputError(
            f"Expected the file to write as tuned in [monitor] of {str(policy)!r}, got none. Name "
            "it there."
        )
    blocks = Log(list_log_files([*options.log]), declared, equipment.sketcher)
    try:
        found = tuned_on(
            blocks, equipment.fingerprints, radius=equipment.sketcher.radius, rate=rate
        )
    except InputError:
        _describe_skipped_lines(blocks, 0, equipment.secret)
        raise
    found = replace(found, key=equipment.secret.id)
    write_tuned(declared.path(declared.monitor.tuned), found)
    print_line(
        f"{found.queries} queries, {found.client_days} client-days"
        + _describe_skipped_lines(blocks, found.queries, equipment.secret)
        + ". "
        f"On its last quarter: {found.alarms} alarms in {found.days} client-days, a rate within "
        f"[{found.low:.2g}, {found.high:.2g}] "
        f"(95%), for {rate:g} asked."
    )


@take_options(ReplayOptions)
def replay_logs(options: ReplayOptions) -> None:
    """Look at a log as the live monitor would.

    Exit 1 where it finds campaigns, 3 without thresholds.
    """
    from memberscope.guard.replay import (
        Log,
        build_fresh_monitor,
        build_replay,
        collect_alarms,
        list_log_files,
        write_replay,
    )

    out = options.out
    declared, equipment = _read_monitor_setup(options.policy)
    paths = list_log_files([*options.log])
    blocks = Log(paths, declared, equipment.sketcher)
    alarms, counted = collect_alarms(build_fresh_monitor(equipment, declared), blocks)
    told = _describe_skipped_lines(blocks, sum(counted.queries.values()), equipment.secret)
    if not counted.queries:
        raise InputError(
            f"Expected queries in {str(options.log[0])!r}, got none in {blocks.lines} lines. Check the log "
            "and the policy."
        )
    found = build_replay(paths[-1].name, alarms, counted, declared, equipment.tuned)
    write_replay(found.model_copy(update={"skipped": blocks.skipped}), out)
    print_line(f"{found.verdict()}{told}. Written to {out / 'campaigns.html'}")
    if equipment.tuned is None:
        print_line("No thresholds, so nothing could alarm. Find them with memberscope guard tune.")
        raise typer.Exit(3)
    raise typer.Exit(1 if found.campaigns else 0)


def _read_monitor_setup(path: Path) -> tuple[GuardPolicy, MonitorArtifacts]:
    """Read the policy and the files that its monitor works with.

    Raises:
        InputError: The monitor is not set up.
    """
    from memberscope.guard import read_policy
    from memberscope.guard.monitor import has_monitor, load_monitor_artifacts

    declared = read_policy(path)
    missing = (
        declared.monitor.tuned is not None and not declared.path(declared.monitor.tuned).is_file()
    )
    usable = (
        declared.model_copy(update={"monitor": declared.monitor.model_copy(update={"tuned": None})})
        if missing
        else declared
    )
    if not has_monitor(usable):
        raise InputError(
            f"Expected key and sketch in [monitor] of {str(path)!r}, got none. See memberscope "
            "guard prepare."
        )
    return declared, load_monitor_artifacts(usable)


def _extend_secrets(policy: GuardPolicy, rotate: bool) -> list[Secret]:
    """Read the secrets of a key file, with a fresh one at the end if there is none or to `rotate`.

    Nothing is written.
    """
    import time

    from memberscope.guard.hashing import Secret, read_secrets, rotate_secrets

    path = policy.path(str(policy.monitor.key))
    if not path.is_file():
        return [Secret.new()]
    kept = read_secrets(path)
    if not rotate:
        return kept
    return rotate_secrets(kept, time.time(), keep_seconds=policy.longest_refill)


def _describe_skipped_lines(blocks: Log, queries: int, secret: Secret) -> str:
    """Say how many lines were made with another key, or could not be read.

    Raises:
        InputError: All were made with another key.
    """
    if blocks.foreign and not queries:
        raise InputError(
            f"Expected a log made with the key {secret.id} by this version, got {blocks.foreign} "
            "lines of another. Take a log from after the key was made."
        )
    told = (
        (blocks.skipped, "lines left out"),
        (blocks.foreign, "lines of another key or version left out"),
        (blocks.unreadable, "records without a sketch"),
    )
    return "".join(f", {n} {words}" for n, words in told if n)


def _read_batch(path: Path, policy: GuardPolicy, drop: tuple[str, ...] | None) -> Batch:
    """Read the records of a table as clients send them.

    Raises:
        InputError: The file is not usable, or a column to drop is not there.
    """
    from memberscope.frames import is_frame
    from memberscope.targets import TableLayout
    from memberscope.targets.tables import build_model_inputs, is_numeric_column, read_table
    from memberscope.wire import build_request_batch

    table = read_table(path).columns
    missing = [name for name in drop or [] if name not in table]
    if missing:
        raise InputError(
            f"Expected a column {missing[0]!r} in {str(path)!r} to drop, got none. Correct --drop."
        )
    names = [name for name in policy.serving.columns or table if name not in (drop or [])]
    absent = [name for name in names if name not in table]
    if absent:
        raise InputError(
            f"Expected the column {absent[0]!r} of [serving] in {str(path)!r}, got none. Correct "
            "columns."
        )
    numeric = all(is_numeric_column(table[name]) for name in names)
    layout = TableLayout(fitted=tuple(policy.serving.columns))
    x = build_model_inputs(table, names, path, numeric=numeric, layout=layout)
    return build_request_batch(x, tuple(policy.serving.columns) if not is_frame(x) else ())
