"""Every key of `audit.toml`, once: its section, type, default and meaning.

Every key is also a field of `Options`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import GenericAlias
from typing import Any, get_type_hints


def _describe_key(section: str, meaning: str, default: str = "") -> Any:
    """Describe one key: the section it stands in, what it means.

    And in words what holds where nothing is said.
    """
    return field(
        default=None, metadata={"section": section, "meaning": meaning, "default": default}
    )


@dataclass(frozen=True)
class EndpointOptions:
    """What may be said of an endpoint; None where nothing was said."""

    url: str | None = _describe_key(
        "target", "Address of a served model to ask over HTTP, in place of `model` or `signals`."
    )
    protocol: str | None = _describe_key(
        "target",
        'How the server is asked: "v2" (Open Inference Protocol), "mlflow" or "json".',
        "v2",
    )
    model_name: str | None = _describe_key("target", "Name of the served model (v2).")
    model_version: str | None = _describe_key("target", "Version of the served model (v2).")
    body: str | None = _describe_key(
        "target",
        'The request with a place for records, such as `{"instances": "$records"}` (json).',
    )
    answer: str | None = _describe_key(
        "target",
        "The output wanted (v2), or the path to it, such as `predictions[*].probs` (json).",
    )
    outputs: str | None = _describe_key(
        "target", 'What one answer holds: "labels", "probabilities" or "logits".', "probabilities"
    )
    classes: tuple[str | int, ...] | None = _describe_key(
        "target", "Names of the classes in the order of the server's scores."
    )
    n_classes: int | None = _describe_key("target", "Number of classes where they have no names.")
    top_k: int | None = _describe_key("target", "Classes that one answer tells, if not all.")
    columns: tuple[str, ...] | None = _describe_key(
        "target", "Names of the features, if the server wants them."
    )
    batch_size: int | None = _describe_key("target", "Records in one request.", "64")
    concurrency: int | None = _describe_key("target", "Requests at a time.", "4")
    rate: float | None = _describe_key("target", "Most requests a second.", "no limit")
    timeout: float | None = _describe_key("target", "Seconds that a request may take.", "60")
    connect_timeout: float | None = _describe_key(
        "target", "Seconds that a connection may take.", "10"
    )
    read_timeout: float | None = _describe_key("target", "Seconds without a byte.", "as timeout")
    retries: int | None = _describe_key("target", "Further tries of a request.", "4")
    auth_env: str | None = _describe_key("target", "The environment variable that holds the token.")
    auth_header: str | None = _describe_key(
        "target", "The header that takes the token.", "Authorization, as a bearer"
    )
    ca_file: str | None = _describe_key(
        "target", "Certificates to trust instead of the system's (PEM)."
    )
    max_queries: int | None = _describe_key(
        "target", "Most records ever sent, those sent again included.", "no limit"
    )


@dataclass(frozen=True)
class Options(EndpointOptions):
    """Everything a configuration file or the flags may say; None where nothing was said."""

    model: str | None = _describe_key(
        "target", "`module:factory`, a model file or folder, or torch weights with `factory`."
    )
    factory: str | None = _describe_key(
        "target", "`module:function` that builds the torch module for weights."
    )
    device: str | None = _describe_key("target", "Torch device, such as cpu or cuda.", "cpu")
    signals: str | None = _describe_key(
        "target", "A .csv, .npz or .parquet table of signals in place of a model."
    )
    trust_code: bool | None = _describe_key(
        "target", "Open formats that run code when opened.", "false"
    )
    trust_types: tuple[str, ...] | None = _describe_key(
        "target", "Types to trust inside a .skops file."
    )
    members: str | None = _describe_key(
        "data",
        "The training records (.csv, .tsv, .jsonl, .parquet, .feather, .npz; text also as .gz or "
        ".zst).",
    )
    non_members: str | None = _describe_key("data", "Hold-out records in the same columns.")
    label: str | None = _describe_key("data", "The column of labels.", "y; label beside signals")
    member: str | None = _describe_key(
        "data", "The column of a signals table that says which records were members.", "member"
    )
    id: str | None = _describe_key("data", "The column of unique ids.", "file and row")
    groups: tuple[str, ...] | None = _describe_key(
        "data", "Columns to report by; the model gets them too.", "none"
    )
    unit: str | None = _describe_key(
        "data",
        "The column that names the person or document each record belongs to, where several "
        "records belong to one. Folds, reference "
        "models, controls and intervals then go by unit. The model gets it only if `features` "
        "lists it.",
        "each record by itself",
    )
    features: tuple[str, ...] | None = _describe_key(
        "data", "The columns that the model gets.", "all others"
    )
    drop: tuple[str, ...] | None = _describe_key(
        "data", "Columns that the model does not get.", "none"
    )
    types: tuple[str, ...] | None = _describe_key(
        "data",
        "What columns are, such as `postcode=text`: number, boolean, date, text or category.",
        "as the model and the values say",
    )
    recipe: str | None = _describe_key(
        "recipe",
        "`module:function` (records, seed) -> model that trains one like the target (also "
        "`train`).",
    )
    references: int | None = _describe_key("recipe", "Reference models to train.", "16")
    targets: int | None = _describe_key(
        "recipe", "Further target models to train and audit, for what the procedure does.", "0"
    )
    reference_size: int | None = _describe_key(
        "recipe", "Records in a reference model.", "as many as members"
    )
    design: str | None = _describe_key(
        "recipe", "An .npz with `inside` (models, records), members first.", "drawn"
    )
    keep_weights: bool | None = _describe_key(
        "recipe", "Keep the trained models in the output folder.", "false"
    )
    precision: str | None = _describe_key(
        "recipe", '"float32", "bfloat16" or "float64": how a TorchRecipe trains.', "float32"
    )
    views: tuple[str, ...] | None = _describe_key(
        "recipe", "Queries about each record, identity first, such as flip, shift:1:0.", "identity"
    )
    population: str | None = _describe_key("recipe", "Records that no model saw.", "none")
    backend: str | None = _describe_key(
        "recipe", '"loky", "sequential", "dask" or "ray": where models are trained.', "loky"
    )
    address: str | None = _describe_key("recipe", "Address of the cluster.")
    jobs: int | None = _describe_key("recipe", "Models trained at a time.", "-1, all cores")
    model_timeout: float | None = _describe_key(
        "recipe", "Seconds that training one model may take.", "no limit"
    )
    defences: tuple[str, ...] | None = _describe_key(
        "defend", "Defences to compare, such as l2:0.001 or top:1.", "by the recipe"
    )
    canaries: int | None = _describe_key(
        "defend", "Worst-case records of each kind to insert.", "up to 240"
    )
    access: str | None = _describe_key(
        "threat",
        'What one query returns: "label", "probabilities", "logits" or "white_box".',
        "probabilities",
    )
    restrict: str | None = _describe_key(
        "threat", "What the endpoint does to outputs, such as top:3+round:2 or label.", "nothing"
    )
    restrictions: tuple[str, ...] | None = _describe_key(
        "threat", "Restrictions to try beside it.", "top:1, top:3, round:2"
    )
    query_budget: int | None = _describe_key(
        "threat", "Queries an adversary may make about a record.", "no limit"
    )
    known_records: bool | None = _describe_key(
        "threat", "Whether the adversary knows which of some other records were members.", "true"
    )
    search_queries: int | None = _describe_key(
        "threat", "Queries about a record for each label-only search, 0 for none.", "up to 128"
    )
    prior: float | None = _describe_key(
        "threat", "Share of members among the records that an adversary would try.", "0.01"
    )
    priors: tuple[float, ...] | None = _describe_key(
        "threat", "Further shares at which precision is reported.", "0.01, 0.1, 0.5"
    )
    fprs: tuple[float, ...] | None = _describe_key(
        "audit", "False-positive rates to report.", "0.1, 0.01, 0.001, 0.0001 as resolved"
    )
    confidence: float | None = _describe_key("audit", "Confidence of every interval.", "0.95")
    folds: int | None = _describe_key("audit", "Cross-fitting folds.", "5")
    seed: int | None = _describe_key("audit", "Seed of every random choice.", "0")
    attacks: tuple[str, ...] | None = _describe_key("audit", "Attacks to run.", "all")
    title: str | None = _describe_key("audit", "Title of the report.", "the target's name")
    assume_exchangeable: bool | None = _describe_key(
        "audit", "Declare that the split was random, where nothing can check it.", "false"
    )
    assume_class_order: bool | None = _describe_key(
        "audit", "Declare that the classes stand in the model's order.", "false"
    )
    coins: bool | None = _describe_key(
        "audit", "Declare that fair coins decided membership.", "false"
    )
    drop_overlap: bool | None = _describe_key("audit", "Leave out duplicates of members.", "false")
    accept_limited: bool | None = _describe_key(
        "audit",
        "Exit 0, not 3, on a PASS that is limited since attacks with reference models did not run.",
        "false",
    )
    out: str | None = _describe_key("audit", "The folder to write.", "memberscope-out")
    policy: Any = None  # a section of its own


ALIASES = {"train": "recipe"}  # [recipe] train = "module:function"
KEYS = tuple(entry.name for entry in fields(EndpointOptions))
SECTION_ORDER = ("target", "data", "recipe", "defend", "threat", "audit")
SECTIONS: dict[str, tuple[str, ...]] = {
    section: tuple(
        entry.name for entry in fields(Options) if entry.metadata.get("section") == section
    )
    for section in SECTION_ORDER
}


def find_key_type(name: str) -> Any:
    """The type that a key has in TOML: bool, int, float, str, or a list of them.

    >>> find_key_type("seed"), find_key_type("groups")
    (<class 'int'>, list[str])
    """
    hint = get_type_hints(Options)[name]
    given = next(part for part in hint.__args__ if part is not type(None))
    return (
        GenericAlias(list, (given.__args__[0],))
        if getattr(given, "__origin__", None) is tuple
        else given
    )


def is_list(name: str) -> bool:
    """Tell whether a key's value is a list.

    >>> is_list("groups"), is_list("label")
    (True, False)
    """
    return getattr(find_key_type(name), "__origin__", None) is list
