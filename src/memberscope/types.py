"""Values that several packages share.

Plain frozen data with documented shapes, and the protocols at the borders.

Scores point one way everywhere: a higher score means more likely a member.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from memberscope.texts import TokenPart, TokenSignals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Measurement = Literal[
    "boundary",
    "noise",
    "augmentation",
    "transfer",
    "gradient_norm",
    "gradient_layers",
    "activations",
    "influence",
    "custom",
    "tokens",
    "token_features",
    "generations",
]
Task = Literal["classification", "text", "regression", "multilabel", "forecast", "table"]
# Levels of access stand on one ladder for classes, one for texts, and one for real outputs
Ladder = Literal["classification", "text", "outputs"]
# What one answer can be, and then what takes more than one answer
Signal = (
    Literal[
        "labels",
        "loss",
        "probabilities",
        "logits",
        "logit_confidence",
        "log_confidence",
        "prediction",
        "label_probabilities",
        "proximity",
    ]
    | Measurement
)
# The signals that are one number a record
OneNumber = Literal[
    "logit_confidence", "boundary", "noise", "augmentation", "gradient_norm", "influence"
]
# Tasks of models that predict numbers, or several labels a record
OUTPUT_TASKS: tuple[Task, ...] = ("regression", "multilabel", "forecast")
# Whole answers of models with real outputs, or with several labels a record
OUTPUT_SIGNALS: tuple[Signal, ...] = ("prediction", "label_probabilities", "proximity")
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_RUN"]
Threshold = Literal["best", "transferred"]
Counted = Literal["records", "units", "records_ignoring_units"]
Metric = Literal[
    "auc",
    "tpr",
    "tpr_staircase",
    "ppv",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "fpr",
    "fnr",
    "advantage",
    "epsilon_lower",
    "epsilon_empirical",
]


class Access(IntEnum):
    """What one query returns to the adversary; each level contains the ones before it.

    Classifiers have the first four. Language models have a ladder of their own: texts that they
    generate, the most probable tokens while they do, the log-probabilities of tokens that the
    adversary gives, the same over the whole vocabulary, and the weights. Models that predict
    numbers or several labels have one level, the prediction. Levels of different ladders do not
    compare.

    >>> Access.LABEL < Access.LOGITS
    True
    >>> Access.PROBABILITIES.word, Access.PROBABILITIES.at("text").word
    ('probabilities', 'token_probabilities')
    >>> Access.PROBABILITIES.at("regression").word
    'prediction'
    """

    # Numbered from the least to the most, so that levels compare
    LABEL = 1
    PROBABILITIES = 2
    LOGITS = 3
    WHITE_BOX = 4
    GENERATIONS = 11
    TOP_TOKENS = 12
    TOKEN_PROBABILITIES = 13
    VOCABULARY = 14
    WEIGHTS = 15
    PREDICTION = 21

    @property
    def ladder(self) -> Ladder:
        """The ladder that the level stands on."""
        if self == Access.PREDICTION:
            return "outputs"
        return "classification" if self <= Access.WHITE_BOX else "text"

    def at(self, task: Task | Ladder) -> Access:
        """Give the level of a task, or of a ladder, that corresponds to this one.

        An attack on one number a record says the level of a classifier that shows it.
        """
        wanted = get_ladder(task)
        if wanted == self.ladder:
            return self
        if wanted == "outputs":
            return Access.PREDICTION
        base = CLASS_ACCESS.get(self, self)
        return TEXT_ACCESS[base] if wanted == "text" else base

    @property
    def word(self) -> str:
        """The level's name in files and on the command line, such as `white_box`."""
        return self.name.lower()


TEXT_ACCESS = {
    Access.LABEL: Access.GENERATIONS,
    Access.PROBABILITIES: Access.TOKEN_PROBABILITIES,
    Access.LOGITS: Access.VOCABULARY,
    Access.WHITE_BOX: Access.WEIGHTS,
}
CLASS_ACCESS = {text: level for level, text in TEXT_ACCESS.items()} | {
    Access.TOP_TOKENS: Access.LABEL,
    Access.PREDICTION: Access.PROBABILITIES,
}


