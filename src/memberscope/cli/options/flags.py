"""The flags that verbs share, each group written once as a signature.

Every flag is a key of `audit.toml` too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from memberscope.cli.options.keys import Options, is_list
from memberscope.errors import InputError

Model = Annotated[
    str | None,
    typer.Option(help="module:factory, a model file or folder, or torch weights with --factory."),
]
Outputs = Annotated[
    str | None, typer.Option(help="What the model returns: probabilities, logits or labels.")
]
Signals = Annotated[
    str | None, typer.Option(help="A .csv, .npz or .parquet table of signals instead of a model.")
]
Members = Annotated[
    str | None,
    typer.Option(
        help="Training records (.csv, .tsv, .jsonl, .parquet, .feather, .npz; .gz, .zst)."
    ),
]
NonMembers = Annotated[str | None, typer.Option(help="Hold-out records of the same columns.")]
Recipe = Annotated[
    str | None,
    typer.Option(help="module:function (records, seed) -> model that trains one like the target."),
]
References = Annotated[int | None, typer.Option(help="Reference models to train (16).")]
TrustCode = Annotated[bool | None, typer.Option("--trust-code", help="Open formats that run code.")]
TrustTypes = Annotated[
    list[str] | None, typer.Option("--trust-type", help="A type to trust inside a .skops file.")
]
Precision = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float64: how a TorchRecipe trains.")
]
Targets = Annotated[
    int | None,
    typer.Option(help="Further target models to train and audit, for the procedure (0)."),
]
Device = Annotated[str | None, typer.Option(help="Torch device, such as cpu or cuda.")]
ReferenceSize = Annotated[
    int | None, typer.Option(help="Records a reference model (as many as members).")
]
Design = Annotated[
    str | None, typer.Option(help="An .npz with `inside` (models, records), members first.")
]
KeepWeights = Annotated[
    bool | None, typer.Option("--keep-weights", help="Keep the trained models too.")
]
Views = Annotated[
    str | None, typer.Option(help="Queries a record: identity,flip,shift:1:0,noise:0.1.")
]
Population = Annotated[str | None, typer.Option(help="Records that no model saw.")]
Backend = Annotated[str | None, typer.Option(help="loky, sequential, dask or ray.")]
Address = Annotated[str | None, typer.Option("--address", "--scheduler", help="Of the cluster.")]
Jobs = Annotated[int | None, typer.Option(help="Models trained at a time (all cores).")]
ModelTimeout = Annotated[float | None, typer.Option(help="Seconds a model may take.")]
Restrict = Annotated[
    str | None,
    typer.Option(help="What the endpoint does to outputs: top:3, round:2, top:3+round:2, label."),
]
Restrictions = Annotated[
    str | None, typer.Option(help="Restrictions to try beside it (top:1,top:3,round:2; none).")
]
SearchQueries = Annotated[
    int | None, typer.Option(help="Queries a record for each label-only search (256; 0 for none).")
]
AcceptLimited = Annotated[
    bool | None, typer.Option("--accept-limited", help="Exit 0 on a PASS without reference models.")
]
Unit = Annotated[
    str | None, typer.Option(help="Column of the person or document that records belong to.")
]
Words = Annotated[str | None, typer.Option()]
NAMED_OTHERWISE = {
    "fpr": "fprs",
    "trust_type": "trust_types",
}  # a flag that is given once a value, or for one value mostly


def declare_record_flags(
    *,
    model: Model = None,
    factory: Annotated[
        str | None, typer.Option(help="module:function that builds the torch module.")
    ] = None,
    device: Device = None,
    outputs: Outputs = None,
    members: Members = None,
    non_members: NonMembers = None,
    label: Annotated[str | None, typer.Option(help="Label column (y).")] = None,
    id: Annotated[str | None, typer.Option(help="Id column.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Comma-separated columns to report by.")
    ] = None,
    unit: Unit = None,
    features: Annotated[str | None, typer.Option(help="Feature columns (all).")] = None,
    drop: Annotated[str | None, typer.Option(help="Columns that the model does not get.")] = None,
    types: Annotated[
        str | None,
        typer.Option(help="What columns are: postcode=text,seen=date (number, boolean, category)."),
    ] = None,
    trust_code: TrustCode = None,
    trust_type: TrustTypes = None,
) -> None:
    """The flags of a model and its records, for `add_flags`."""


def declare_training_flags(
    *,
    recipe: Recipe = None,
    references: References = None,
    reference_size: ReferenceSize = None,
    precision: Precision = None,
    population: Population = None,
    backend: Backend = None,
    address: Address = None,
    jobs: Jobs = None,
    model_timeout: ModelTimeout = None,
) -> None:
    """The flags of reference models, for `add_flags`."""


def declare_judging_flags(
    *,
    access: Annotated[
        str | None, typer.Option(help="label, probabilities, logits or white_box.")
    ] = None,
    search_queries: SearchQueries = None,
    fpr: Annotated[
        str | None, typer.Option(help="False-positive rates, such as 0.01,0.001.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="demo, standard, strict or a TOML file.")
    ] = None,
    attacks: Annotated[str | None, typer.Option(help="Comma-separated attacks (all).")] = None,
    confidence: Annotated[float | None, typer.Option(help="Of every interval (0.95).")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice (0).")] = None,
) -> None:
    """The flags of a threat model and a policy, for `add_flags`."""


def declare_audit_flags(
    *,
    signals: Signals = None,
    member: Annotated[
        str | None, typer.Option(help="Column of membership in --signals (member).")
    ] = None,
    targets: Targets = None,
    design: Design = None,
    keep_weights: KeepWeights = None,
    views: Views = None,
    restrict: Restrict = None,
    restrictions: Restrictions = None,
    query_budget: Annotated[int | None, typer.Option(help="Queries per record.")] = None,
    known_records: Annotated[
        bool | None,
        typer.Option(
            "--known-records/--no-known-records",
            help="The adversary knows some other records' truth.",
        ),
    ] = None,
) -> None:
    """The flags that an audit and its dry run have besides, for `add_flags`."""


def declare_endpoint_flags(
    *,
    url: Annotated[str | None, typer.Option(help="A served model to ask over HTTP.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="v2 (Open Inference Protocol), mlflow or json.")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="Name of the served model (v2).")] = None,
    model_version: Annotated[str | None, typer.Option(help="Version of the served model.")] = None,
    body: Annotated[
        str | None,
        typer.Option(help='Request with a place for records: {"instances": "$records"}.'),
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="Output wanted (v2), or path such as predictions[*].probs.")
    ] = None,
    outputs: Annotated[
        str | None, typer.Option(help="What one answer holds: labels, probabilities or logits.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes in the server's order.")
    ] = None,
    n_classes: Annotated[
        int | None, typer.Option(help="Number of classes, if they have no names.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Classes that one answer tells, if not all.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names of the features, if the server wants them.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Records a request (64).")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at a time (4).")] = None,
    rate: Annotated[float | None, typer.Option(help="Most requests a second.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a request may take (60).")] = None,
    connect_timeout: Annotated[float | None, typer.Option(help="Seconds to connect (10).")] = None,
    read_timeout: Annotated[
        float | None, typer.Option(help="Seconds without a byte (as --timeout).")
    ] = None,
    retries: Annotated[int | None, typer.Option(help="Further tries of a request (4).")] = None,
    auth_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the token.")
    ] = None,
    auth_header: Annotated[
        str | None, typer.Option(help="Header that takes it (Authorization, as a bearer).")
    ] = None,
    ca_file: Annotated[
        str | None, typer.Option(help="Certificates to trust instead of the system's (PEM).")
    ] = None,
    max_queries: Annotated[
        int | None, typer.Option(help="Most records ever sent, retries included.")
    ] = None,
) -> None:
    """The flags of a served model, for `add_flags`."""


def add_flags(
    *sources: Callable[..., None],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the flags of `sources` in place of its `**` parameter, which gets them by key.

    Lists split at commas.

    Where the verb has a flag of the same name, its own help is shown.

    >>> @add_flags(declare_endpoint_flags)
    ... def verb(config: str = "", **given: Any) -> None: ...
    >>> list(inspect.signature(verb).parameters)[:3]
    ['config', 'url', 'protocol']
    """

    def flagged_verb(verb: Callable[..., None]) -> Callable[..., None]:
        own = [
            entry
            for entry in inspect.signature(verb).parameters.values()
            if entry.kind is not entry.VAR_KEYWORD
        ]
        hints: dict[str, Any] = {}
        for source in reversed(sources):
            hints |= get_type_hints(source, include_extras=True)
        hints |= get_type_hints(verb, include_extras=True)
        shared = {
            name: entry
            for source in sources
            for name, entry in inspect.signature(source).parameters.items()
        }
        names = {entry.name for entry in own}
        every = [*own, *(entry for name, entry in shared.items() if name not in names)]
        both = [entry.replace(annotation=hints[entry.name]) for entry in every]

        @functools.wraps(verb)
        def flagged(*args: Any, **given: Any) -> None:
            verb(
                *args,
                **{
                    NAMED_OTHERWISE.get(name, name): _value_of(name, value)
                    for name, value in given.items()
                },
            )

        flagged.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
        flagged.__annotations__ = {entry.name: hints[entry.name] for entry in both}
        del flagged.__wrapped__
        return flagged

    return flagged_verb


def _value_of(name: str, value: Any) -> Any:
    """The value of a flag as its key has it."""
    if name == "fpr":
        return _parse_rates(name, value)
    if name == "trust_type":
        return tuple(value) if value else None
    is_key = name in Options.__dataclass_fields__ and name != "policy"
    return _split_words(value) if is_key and isinstance(value, str) and is_list(name) else value


def _split_words(text: str | None) -> tuple[str, ...] | None:
    """A comma-separated flag as its parts.

    >>> _split_words("a, b"), _split_words(None)
    (('a', 'b'), None)
    """
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_rates(name: str, text: str | None) -> tuple[float, ...] | None:
    """A comma-separated flag as numbers.

    Raises:
        InputError: Some part is not a number.
    """
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"Expected numbers such as 0.01,0.001 for --{name}, got {text!r}. Repair it."
        ) from error
