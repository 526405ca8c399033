"""Options that name the model and its records: one row an option."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.cli.options.rows import ALL_VERBS, add_argument, add_key
from memberscope.cli.options.table.panels import (
    AUDIT,
    COLUMNS,
    FIRST,
    LABEL,
    MEASURING,
    OPENING,
    SERVED,
    TEXTS,
)


@dataclass(frozen=True)
class ModelOptions:
    """What names the model, its records, and how both are read."""

    config: Path | None = add_argument(
        "An audit.toml; environment variables and flags override it.", default=None, verbs=ALL_VERBS
    )

    model: str | None = add_key(
        "target",
        "The model: `module:factory`, a model file or folder, or torch weights with `factory`.",
        panel=FIRST,
    )
    url: str | None = add_key(
        "target",
        "Address of a served model to ask over HTTP, in place of `model` or `signals`.",
        verbs=AUDIT,
        panel=FIRST,
    )
    signals: str | None = add_key(
        "target",
        "A .csv, .npz, .safetensors or .parquet file of signals, or a folder with those of "
        "reference models too, in place of `model` or `url`.",
        verbs=AUDIT,
        panel=FIRST,
        is_path=True,
    )
    released: str | None = add_key(
        "target",
        "A table that was made from the members, such as synthetic records, in place of a model.",
        verbs=AUDIT,
        panel=OPENING,
        is_path=True,
    )
    members: str | None = add_key(
        "data",
        "The training records (.csv, .tsv, .jsonl, .parquet, .feather, .npz; text also as .gz or "
        ".zst).",
        panel=FIRST,
        is_path=True,
    )
    non_members: str | None = add_key(
        "data",
        "Hold-out records that the model was not trained on, in the same columns.",
        panel=FIRST,
        is_path=True,
    )
    label: str | None = add_key(
        "data",
        "The column of labels, or of true numbers; of several outputs or labels all their columns, "
        "such as `low,high`.",
        f"{LABEL}; label beside signals",
        panel=FIRST,
    )
    recipe: str | None = add_key(
        "recipe",
        "The function `module:function` (records, seed) -> model that trains one like the target "
        "(in the file also `train`).",
        panel=FIRST,
    )
    access: str | None = add_key(
        "threat",
        'What one query returns: "label", "probabilities", "logits" or "white_box"; of a language '
        'model "generations", "top_tokens", "token_probabilities", "vocabulary" or "weights".',
        "{memberscope.types:ThreatModel.access.word}",
        panel=FIRST,
    )
    policy: Any = add_key(
        "policy",
        "The policy that decides the verdict: the name of a shipped one (demo, standard, strict) "
        "or a TOML file.",
        "none, and no verdict",
        panel=FIRST,
    )
    effort: str | None = add_key(
        "audit",
        'How much is spent where no number is given: "quick" (searches and 2 to 8 reference models '
        "as time_budget allows), "
        '"normal" (128 queries a record for each search, 16 models) or "thorough" (512, 64).',
        "{memberscope.auditing:Plan.effort}",
        verbs=AUDIT,
        panel=FIRST,
    )
    time_budget: float | None = add_key(
        "audit",
        "Seconds that a quick audit may take, or so.",
        "{memberscope.auditing.forecast.choose_effort:SECONDS}, "
        "{memberscope.auditing.forecast.choose_effort:WITH_MODELS} with a recipe",
        verbs=AUDIT,
        panel=MEASURING,
    )

    factory: str | None = add_key(
        "target",
        "The function `module:function` that builds the torch module for weights.",
        panel=OPENING,
    )
    device: str | None = add_key(
        "target", "The torch device, such as cpu or cuda.", "cpu", panel=OPENING
    )
    outputs: str | None = add_key(
        "target",
        'What one answer of the model holds: "labels", "probabilities" or "logits".',
        "as the model says; {memberscope.wire:Endpoint.outputs} for a served model",
        panel=OPENING,
    )
    task: str | None = add_key(
        "target",
        'What the model does: "classification", "regression" (one or several numbers), "multilabel" '
        '(several labels a record, as 0 and 1) or "forecast".',
        "as the model says; classification where it does not",
        panel=OPENING,
    )
    trust_code: bool | None = add_key(
        "target",
        "Open formats that run code when opened.",
        "{memberscope.targets:TrustSettings.code}",
        panel=OPENING,
    )
    trust_types: tuple[str, ...] | None = add_key(
        "target",
        "A type to trust inside a .skops file.",
        "none",
        panel=OPENING,
        flag="--trust-type",
        is_repeated=True,
    )

    protocol: str | None = add_key(
        "target",
        'How the server is asked: "v2" (Open Inference Protocol), "mlflow" or "json"; for texts "vllm", '
        '"openai-completions" (with echo), "llama.cpp" or "openai-chat" (generations only).',
        "{memberscope.wire:Endpoint.protocol}",
        verbs=AUDIT,
        panel=SERVED,
    )
    model_name: str | None = add_key(
        "target", "Name of the served model (v2, texts).", verbs=AUDIT, panel=SERVED
    )
    model_version: str | None = add_key(
        "target", "Version of the served model (v2).", verbs=AUDIT, panel=SERVED
    )
    body: str | None = add_key(
        "target",
        'The request with a place for records, such as `{"instances": "$records"}` (json).',
        verbs=AUDIT,
        panel=SERVED,
    )
    answer: str | None = add_key(
        "target",
        "The output wanted (v2), or the path to it, such as `predictions[*].probs` (json).",
        verbs=AUDIT,
        panel=SERVED,
    )
    classes: tuple[str | int, ...] | None = add_key(
        "target",
        "Names of the classes in the order of the server's scores.",
        verbs=AUDIT,
        panel=SERVED,
    )
    n_classes: int | None = add_key(
        "target", "Number of classes where they have no names.", verbs=AUDIT, panel=SERVED
    )
    top_k: int | None = add_key(
        "target", "Number of classes that one answer tells, if not all.", verbs=AUDIT, panel=SERVED
    )
    columns: tuple[str, ...] | None = add_key(
        "target", "Names of the features, if the server wants them.", verbs=AUDIT, panel=SERVED
    )
    batch_size: int | None = add_key(
        "target",
        "Records in one request.",
        "{memberscope.wire:Endpoint.batch_size}",
        verbs=AUDIT,
        panel=SERVED,
    )
    concurrency: int | None = add_key(
        "target",
        "Requests at a time.",
        "{memberscope.wire:Endpoint.concurrency}",
        verbs=AUDIT,
        panel=SERVED,
    )
    rate: float | None = add_key(
        "target", "Most requests a second.", "no limit", verbs=AUDIT, panel=SERVED
    )
    timeout: float | None = add_key(
        "target",
        "Seconds that a request may take.",
        "{memberscope.wire:Endpoint.timeout}",
        verbs=AUDIT,
        panel=SERVED,
    )
    connect_timeout: float | None = add_key(
        "target", "Seconds that a connection may take.", "10", verbs=AUDIT, panel=SERVED
    )
    read_timeout: float | None = add_key(
        "target", "Seconds without a byte.", "as timeout", verbs=AUDIT, panel=SERVED
    )
    retries: int | None = add_key(
        "target",
        "Further tries of a request.",
        "{memberscope.wire:Endpoint.retries}",
        verbs=AUDIT,
        panel=SERVED,
    )
    auth_env: str | None = add_key(
        "target",
        "Name of the environment variable that holds the token.",
        verbs=AUDIT,
        panel=SERVED,
    )
    auth_header: str | None = add_key(
        "target",
        "The header that takes the token.",
        "{memberscope.wire:Endpoint.auth_header}, as a bearer",
        verbs=AUDIT,
        panel=SERVED,
    )
    ca_file: str | None = add_key(
        "target",
        "Certificates to trust instead of the system's (PEM).",
        verbs=AUDIT,
        panel=SERVED,
        is_path=True,
    )
    max_queries: int | None = add_key(
        "target",
        "Most records ever sent, those sent again included.",
        "no limit",
        verbs=AUDIT,
        panel=SERVED,
    )

    member: str | None = add_key(
        "data",
        "The column of a signals table that says which records were members.",
        "member",
        verbs=AUDIT,
        panel=COLUMNS,
    )
    number: str | None = add_key(
        "data",
        "The column of one number a record (and reference model) to audit, beside `signals`.",
        "none",
        verbs=AUDIT,
        panel=COLUMNS,
    )
    higher: str | None = add_key(
        "data",
        'Of whom `number` is higher: "member" or "non_member".',
        "member",
        verbs=AUDIT,
        panel=COLUMNS,
    )
    signals_layout: str | None = add_key(
        "data",
        'Which tool wrote the folder of `signals`: "lira", "privacy-meter" or "leakpro".',
        "as its files say",
        verbs=AUDIT,
        panel=COLUMNS,
    )
    signals_model: str | None = add_key(
        "data",
        "The model of that folder to audit, by its name or number; the others are references.",
        "the one that the tool audits",
        verbs=AUDIT,
        panel=COLUMNS,
    )
    id: str | None = add_key("data", "The column of unique ids.", "file and row", panel=COLUMNS)
    groups: tuple[str, ...] | None = add_key(
        "data", "Columns to report by; the model gets them too.", "none", panel=COLUMNS
    )
    unit: str | None = add_key(
        "data",
        "The column that names the person or document each record belongs to, where several "
        "records belong to one. Folds, reference models, controls and intervals then go by unit. "
        "The model gets it only if `features` lists it.",
        "each record by itself",
        panel=COLUMNS,
    )
    time: str | None = add_key(
        "data",
        "The column that orders the rows of a series, whose name is in `unit`; with `window` a "
        "forecast is audited.",
        "{memberscope.frames:WindowLayout.time}",
        panel=COLUMNS,
    )
    window: int | None = add_key(
        "data",
        "Time steps that the model gets: series in long form are cut into windows of so many.",
        "no windows",
        panel=COLUMNS,
    )
    horizon: int | None = add_key(
        "data",
        "Time steps after a window that the model forecasts.",
        "{memberscope.frames:WindowLayout.horizon}",
        panel=COLUMNS,
    )
    features: tuple[str, ...] | None = add_key(
        "data", "The columns that the model gets.", "all others", panel=COLUMNS
    )
    drop: tuple[str, ...] | None = add_key(
        "data", "Columns that the model does not get.", "none", panel=COLUMNS
    )
    types: tuple[str, ...] | None = add_key(
        "data",
        "What columns are, such as `postcode=text`: number, boolean, date, text or category.",
        "as the model and the values say",
        panel=COLUMNS,
    )

    text: str | None = add_key("data", "The column of texts.", "text", panel=TEXTS)
    prompt: str | None = add_key(
        "data", "The column of prompts, of which no token is scored.", "prompt", panel=TEXTS
    )
    completion: str | None = add_key(
        "data",
        "The column of completions, which the model was trained on.",
        "completion",
        panel=TEXTS,
    )
    messages: str | None = add_key(
        "data", "The column of messages with a role and a content.", "messages", panel=TEXTS
    )
    base_model: str | None = add_key(
        "target",
        "The folder of the model before fine-tuning; of a served model its name at the same URL, or "
        "its URL, with `#name` behind it where it has another name there.",
        "none",
        panel=TEXTS,
    )
    long: str | None = add_key(
        "target",
        "What is done with texts longer than the context of the model in a folder: truncate, or "
        "read in windows.",
        "truncate",
        panel=TEXTS,
    )
    recall_prefix: str | None = add_key(
        "target",
        "A file with texts that the model was not trained on, put before each record for ReCaLL.",
        "none",
        panel=TEXTS,
        is_path=True,
    )