def get_ladder(task: Task | Ladder) -> Ladder:
    """Get the ladder of access of a task.

    >>> get_ladder("text"), get_ladder("forecast")
    ('text', 'outputs')
    """
    if task == "classification" or task == "text":
        return task
    return "outputs"


def list_access_levels(task: Task) -> tuple[Access, ...]:
    """List the levels of a task, from the least to the most.

    >>> [access.word for access in list_access_levels("classification")]
    ['label', 'probabilities', 'logits', 'white_box']
    """
    return tuple(access for access in Access if access.ladder == get_ladder(task))


def list_access_words() -> list[str]:
    """List the names of all levels, those of classifiers first.

    >>> list_access_words()[:2]
    ['label', 'probabilities']
    """
    return [access.word for access in Access]


# White-box measurements need the parameters; searches need no more than labels
MEASURED_AT: dict[Measurement, Access] = {
    "boundary": Access.LABEL,
    "noise": Access.LABEL,
    "augmentation": Access.LABEL,
    "transfer": Access.LABEL,
    "gradient_norm": Access.WHITE_BOX,
    "gradient_layers": Access.WHITE_BOX,
    "activations": Access.WHITE_BOX,
    "influence": Access.WHITE_BOX,
}


@dataclass(frozen=True, eq=False)
class Records:
    """The records of an audit; never part of a result.

    `x` is an array (n, ...), a data frame, or None when only stored signals are at hand; `y` (n,)
    holds 0-based classes, or (n,) or (n, d) the true numbers of a model with real outputs, or
    (n, k) of 0 and 1 the labels of one with several; `ids` (n,) are unique strings; each entry of
    `groups` is (n,) of strings.
    `unit` (n,) names the person or document that each record belongs to, None where each record
    stands for itself.
    """

    x: Any
    y: NDArray[Any]
    ids: NDArray[np.str_]
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    unit: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.y)


@runtime_checkable
class Target(Protocol):
    """The audited model, seen through what one query returns.

    The only border with frameworks and networks. `memberscope.facts.TargetFacts` lists what a
    target may offer in addition.
    """

    @property
    def access(self) -> Access:
        """The most that a query returns."""
        ...

    @property
    def signal(self) -> Signal:
        """What the columns of `query` are."""
        ...

    @property
    def n_classes(self) -> int:
        """Number of classes, k."""
        ...

    @property
    def digest(self) -> str | None:
        """Hash of everything that decides the outputs.

        None if it cannot be known (then nothing is cached).
        """
        ...

    @property
    def n_parameters(self) -> int | None:
        """Trainable parameters, or None if the framework does not tell."""
        ...

    def query(self, x: Any) -> Floats:
        """Query the outputs (n, k) for the records `x`; labels and losses are (n, 1)."""
        ...


@runtime_checkable
class Differentiable(Protocol):
    """What a target also has if its parameters are open to the adversary."""

    def inside(self, x: Any, y: Ints, spec: SignalSpec) -> Floats:
        """Measure the white-box signal `spec` (n, d) of the records `x` with true classes `y` (n,).

        It is that of the model's eval mode.
        """
        ...


@runtime_checkable
class OutputDefence(Protocol):
    """What is done to a model's answers before anybody sees them.

    The same object in an audit and in front of a served model.
    """

    @property
    def name(self) -> str:
        """Its name with its parameters, such as `top:3`.

        Unique, and enough to make it again unless it is fitted.
        """
        ...

    @property
    def signal(self) -> Signal:
        """What its answers are: probabilities, or labels."""
        ...

    @property
    def hides(self) -> bool:
        """Whether its answers leave something out: classes (NaN), digits, or all but the label."""
        ...

    @property
    def digest(self) -> str:
        """What decides its answers: the name, with a hash of what it was fitted to."""
        ...

    def fit(self, outputs: Floats, member: Bools) -> OutputDefence:
        """Fit to answers (n, k) about members and others; gives itself, or a fitted copy.

        `member` (n,) marks the records that trained the model.
        """
        ...

    def __call__(self, outputs: Floats) -> Floats:
        """Give the answers (n, k) for probabilities (n, k), NaN where a class is hidden.

        Labels are (n, 1).
        """
        ...


