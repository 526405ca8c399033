"""The options of `audit`, `plan` and `defend`: one row an option.

From a row are made the flag, the key of `audit.toml`, the environment variable, the field of
`Options`, the help and the row of docs/configuration.md. An option that goes into the plan under
its own name needs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.cli.options.rows import ALL_VERBS, add_key, add_option
from memberscope.cli.options.table.model_options import ModelOptions
from memberscope.cli.options.table.panels import (
    AUDIT,
    CANARIES,
    CANARY_KIND,
    CANARY_OUT,
    DEFENCES,
    FIRST,
    HISTORY,
    LABEL,
    MEASURING,
    OUT,
    OUTPUT,
    REFERENCES,
    SERVED,
    SET_VERB,
    SETS,
    THREAT,
)

__all__ = [
    "CANARIES",
    "CANARY_KIND",
    "CANARY_OUT",
    "FIRST",
    "HISTORY",
    "LABEL",
    "OUT",
    "SERVED",
    "SET_VERB",
    "Options",
]


@dataclass(frozen=True)
class Options(ModelOptions):
    """What the command line, the environment and `audit.toml` say; None where nothing was said."""

    references: int | None = add_key(
        "recipe",
        "Reference models to train.",
        "as --effort says; {memberscope.auditing.documents.effort:NORMAL.references} for defend",
        shown_in={
            "audit": "as --effort says",
            "plan": "as --effort says",
            "defend": "{memberscope.auditing.documents.effort:NORMAL.references}",
        },
        panel=REFERENCES,
    )
    reference_size: int | None = add_key(
        "recipe",
        "Records in the training data of a reference model.",
        "as many as members",
        panel=REFERENCES,
    )
    targets: int | None = add_key(
        "recipe",
        "Further target models to train and audit, for what the training procedure does.",
        "{memberscope.auditing:Plan.targets}",
        verbs=AUDIT,
        panel=REFERENCES,
    )
    views: tuple[str, ...] | None = add_key(
        "recipe",
        "Queries about each record, identity first, such as identity,flip,shift:1:0,noise:0.1.",
        "{memberscope.auditing:Plan.views}",
        verbs=AUDIT,
        panel=REFERENCES,
    )
    population: str | None = add_key(
        "recipe", "Records that no model was trained on.", "none", panel=REFERENCES, is_path=True
    )
    design: str | None = add_key(
        "recipe",
        "An .npz with `inside` (models, records), members first: who trains which reference model.",
        "drawn",
        verbs=AUDIT,
        panel=REFERENCES,
        is_path=True,
    )
    keep_weights: bool | None = add_key(
        "recipe",
        "Keep the trained models in the output folder.",
        "{memberscope.auditing:Training.keep_weights}",
        verbs=AUDIT,
        panel=REFERENCES,
    )
    precision: str | None = add_key(
        "recipe",
        'How a TorchRecipe trains: "float32", "bfloat16" or "float64".',
        "as the recipe says",
        panel=REFERENCES,
    )
    backend: str | None = add_key(
        "recipe",
        'Where models are trained: "loky" (processes), "sequential", "dask" or "ray".',
        "{memberscope.recipes:Execution.backend}",
        panel=REFERENCES,
    )
    address: str | None = add_key(
        "recipe",
        "Address of the Dask scheduler, or of the Ray cluster.",
        panel=REFERENCES,
        flag=("--address", "--scheduler"),
    )
    jobs: int | None = add_key(
        "recipe",
        "Models trained at a time.",
        "{memberscope.recipes:Execution.n_jobs}, all cores",
        panel=REFERENCES,
    )
    model_timeout: float | None = add_key(
        "recipe", "Seconds that training one model may take.", "no limit", panel=REFERENCES
    )

    restrict: str | None = add_key(
        "threat",
        "What the endpoint does to outputs, such as top:3, round:2, top:3+round:2 or label; of a "
        "language model no-logprobs, top:k or round:n.",
        "nothing",
        verbs=AUDIT,
        panel=THREAT,
    )
    restrictions: tuple[str, ...] | None = add_key(
        "threat",
        "Restrictions to try beside it; none for no other.",
        "{memberscope.auditing:Plan.restrictions}",
        verbs=AUDIT,
        panel=THREAT,
    )
    query_budget: int | None = add_key(
        "threat",
        "Queries an adversary may make about a record.",
        "no limit",
        verbs=AUDIT,
        panel=THREAT,
    )
    known_records: bool | None = add_key(
        "threat",
        "Whether the adversary knows which of some other records were members.",
        "{memberscope.types:ThreatModel.known_records}",
        verbs=AUDIT,
        panel=THREAT,
        flag="--known-records/--no-known-records",
    )
    search_queries: int | None = add_key(
        "threat",
        "Queries about a record for each label-only search, 0 for none.",
        "as --effort says; {memberscope.auditing.defend:SEARCHED} for defend",
        shown_in={
            "audit": "as --effort says",
            "plan": "as --effort says",
            "defend": "{memberscope.auditing.defend:SEARCHED}",
        },
        panel=THREAT,
    )
    boundary_queries: int | None = add_key(
        "threat",
        "Queries about a record for the search of the decision boundary alone.",
        "as search_queries, where that is given; else as --effort says",
        verbs=AUDIT,
        panel=THREAT,
    )
    prior: float | None = add_key(
        "threat",
        "Share of members among the records that an adversary would try.",
        "{memberscope.types:ThreatModel.prior}",
        panel=THREAT,
    )
    priors: tuple[float, ...] | None = add_key(
        "threat",
        "Further shares at which precision is reported.",
        "{memberscope.auditing:Plan.priors}",
        verbs=AUDIT,
        panel=THREAT,
    )

    attacks: tuple[str, ...] | None = add_key(
        "audit",
        "Attacks to run.",
        "all; for defend without those that seldom win",
        shown_in={"audit": "all", "plan": "all", "defend": "all but those that seldom win"},
        panel=MEASURING,
    )
    attack_file: tuple[str, ...] | None = add_key(
        "audit",
        "A Python file with attacks or signals of your own, which run too; its code is run.",
        "none",
        verbs=AUDIT,
        panel=MEASURING,
        is_path=True,
        is_repeated=True,
    )
    fprs: tuple[float, ...] | None = add_key(
        "audit",
        "False-positive rates to report, such as 0.01,0.001.",
        "those of {memberscope.auditing.documents.plan:DEFAULT_FPRS} that the records resolve",
        panel=MEASURING,
        flag="--fpr",
    )
    confidence: float | None = add_key(
        "audit",
        "Confidence of every interval.",
        "{memberscope.auditing:Plan.confidence}",
        panel=MEASURING,
    )
    folds: int | None = add_key(
        "audit",
        "Folds of cross-fitting, for attacks that learn from known records.",
        "{memberscope.auditing:Plan.folds}",
        verbs=AUDIT,
        panel=MEASURING,
    )
    seed: int | None = add_key(
        "audit", "Seed of every random choice.", "{memberscope.auditing:Plan.seed}", panel=MEASURING
    )
    assume_exchangeable: bool | None = add_key(
        "audit",
        "Declare that the split was random, where nothing can check it.",
        "{memberscope.auditing:Plan.assume_exchangeable}",
        verbs=AUDIT,
        panel=MEASURING,
    )
    assume_class_order: bool | None = add_key(
        "audit",
        "Declare that the classes stand in the model's order.",
        "{memberscope.auditing:Plan.assume_class_order}",
        verbs=AUDIT,
        panel=MEASURING,
    )
    all_estimates: bool | None = add_key(
        "audit",
        "Estimate every attack by class and group, not only the leading one of each level.",
        "{memberscope.auditing:Plan.all_estimates}",
        verbs=AUDIT,
        panel=MEASURING,
    )
    coins: bool | None = add_key(
        "audit",
        "Declare that fair coins decided membership.",
        "false",
        verbs=AUDIT,
        panel=MEASURING,
    )
    drop_overlap: bool | None = add_key(
        "audit",
        "Leave out duplicates, and units on both sides.",
        "{memberscope.auditing:Plan.drop_overlap}",
        verbs=AUDIT,
        panel=MEASURING,
    )
    accept_limited: bool | None = add_key(
        "audit",
        "Exit 0, not 3, on a PASS that is limited since attacks with reference models did not run.",
        "false",
        verbs=AUDIT,
        panel=MEASURING,
    )

    defences: tuple[str, ...] | None = add_key(
        "defend",
        "Defences to compare, such as l2:0.001,dropout:0.5,dpsgd:eps=8,memguard:1,depth:2|4.",
        "those that fit the recipe",
        verbs=("defend",),
        panel=DEFENCES,
    )
    canaries: int | None = add_key(
        "defend",
        "Worst-case records of each kind to insert, 0 for none.",
        "up to {memberscope.auditing.defend:MOST_CANARIES}",
        verbs=("defend",),
        panel=DEFENCES,
    )

    questions: tuple[str, ...] | None = add_key(
        "set",
        'What to ask about the members as a collection: "used" (was it used?), "not_used" (was less '
        'than margin of it used?), "share" (how much of it?), "list" (which records?) or "near" (was '
        "anything near them, each unit being the variants of a record?).",
        "all that the audit can answer",
        verbs=(SET_VERB,),
        panel=SETS,
    )
    fdr: float | None = add_key(
        "set",
        "Share of the named list that may be wrong, on average.",
        "{memberscope.auditing.sets:SetSettings.fdr}",
        verbs=(SET_VERB,),
        panel=SETS,
    )
    margin: float | None = add_key(
        "set",
        "Share of the collection below which it counts as not used.",
        "{memberscope.auditing.sets:SetSettings.margin}",
        verbs=(SET_VERB,),
        panel=SETS,
    )
    significance: float | None = add_key(
        "set",
        "Chance that a collection which was not used is called used.",
        "{memberscope.auditing.sets:SetSettings.significance}",
        verbs=(SET_VERB,),
        panel=SETS,
    )

    audit_canaries: int | None = add_option(
        "Train by the recipe with so many canaries, and bound epsilon by them.",
        default=None,
        verbs=AUDIT,
        panel=CANARIES,
        flag="--canaries",
    )
    canary_kind: str | None = add_option(
        "What the canaries are: natural, or mislabelled for the worst case.",
        default=None,
        shown=CANARY_KIND,
        verbs=AUDIT,
        panel=CANARIES,
    )
    claimed: float | None = add_option(
        "The epsilon that is claimed; exit 1 if the canaries refute it.",
        default=None,
        shown="what accounting proves of the recipe",
        verbs=AUDIT,
        panel=CANARIES,
    )

    out: str | None = add_key(
        "audit",
        "The folder to write, and to resume where an earlier run left off.",
        f"{OUT['audit']}; {CANARY_OUT} with --canaries; {OUT['defend']} for defend",
        shown_in={
            "audit": f"{OUT['audit']}; {CANARY_OUT} with --canaries",
            "plan": f"{OUT['plan']}; {CANARY_OUT} with --canaries",
            "defend": OUT["defend"],
        },
        panel=OUTPUT,
        is_path=True,
    )

    title: str | None = add_key(
        "audit", "Title of the report.", "the target's name", verbs=AUDIT, panel=OUTPUT
    )
    history: str | None = add_key(
        "audit",
        "The file of past audits that this one is appended to.",
        HISTORY,
        panel=OUTPUT,
        is_path=True,
    )
    no_history: bool | None = add_option(
        "Append to no file of past audits.",
        default=None,
        shown="false",
        verbs=ALL_VERBS,
        panel=OUTPUT,
    )
    no_records: bool | None = add_option(
        "Write no ids and no records.csv.", default=None, shown="false", verbs=AUDIT, panel=OUTPUT
    )
    show_ids: bool | None = add_option(
        "Show ids in the report instead of hashes.",
        default=None,
        shown="false",
        verbs=AUDIT,
        panel=OUTPUT,
    )
    overwrite: bool | None = add_option(
        "Replace the result of another audit in the output folder.",
        default=None,
        shown="false",
        verbs=ALL_VERBS,
        panel=OUTPUT,
    )
    verbose: bool | None = add_option(
        "Print the long tables and every note, not the summary alone.",
        default=None,
        shown="false",
        verbs=AUDIT,
        panel=OUTPUT,
    )
    measure: bool | None = add_option(
        "Train some reference models to see how long they take.",
        default=None,
        shown="false",
        verbs=("plan",),
        panel=OUTPUT,
    )
    token_price: float | None = add_option(
        "Price of a token, for what reference fine-tunes of a language model cost in money.",
        default=None,
        verbs=("plan",),
        panel=OUTPUT,
    )
