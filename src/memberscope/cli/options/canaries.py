"""The options of `memberscope canaries`, for tables and for texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.options.table import LABEL


@dataclass(frozen=True)
class ExportOptions:
    """The options of `canaries export`."""

    members: Path = add_option("Training records: .csv or .npz, or texts.")
    pool: Path | None = add_option(
        "Records that trained nothing, in the same columns; of texts, those whose beginnings "
        "canaries take.",
        default=None,
        shown="for texts, --members",
    )
    number: int | None = add_option(
        "Canaries to draw; half of them, by coins, are trained on.",
        default=None,
        shown="1000; 300 for texts",
    )
    kind: str | None = add_option(
        "What the canaries are: natural, or mislabelled for the worst case. Of texts, random, "
        "unlikely (to --model), new-token, or own.",
        default=None,
        shown="mislabelled; random for texts",
    )
    task: str | None = add_option(
        "What the records are: classification or text.",
        default=None,
        shown="by the file's kind",
        choices=("classification", "text"),
    )
    tokenizer: Path | None = add_option(
        "Texts: the folder of the tokenizer that training uses.", default=None
    )
    repetitions: tuple[str, ...] | None = add_option(
        "Texts: how often a canary that is in stands in the training file, one of these at random.",
        default=None,
        shown="1,4,16",
        value="int",
    )
    suffix_tokens: int = add_option("Texts: random tokens that a canary ends with.", default=10)
    max_length: int | None = add_option(
        "Texts: most tokens that training reads of a text.",
        default=None,
        shown="what the tokenizer says",
    )
    own: Path | None = add_option(
        "Texts: canaries of your own, one a record, for --kind own.", default=None
    )
    model: str | None = add_option(
        "Texts: a language model that finds suffixes unlikely, for --kind unlikely.", default=None
    )
    label: str = add_option("The column of labels.", default=LABEL)
    seed: int | None = add_option(
        "Seed of the coins, for a run that can be repeated; a proof wants the system's randomness.",
        default=None,
        shown="the system's randomness",
    )
    out: Path = add_option("The folder to write.", default=Path("canaries"))


@dataclass(frozen=True)
class ScoreOptions:
    """The options of `canaries score`."""

    result: Path = add_argument(
        "The folder of an audit of canaries, in against out, or of text canaries."
    )
    attack: str = add_option(
        "Whose scores; choose it before you look. It may learn from no known records.",
        default="logit",
    )
    delta: float = add_option("Delta of the guarantee.", default=1e-5)
    confidence: float = add_option("Confidence of the bounds.", default=0.95)
    claimed: float | None = add_option(
        "Epsilon that the training claims; exit 1 if it is refuted.", default=None
    )
    model: str | None = add_option(
        "Text canaries: the trained language model, a folder or module:name (a served one too).",
        default=None,
    )
    base_model: str | None = add_option(
        "Text canaries: the model before training, which says how unlikely each canary was; of a "
        "served one its name, or its URL with `#name`.",
        default=None,
    )
    url: str | None = add_option(
        "Text canaries: the address of the served model, instead of --model.", default=None
    )
    protocol: str | None = add_option(
        'Text canaries: how the server is asked: "vllm", "openai-completions" or "llama.cpp".',
        default=None,
        shown="vllm",
    )
    model_name: str | None = add_option(
        "Text canaries: the name of the model at the server.", default=None
    )
    signals: Path | None = add_option(
        "Text canaries: stored log-probabilities of their tokens, by id, instead of --model.",
        default=None,
    )
    device: str | None = add_option(
        "Text canaries: where the model runs: cpu or cuda.", default=None, shown="a GPU if there is"
    )