@runtime_checkable
class Recipe(Protocol):
    """How to train a model like the target: a function of records and a seed.

    A training defence is Recipe -> Recipe. `memberscope.facts.RecipeFacts` lists what a recipe may
    offer in addition, such as a `digest`, without which nothing trained is kept between runs.
    """

    def __call__(self, records: Records, seed: int) -> Any:
        """Train a model on `records`: a Target, or anything that `wrap` makes one of."""
        ...


@runtime_checkable
class TrainingDefence(Protocol):
    """What is done to training: from a recipe to a recipe."""

    @property
    def name(self) -> str:
        """Its name with its parameters, such as `l2:0.001`."""
        ...

    def __call__(self, recipe: Recipe) -> Recipe:
        """Make the recipe of defended models."""
        ...


@runtime_checkable
class OneNumberSignal(Protocol):
    """A signal of somebody's own: one number a record, as `attacks.CustomSignal` declares it."""

    @property
    def name(self) -> str:
        """Its name, unique within a plan."""
        ...

    @property
    def access(self) -> Access:
        """What a query has to return for it."""
        ...

    @property
    def queries(self) -> int:
        """The most queries a record that it makes."""
        ...

    @property
    def digest(self) -> str:
        """Hash of the code that measures it."""
        ...

    def measure_records(self, target: Target, records: Records) -> Floats:
        """Measure the records (n,), higher for likelier members."""
        ...


@dataclass(frozen=True)
class SignalSpec:
    """What is observed about a record under a model.

    It is the key, with the contents, of everything cached.

    `name` is `outputs` for the answer to one query, or the one number a record that is kept of it:
    `logit_confidence`, log p_y - log(1 - p_y), or `log_confidence`, log p_y, each at a
    `temperature` among the parameters. `views` names the transformed copies queried. A
    `Measurement` takes more than one answer (label-only search) or more than answers (gradients).
    Where it is one number a record it lies on the scale of a logit: higher for likelier members,
    sigmoid(value) in the place of the confidence. `own` is what measures the signal `custom`.
    """

    name: Literal["outputs", "logit_confidence", "log_confidence"] | Measurement = "outputs"
    views: tuple[str, ...] = ("identity",)
    parameters: tuple[tuple[str, float], ...] = ()
    # Raised whenever some signal gets other values, so that nothing older is taken from a store
    version: int = 2
    own: OneNumberSignal | None = None

    @property
    def title(self) -> str:
        """What a reader knows it by."""
        return self.name if self.own is None else self.own.name

    @property
    def source(
        self,
    ) -> Literal["answer", "search", "white_box", "student", "custom", "tokens", "generations"]:
        """What it is observed on.

        It is the answer to one query, new queries about moved records, the inside of the model,
        models that were trained on the target's labels, whatever a signal of one's own asks, the
        tokens of a text, or texts that the model generates.

        >>> SignalSpec().source, SignalSpec("boundary").source, SignalSpec("transfer").source
        ('answer', 'search', 'student')
        """
        if self.name == "custom":
            return "custom"
        if self.name in ("tokens", "token_features"):
            return "tokens"
        if self.name == "generations":
            return "generations"
        # Searched at labels as well, but on models of one's own
        if self.name == "transfer":
            return "student"
        at = {str(name): access for name, access in MEASURED_AT.items()}.get(self.name)
        if at is None:
            return "answer"
        return "search" if at == Access.LABEL else "white_box"


