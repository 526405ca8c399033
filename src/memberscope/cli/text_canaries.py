"""What `memberscope canaries` does for texts: plant canaries among them, and score a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.cli.epsilon_words import format_bound
from memberscope.cli.output import print_line
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import EpsilonBound, RepeatedCanaries, TextCanaryScores
    from memberscope.cli.options.canaries import ExportOptions, ScoreOptions
    from memberscope.recipes import CanaryRecord, DrawnCanaries
    from memberscope.texts import TextRecord, TokenSignals
    from memberscope.types import Records

KEPT = "planted.json"
SCORES = "scores.json"
TABLES = (".csv", ".npz")  # of records that classify, unless the task says otherwise


def is_text_export(options: ExportOptions) -> bool:
    """Tell whether the records to plant canaries among are texts.

    Raises:
        InputError: The task is neither text nor classification.
    """
    if options.task is None:
        return options.members.suffix.lower() not in TABLES
    if options.task not in ("text", "classification"):
        raise InputError(
            f"Expected --task classification or text, got {options.task!r}. Choose one of these."
        )
    return options.task == "text"


def is_text_record(path: Path) -> bool:
    """Tell whether a path is the folder of text canaries, or the record in it."""
    return path.name == KEPT or (path / KEPT).is_file()


def export_text_canaries(options: ExportOptions, coins: int) -> None:
    """Write the training file with the canaries that are in, and the record to keep.

    Raises:
        InputError: Texts or tokenizer cannot be read, or canaries would not reach the training.
    """
    from memberscope.recipes import CanaryRecord, plant_text_canaries, write_text_record
    from memberscope.targets import read_text_records
    from memberscope.targets.texts import hash_tokenizer

    texts = read_text_records(options.members).x.tolist()
    tokenizer = _load_tokenizer(options)
    drawn = _draw(options, texts, tokenizer, coins)
    train = plant_text_canaries(texts, drawn.canaries, coins)
    lines = _write_lines(write_text_record(one) for one in train)
    kept = CanaryRecord(
        options.kind or "random", hash_tokenizer(tokenizer), _hash_bytes(lines), drawn.canaries
    )
    sides = {
        side: _write_lines(
            {"id": name, **write_text_record(canary.scored)}
            for name, canary in zip(kept.ids, kept.canaries, strict=True)
            if canary.inside == (side == "in")
        )
        for side in ("in", "out")
    }
    document = json.dumps(kept.build_document(), indent=1, ensure_ascii=False) + "\n"
    _write_files(
        options.out,
        {"train.jsonl": lines, KEPT: document.encode()}
        | {f"{side}.jsonl": text for side, text in sides.items()},
    )
    _describe_export(options, drawn, len(texts), len(train))


def _draw(
    options: ExportOptions, texts: Sequence[TextRecord], tokenizer: Any, coins: int
) -> DrawnCanaries:
    """Draw the canaries that the options ask for."""
    from memberscope.recipes import CanarySettings, draw_text_canaries
    from memberscope.targets import load_target, read_text_records

    kind: Any = options.kind or "random"
    settings = CanarySettings(
        n=300 if options.number is None else options.number,
        kind=kind,
        repetitions=_read_repetitions(options),
        suffix_tokens=options.suffix_tokens,
        max_length=options.max_length,
        seed=coins,
    )
    own = None if options.own is None else read_text_records(options.own).x.tolist()
    like = texts if options.pool is None else read_text_records(options.pool).x.tolist()
    if type(like[0]) is not type(texts[0]):
        raise InputError(
            f"Expected records of one kind in {options.members} and {options.pool}, got two. Give "
            "both as texts, or as prompts with completions."
        )
    # A token is new only if neither the training nor the beginnings hold it
    model = None if options.model is None else load_target(options.model).target
    return draw_text_canaries(like, tokenizer, settings, own=own, model=model, avoid=texts)


def _read_repetitions(options: ExportOptions) -> tuple[int, ...]:
    """Read how often canaries are repeated.

    Raises:
        InputError: One of them is no whole number.
    """
    from memberscope.recipes import CanarySettings

    if options.repetitions is None:
        return CanarySettings().repetitions
    try:
        return tuple(int(word) for word in options.repetitions)
    except ValueError as error:
        raise InputError(
            f"Expected whole numbers as --repetitions, got {','.join(options.repetitions)!r}. Give, "
            "for example, 1,4,16."
        ) from error


def _load_tokenizer(options: ExportOptions) -> Any:
    """Load the tokenizer of the training.

    Raises:
        InputError: None is given, or it cannot be read.
    """
    from memberscope.targets.texts import load_folder_tokenizer

    # The model that tells unlikely suffixes apart usually lies beside its tokenizer
    folder = options.tokenizer or (Path(options.model) if options.model else None)
    if folder is None or not folder.is_dir():
        got = "none" if folder is None else repr(str(folder))
        raise InputError(
            f"Expected --tokenizer FOLDER, the tokenizer that training uses, got {got}. Without it "
            "nobody knows whether canaries survive."
        )
    return load_folder_tokenizer(folder)


def _describe_export(
    options: ExportOptions, drawn: DrawnCanaries, n_texts: int, n_train: int
) -> None:
    """Say what was written, what survives, and how much of the training canaries are."""
    inside = [one.repetitions for one in drawn.canaries if one.inside]
    times = ", ".join(f"{inside.count(k)} x {k}" for k in sorted(set(inside)))
    print_line(
        f"Wrote {options.out}: train.jsonl with {n_texts} + {n_train - n_texts} texts, {len(inside)} "
        f"canaries in ({times} times), {len(drawn.canaries) - len(inside)} out."
    )
    print_line(drawn.survival.describe())
    share = (n_train - n_texts) / n_train
    # Where they are much of the training, the model is no longer the one that will be served
    if share > 0.1:
        print_line(
            f"Canaries are {share:.0%} of the training texts: audit a copy of the training run, or "
            "lower --number or --repetitions."
        )
    print_line(
        f"Train on train.jsonl alone and keep {KEPT}, which holds the coins. Then: memberscope "
        f"canaries score {options.out} --model FOLDER --base-model FOLDER."
    )


def score_text_canaries(options: ScoreOptions) -> list[EpsilonBound]:
    """Score a trained model by its text canaries; give the bounds that are about single records.

    Raises:
        InputError: The canaries are of another run, or the model reads them otherwise.
    """
    from memberscope.auditing import score_text_canaries as score_canaries
    from memberscope.recipes import read_canary_record

    path = options.result if options.result.name == KEPT else options.result / KEPT
    kept = read_canary_record(path)
    _check_training_file(kept, path.parent / "train.jsonl")
    given = [one for one in (options.model, options.url, options.signals) if one is not None]
    if len(given) != 1:
        raise InputError(
            "Expected the trained model as --model or --url, or stored log-probabilities as "
            f"--signals, got {'both' if given else 'neither'}. Give one of them."
        )
    if options.url is None and (options.protocol or options.model_name):
        raise InputError(
            "Expected --url with --protocol and --model-name, got none. Say where the server is, or "
            "leave them out."
        )
    tokens = (
        _ask_models(kept, options)
        if options.signals is None
        else _read_stored(kept, options.signals, options.base_model)
    )
    found = score_canaries(
        kept.canaries, tokens, delta=options.delta, confidence=options.confidence
    )
    document = json.dumps(found.build_document() | {"run": kept.run}, indent=1) + "\n"
    _write_files(path.parent, {SCORES: document.encode()})
    _print_scores(found)
    return found.find_record_bounds()


def _check_training_file(kept: CanaryRecord, path: Path) -> None:
    """Refuse a record beside the training file of another run.

    Raises:
        InputError: The file is not the one that was written with it.
    """
    # It may have been moved to where the training runs
    if path.is_file() and _hash_bytes(path.read_bytes()) != kept.train_digest:
        raise InputError(
            f"Expected {path} as it was written with {KEPT}, got another file: the canaries are of "
            "another run, or it was changed. Keep both files of one export together."
        )


def _ask_models(kept: CanaryRecord, options: ScoreOptions) -> TokenSignals:
    """Ask the trained model, and the one before it if there is one, about the canaries."""
    from memberscope.facts import read_target_facts
    from memberscope.signals import collect_tokens
    from memberscope.targets import load_target, make_text_records

    records = make_text_records([one.scored for one in kept.canaries], ids=kept.ids)
    if options.url is not None:
        return _ask_servers(records, options)
    target: Any = load_target(options.model or "", device=options.device).target
    if not hasattr(target, "measure_tokens"):
        raise InputError(
            f"Expected a language model, got {type(target).__name__} of {options.model!r}. Give the "
            "folder of one, or module:name of a text target."
        )
    # The target's own base, such as the model below an adapter, serves as well
    base = read_target_facts(target).base
    if options.base_model is not None:
        base = load_target(options.base_model, device=options.device).target
    tokens = collect_tokens(target, records)
    return _add_base(tokens, None if base is None else collect_tokens(base, records))


def _ask_servers(records: Records, options: ScoreOptions) -> TokenSignals:
    """Ask the served model, and the one before training if it is named, about the canaries.

    What was answered is kept beside the canaries.
    """
    from memberscope.cli.options.endpoint import locate_base
    from memberscope.signals import collect_tokens
    from memberscope.targets import TextServerTarget
    from memberscope.wire import TextEndpoint

    said = {
        key: getattr(options, key)
        for key in ("url", "protocol", "model_name")
        if getattr(options, key) is not None
    }
    home = options.result.parent if options.result.name == KEPT else options.result
    base = None
    if options.base_model is not None:
        before = TextEndpoint(**locate_base(said, options.base_model))
        base = TextServerTarget(before, ledger=home / "ledger-base.sqlite")
    # Both are served alike, which the target proves before it asks
    with TextServerTarget(TextEndpoint(**said), ledger=home / "ledger.sqlite", base=base) as target:
        tokens = collect_tokens(target, records)
    if base is None:
        return tokens
    with base:
        return _add_base(tokens, collect_tokens(base, records))


def _add_base(tokens: TokenSignals, base: TokenSignals | None) -> TokenSignals:
    """Add what the model before training says of the same tokens.

    Raises:
        InputError: It reads the canaries otherwise.
    """
    if base is None:
        return tokens
    if base.offsets.tolist() != tokens.offsets.tolist():
        raise InputError(
            f"Expected the model before training to score the same tokens, got "
            f"{int(base.offsets[-1])} instead of {int(tokens.offsets[-1])}. Give one with the same "
            "tokenizer."
        )
    return replace(tokens, base=base.log_probability)


def _read_stored(kept: CanaryRecord, path: Path, base: str | None) -> TokenSignals:
    """Read the log-probabilities of the canaries' tokens by their ids.

    Raises:
        InputError: Canaries are missing, or all are of another run.
    """
    import numpy as np

    from memberscope.signals import check_tokens
    from memberscope.targets.stored import read_token_file
    from memberscope.texts import TokenSignals

    if base is not None:
        raise InputError(
            "Expected the base's log-probabilities as `base` in the file of --signals, got "
            "--base-model. Leave it out."
        )
    file = read_token_file(path)
    given = file.columns.get("id", file.columns.get("ids", ()))
    place = {str(name): row for row, name in enumerate(given)}
    rows = [place.get(name, -1) for name in kept.ids]
    if missing := rows.count(-1):
        whose = (
            "they are of another run, or have no id"
            if missing == len(rows)
            else f"the first is {kept.ids[rows.index(-1)]}"
        )
        raise InputError(
            f"Expected log-probabilities of {len(rows)} canaries in {path}, got none for {missing} "
            f"of them: {whose}. Score in.jsonl and out.jsonl, and write their id."
        )
    if "log_probs" not in file.tokens:
        raise InputError(
            f"Expected log_probs for each canary in {path}, got "
            f"{', '.join([*file.tokens, *file.columns])[:80]}. Write one for each token."
        )
    values, before = file.tokens["log_probs"], file.tokens.get("base")
    tokens = TokenSignals(file.offsets, values, base=before).take(np.array(rows))
    check_tokens(tokens, np.array(kept.ids))
    return tokens


def _print_scores(found: TextCanaryScores) -> None:
    """Print what each class of canaries shows."""
    from memberscope.auditing import describe_group_bounds

    print_line(f"Scored by {found.statistic}; {found.n_outside} canaries left out.")
    for row in found.classes:
        _print_class(row)
        for bound in describe_group_bounds(row.bounds, row.repetitions):
            print_line(f"  {format_bound(bound)}")
        if not row.bounds:
            print_line("  No bound on epsilon: fewer than 20 canaries, or all coins fell alike.")


def _print_class(row: RepeatedCanaries) -> None:
    """Print exposure, TPR and extraction of the canaries of one class."""
    rates = "; ".join(
        f"TPR at {fpr:.0%} FPR {v.value:.1%} ({v.low:.1%} to {v.high:.1%})"
        for fpr, v in row.tpr.items()
    )
    median, auc = row.exposure.median, row.auc
    print_line(
        f"{row.repetitions} x: {row.n_inside} canaries in. AUC {auc.value:.3f} ({auc.low:.3f} to "
        f"{auc.high:.3f}){'; ' + rates if rates else ''}."
    )
    print_line(
        f"  Exposure: median {median.value:.2f} bits ({median.low:.2f} to {median.high:.2f}), tenth "
        f"to ninetieth percentile {row.exposure.tenth:.2f} to {row.exposure.ninetieth:.2f}, at most "
        f"{row.exposure.most:.2f}; about 1 without memory."
    )
    p = row.extraction.p
    shares = ", ".join(
        f"{rate.members.value:.1%} ({rate.members.low:.1%} to {rate.members.high:.1%}) in {rate.n} "
        f"tries (left out {rate.non_members.value:.1%})"
        for rate in row.extraction.rates
    )
    print_line(f"  Written out with probability {p:g} or more: {shares}.")


def _write_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """Write rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _hash_bytes(data: bytes) -> str:
    """Hash the content of a file."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, each whole or not at all."""
    from memberscope._files import write_bytes

    for name, data in files.items():
        write_bytes(folder / name, data)