@dataclass(frozen=True)
class Needs:
    """What an attack must be given; it refuses evidence that lacks any of it.

    `known` says which records of known truth it learns from; `references` counts reference models
    in and out per record. `tasks` are those of the models that it attacks, and `tokens` the parts
    of `Evidence.tokens` that it reads beside the log-probability of each token.
    """

    access: Access = Access.PROBABILITIES
    signals: tuple[Signal, ...] = ("probabilities", "logits")
    spec: SignalSpec = SignalSpec()
    known: Literal["none", "non_members", "both"] = "none"
    features: bool = False
    population: bool = False
    references: tuple[int, int] = (0, 0)
    tasks: tuple[Task, ...] = ("classification",)
    tokens: tuple[TokenPart, ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that an attack may see.

    The truth appears only in `known`, where the threat model grants it.

    `signal` says what `target` (n, views, d) holds; `labels` (n,) are true classes, or (n, d) the
    true numbers or labels of the signals `prediction` and `label_probabilities`; `known` (n,) is
    1 for a known member, 0 for a known non-member, -1 for a hidden record, and only hidden records
    are scored. `references` (m, n, views, d) is the same signal under m reference models and
    `inside` (m, n) who was trained into them. `features` is (n, f). `tokens` is what a language
    model says about the tokens of each record; `target` then is their mean log-probability.
    """

    signal: Signal
    target: NDArray[Any]
    labels: NDArray[Any]
    known: NDArray[np.int8]
    references: NDArray[Any] | None = None
    inside: Bools | None = None
    features: Floats | None = None
    population: Evidence | None = None
    tokens: TokenSignals | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def hidden(self) -> Bools:
        """Mask (n,) of the records to score."""
        return self.known < 0

    @property
    def n_references(self) -> int:
        """Number of reference models, m."""
        return 0 if self.references is None else len(self.references)


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass whose fields are its parameters.

    It turns evidence into scores and does nothing else. One whose scores are log likelihood ratios
    may say so by an attribute `log_ratio` that is true: those of a person's records are then added,
    where they would else be averaged.
    """

    @property
    def name(self) -> str:
        """Lower-case name of this attack with its parameters, unique within a plan."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever the same evidence gives other scores."""
        ...

    @property
    def needs(self) -> Needs:
        """What it must be given."""
        ...

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Score records (n,), higher for likelier members, NaN where a record is not hidden."""
        ...


@dataclass(frozen=True)
class ThreatModel:
    """The adversary: what a query returns, what is known, how many queries, how rare members are.

    `prior` is the share of members among the records an adversary would try; `query_budget` counts
    queries per record. `known_records` grants the truth about other records, `population` records
    that no model was trained on, `references` models trained like the target, at most so many. None
    grants what the audit is given. Attacks that need what is not granted are not run.
    """

    access: Access = Access.PROBABILITIES
    restriction: str | None = None
    known_records: bool = True
    population: bool | None = None
    references: int | None = None
    query_budget: int | None = None
    prior: float = 0.01


@dataclass(frozen=True)
class Estimate:
    """One number with its interval, its counts, its method and the conditions it holds under.

    `threshold` tells whether the decision threshold was the best on these data (optimistic) or
    transferred from other records. `exploratory` is true for all numbers outside the policy's
    claims. Of the strongest of several attacks, `reached_by` names the one that reached the value.
    `of` tells what is counted: records; units (people or documents), each with one score; or
    records with their units ignored, whose limits are too narrow.
    """

    attack: str
    access: str
    metric: Metric
    value: float
    low: float
    high: float
    confidence: float
    method: str
    n_members: int
    n_non_members: int
    queries: int
    target: str = "target"
    restriction: str | None = None
    group: str | None = None
    fpr: float | None = None
    prior: float | None = None
    threshold: Threshold | None = None
    exploratory: bool = True
    warning: str | None = None
    reached_by: str | None = None
    of: Counted = "records"

    @property
    def reaching_attack(self) -> str:
        """The attack whose number this is: itself, or the one that reached the strongest value."""
        return self.reached_by or self.attack


@dataclass(frozen=True)
class Finding:
    """One judged claim: the verdict, the rule, the estimate it rests on, and what to do.

    A PASS is `limited` where attacks with reference models, which the policy requires, did not run.
    """

    verdict: Verdict
    claim: str
    attack: str
    access: str
    rule: str
    advice: str
    estimate: Estimate | None = None
    limited: bool = False
