"""The tables of `guard.toml`, one model each, with defaults and checks within the table."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from memberscope.errors import InputError
from memberscope.guard.hashing.canonical import Coercion, Dtype, RecordForm
from memberscope.outputs import (
    NONE,
    list_randomised_parts,
    parse_restriction,
    without_noise_keys,
)
from memberscope.wire import Endpoint, parse_path

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Detector = Literal["volume", "probing", "boundary", "membership", "coverage"]
Response = Literal["alert", "throttle", "coarsen", "step_up", "block"]  # from mildest to hardest
Kind = Literal["tabular", "image", "text"]
Source = Literal["api_key", "jwt", "mtls", "network"]
Dtypes = tuple[tuple[str, Dtype], ...]  # of columns, by name


class PolicyTable(BaseModel):
    """Table of the policy: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RateLimit(PolicyTable):
    """Budget: a token bucket that holds `n` records and is full again after `seconds`.

    >>> RateLimit.of("600/h")
    RateLimit(n=600, seconds=3600.0)
    """

    n: int = Field(ge=1)
    seconds: float = Field(gt=0)

    @classmethod
    def of(cls, text: Any) -> RateLimit:
        """Parse a rate such as `600/h`, `5/d`, `10/s` or `100/15m`.

        Raises:
            ValueError: It is none.
        """
        if isinstance(text, RateLimit):
            return text
        # As a policy in a message to the monitor has it
        if isinstance(text, dict):
            return cls.model_validate(text)
        # At most twelve digits of records and six of time, so that no rate is absurdly large
        found = re.fullmatch(
            r"\s*([1-9][0-9]{0,11})\s*/\s*([1-9][0-9]{0,5})?\s*([smhd])\s*",
            text if isinstance(text, str) else "",
        )
        if not found:
            raise ValueError(
                f'Expected a rate such as "600/h", got {text!r}. Write records/s, /m, /h or /d.'
            )
        return cls(n=int(found[1]), seconds=int(found[2] or 1) * SECONDS[found[3]])


def check_served_defence(name: str) -> str:
    """Check the name of a defence that a guard serves, and give it back.

    Raises:
        ValueError: It is unknown, or has a seed, which would make its noise public.
    """
    if name == NONE:
        return name
    try:
        defence = parse_restriction(name)
    except InputError as error:
        raise ValueError(str(error)) from None
    served = without_noise_keys(defence).name
    if any(part.seed is not None for part in list_randomised_parts(defence)):
        raise ValueError(
            f"Expected a defence without a seed, since whoever knows the seed undoes the noise. "
            f"Write {served}: the key of [monitor] makes it secret"
        )
    return name


class ClientLimits(BaseModel):
    """Limits of one class of clients.

    `restrict` names the output defence (`none`, `top:3+round:2`, `label`); budgets are in records.

    `per_record` counts how often one client may ask about the same record. None is no limit.
    """

    model_config = PolicyTable.model_config
    restrict: str = "none"
    per_client: RateLimit | None = None
    per_record: RateLimit | None = None

    @field_validator("per_client", "per_record", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> Any:
        return None if value is None else RateLimit.of(value)

    @field_validator("per_record")
    @classmethod
    def _countable(cls, value: RateLimit | None) -> RateLimit | None:
        if value is not None and value.n > 100_000:
            raise ValueError("Expected at most 100000 a record. Write a smaller number")
        return value

    @field_validator("restrict")
    @classmethod
    def _known(cls, value: str) -> str:
        return check_served_defence(value)


class ClientClass(ClientLimits):
    """Class of clients: those for whom one of `who` holds.

    An entry is `kind:subject`, where the subject may end with `*`.

    For networks the subject is a CIDR, such as `network:10.0.0.0/8`.
    """

    name: str = Field(pattern=r"^[a-z0-9_-]{1,40}$")
    who: tuple[str, ...]

    @field_validator("who")
    @classmethod
    def _kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if (
                entry.partition(":")[0] not in ("api_key", "jwt", "mtls", "network")
                or not entry.partition(":")[2]
            ):
                # Not quoted, as a key may have been pasted in the place of its name
                raise ValueError(
                    "Expected who as api_key:…, jwt:…, mtls:… or network:…, got another text. "
                    "Write it in one of these forms."
                )
        return value


class ModeConfig(PolicyTable):
    """Mode: `observe` changes nothing and logs what `enforce` would do.

    `on_fault` says what an answer gets that cannot be protected.

    `closed` refuses it; `open` lets it through as it is, logged and counted. `total` is the budget
    of all clients together.
    """

    mode: Literal["observe", "enforce"] = "enforce"
    on_fault: Literal["closed", "open"] = "closed"
    total: RateLimit | None = None

    @field_validator("total", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> Any:
        return None if value is None else RateLimit.of(value)


class TextServing(PolicyTable):
    """Requests to a language model (protocol `openai`) beyond the usual ones.

    A prompt may have `max_samples` answers. Prompts of token numbers pass with `token_ids`; the
    same text is another record then. `logit_bias` and the further `parameters` pass where they are
    named: what forces tokens shows the model's preferences even without log-probabilities. Where
    log-probabilities are hidden, a request for them gets none, or with `on_hidden` "refuse" 400.
    """

    max_samples: int = Field(default=1, ge=1, le=128)
    token_ids: bool = False
    logit_bias: bool = False
    parameters: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,60}$")], ...] = ()
    on_hidden: Literal["remove", "refuse"] = "remove"


class ServingConfig(PolicyTable):
    """Requests and answers of the model's server, with the keys of an audit's `[target]`.

    `model_name` may be left out: all models then. `also` are further outputs (v2), or paths of
    further values in the answer (mlflow, json), that pass unchanged; others are dropped. `passed` are further requests, such as `GET /docs`, that pass
    unchanged; all that are neither guarded nor known harmless are refused. `path` is where requests
    in templated JSON are posted. `prefix` begins the paths of this model where a guard serves
    several; the server gets the path without it.

    `dtype` is what the server casts numbers to, for all or by column: records that are equal then
    are one record. `coercion` says what becomes of a number that is written as a word in a column of
    numbers: "strict" refuses it, and "numbers" reads it as the number, as the server must.

    With protocol `openai`, completions and chat of a language model, records are texts, and `texts`
    says what requests may ask.
    """

    prefix: str = Field(default="", pattern=r"^(/[A-Za-z0-9_.-]+)*$")
    protocol: Literal["v2", "mlflow", "json", "openai"] = "v2"
    model_name: str | None = None
    path: str | None = None
    body: str | None = None
    answer: str | None = None
    outputs: Literal["labels", "probabilities", "logits"] = "probabilities"
    task: Literal["classification", "regression", "multilabel", "forecast"] = "classification"
    classes: tuple[str, ...] | None = None
    n_classes: int | None = None
    columns: tuple[str, ...] = ()
    dtype: Dtype | Dtypes = "float32"
    coercion: Coercion = "strict"
    also: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    texts: TextServing = TextServing()

    @field_validator("dtype", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        # A table of TOML as pairs, which can be hashed
        return tuple(value.items()) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _usable(self) -> ServingConfig:
        if self.protocol == "openai":
            self._check_text_keys()
            return self
        try:
            # Building the endpoint checks the keys as an audit does; its address is never asked
            self.endpoint("http://upstream")
        except InputError as error:
            raise ValueError(str(error)) from None
        # Templated JSON has no path of its own, while the other protocols define theirs
        if self.protocol == "json" and not (self.path or "").startswith("/"):
            raise ValueError(
                'Expected the path of requests for protocol json, got none. Write path = "/predict".'
            )
        unknown = (
            [] if isinstance(self.dtype, str) else sorted(dict(self.dtype).keys() - {*self.columns})
        )
        if unknown:
            raise ValueError(
                f"Expected dtype of columns that are declared, got {unknown[0]!r}. Name it in columns."
            )
        if self.protocol != "v2":
            self._check_kept_paths()
        return self

    def _check_text_keys(self) -> None:
        """Refuse keys that say nothing of a language model.

        Raises:
            ValueError: One of them is set.
        """
        about = ("path", "body", "answer", "classes", "n_classes", "columns", "also")
        given = [key for key in about if getattr(self, key)]
        given += ["task"] if self.task != "classification" else []
        if given or self.outputs != "probabilities":
            raise ValueError(
                f"Expected no {given[0] if given else 'outputs'} with protocol openai, whose "
                "records are texts, got one. Remove it."
            )

    @property
    def form(self) -> RecordForm:
        """Form of records, as far as this table declares it."""
        if self.protocol == "openai":
            return RecordForm(width=1)
        if isinstance(self.dtype, str):
            return RecordForm(self.columns, dtypes=(self.dtype,), coercion=self.coercion)
        dtypes = dict(self.dtype)
        return RecordForm(
            self.columns,
            numeric=tuple(place for place, name in enumerate(self.columns) if name in dtypes),
            dtypes=tuple(dtypes.get(name, "float32") for name in self.columns),
            coercion=self.coercion,
        )

    def _check_kept_paths(self) -> None:
        """Refuse paths of further values that would let the answer itself pass.

        Raises:
            ValueError: One leads to the answer, into it, or to what holds it.
        """
        answer = parse_path(self.answer or ("predictions" if self.protocol == "mlflow" else ""))
        for text in self.also:
            try:
                steps = parse_path(text)
            except InputError as error:
                raise ValueError(str(error)) from None
            # A star stands for each place of a list
            pairs = zip(map(str, steps), map(str, answer), strict=False)
            if all(one == other or "*" in (one, other) for one, other in pairs):
                raise ValueError(
                    f"Expected paths beside the answer in also, got {text!r}, which leads to the "
                    "answer or to what holds it. Name single fields."
                )

    def endpoint(self, url: str, model_name: str | None = None) -> Endpoint:
        """Declare the endpoint as an audit of the same server does."""
        keys = ("protocol", "body", "answer", "outputs", "classes", "n_classes", "columns", "task")
        return Endpoint(
            url,
            model_name=model_name or self.model_name or "model",
            **{key: getattr(self, key) for key in keys},
        )


class ApiKey(PolicyTable):
    """Key of a client, known by the SHA-256 of its text in hexadecimal digits."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.@-]{1,80}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


Algorithm = Literal[
    "HS256",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Jwt(PolicyTable):
    """Verification of JSON Web Tokens in the Authorization header.

    `key_file` holds the public key (PEM), a JSON Web Key Set, or the secret of HS256; it is read
    again when it changes. `jwks_url` is where the issuer publishes a key set, in its place.
    `leeway` is by how many seconds clocks may differ. Where keys cannot be read again, the last
    ones count for `stale_seconds`.
    """

    key_file: str | None = None
    jwks_url: str | None = None
    algorithms: tuple[Algorithm, ...] = ("RS256",)
    audience: str | None = None
    issuer: str | None = None
    subject: str = "sub"
    leeway: float = Field(default=60.0, ge=0, le=600)
    stale_seconds: float = Field(default=86400.0, gt=0)

    @model_validator(mode="after")
    def _one_source(self) -> Jwt:
        if (self.key_file is None) == (self.jwks_url is None):
            raise ValueError("Expected key_file or jwks_url, got both or none. Give one")
        if self.jwks_url is not None:
            if not _is_key_address(self.jwks_url):
                raise ValueError(
                    "Expected jwks_url as https://…, without a password. Write such an address"
                )
            if any(word.startswith("HS") for word in self.algorithms):
                raise ValueError(
                    "Expected algorithms with public keys for jwks_url, got one of HS. Remove it"
                )
        return self


def _is_key_address(url: str) -> bool:
    """Tell whether keys can be fetched from an address without anybody changing them on the way.

    >>> [_is_key_address(f"{scheme}://id.example/keys") for scheme in ("https", "http", "file")]
    [True, False, False]
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    # Whoever can change what plain HTTP brings could sign tokens
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    return safe and bool(parts.hostname) and parts.username is None


class Identity(PolicyTable):
    """Identification of clients by the first source in `by` that a request proves.

    A request without credentials counts by its network, and `required` refuses it (401). One whose
    credential is wrong is always refused (401). `failures` is how many wrong ones a network may
    send; while it has sent too many, those that it did not prove before are refused (429).

    Headers that name a client or its address count only in requests from `trusted_proxies`.
    `forward` names headers with credentials that the model's server gets; it gets no others.
    """

    by: tuple[Source, ...] = ("network",)
    required: bool = False
    api_key_header: str = "x-api-key"
    keys: tuple[ApiKey, ...] = ()
    jwt: Jwt | None = None
    mtls_header: str = "x-ssl-client-s-dn"
    trusted_proxies: tuple[str, ...] = ()
    failures: RateLimit = RateLimit(n=20, seconds=60.0)
    forward: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,80}$")], ...] = ()
    prefix_v4: int = Field(default=32, ge=8, le=32)
    # A subscriber usually has a whole /64 of IPv6, and could change addresses within it
    prefix_v6: int = Field(default=64, ge=16, le=128)

    @field_validator("failures", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> Any:
        return RateLimit.of(value)


class GuardLimits(PolicyTable):
    """Limits in bytes, records, seconds and requests at once.

    A request beyond `queue` gets 503. One client may take `client_share` of `concurrency`, of
    `queue` and of the connections, and those of one network that prove nothing `network_share`.

    A body may unfold to `max_unfold` times its length, and hold `max_values` JSON values and
    `max_columns` named columns or tensors. Requests that a client had refused, and their bytes, are
    allowed as `refused` and `refused_bytes` say; beyond that its requests are not read.
    """

    max_body_bytes: int = Field(default=8 * 2**20, ge=1024)
    max_answer_bytes: int = Field(default=64 * 2**20, ge=1024)
    max_records: int = Field(default=4096, ge=1)
    max_unfold: float = Field(default=100.0, ge=1)
    max_values: int = Field(default=2**20, ge=1)
    max_columns: int = Field(default=16384, ge=1)
    refused: RateLimit = RateLimit(n=60, seconds=60.0)
    refused_bytes: RateLimit = RateLimit(n=2**27, seconds=120.0)
    body_timeout: float = Field(default=10.0, gt=0)
    parse_timeout: float = Field(default=5.0, gt=0)
    passed_timeout: float = Field(default=300.0, gt=0)
    connect_timeout: float = Field(default=5.0, gt=0)
    answer_timeout: float = Field(default=60.0, gt=0)
    concurrency: int = Field(default=64, ge=1)
    queue: int = Field(default=256, ge=0)
    client_share: float = Field(default=0.5, gt=0, le=1)
    network_share: float = Field(default=0.75, gt=0, le=1)
    # Answers are held until so long after the request, so that time tells less
    least_seconds: float = Field(default=0.0, ge=0)

    @field_validator("refused", "refused_bytes", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> Any:
        return RateLimit.of(value)


class MonitorConfig(PolicyTable):
    """Files and limits of the monitor. Paths are relative to the policy's folder.

    `key` holds the secret of all hashes and of the noise in answers, and `sketch` how records are sketched: without it nothing
    is watched. `fingerprints` of the training set lie elsewhere. `tuned` holds thresholds; without
    it nothing alarms. `log` is the access log of hashes and sketches, kept for `retention_days`.
    What the monitor knows of up to `clients` clients is kept in `memory` over a restart. `socket`
    is where `memberscope guard monitor` listens; without it the guard starts a monitor of its own.

    `unreadable` says what a request gets whose records the sketch cannot read: "refuse" answers 422;
    "log" lets it pass, writes a line without a sketch, counts it and alerts.
    """

    enabled: bool = True
    socket: str | None = None
    kind: Kind = "tabular"
    shape: tuple[int, ...] | None = None  # (h, w, c) or (c, h, w), where records are flat images
    key: str | None = None
    sketch: str | None = None
    tuned: str | None = None
    fingerprints: str | None = None
    log: str | None = None
    memory: str | None = None
    unreadable: Literal["refuse", "log"] = "refuse"
    retention_days: float = Field(default=30.0, gt=0)
    clients: int = Field(default=100_000, ge=1)


class Respond(PolicyTable):
    """Responses to alarms, for `minutes`.

    Membership alarms only alert: an answer that depended on them would tell who is a member.
    """

    volume: Response = "alert"
    probing: Response = "alert"
    boundary: Response = "alert"
    coverage: Response = "alert"
    minutes: float = Field(default=60.0, gt=0)
    throttle: RateLimit = RateLimit(n=60, seconds=3600.0)
    coarsen: str = "label"

    @field_validator("throttle", mode="before")
    @classmethod
    def _rate(cls, value: Any) -> Any:
        return RateLimit.of(value)

    @field_validator("coarsen")
    @classmethod
    def _known(cls, value: str) -> str:
        return check_served_defence(value)


class Alerts(PolicyTable):
    """Receivers of alarms.

    Alarms about membership are sent together every `digest_minutes`, if they have `digest_least`
    hits or more.
    """

    log: str | None = None
    webhook: str | None = None
    webhook_secret_env: str | None = None
    digest_minutes: float = Field(default=60.0, gt=0)
    digest_least: int = Field(default=5, ge=2)


class StateConfig(PolicyTable):
    """Store of budgets and of the monitor's state: this process, or Redis for several workers.

    One process keeps budgets in files in `folder` over a restart; without it they begin anew. For
    each refill time of a `per_record`, it has a table of `record_megabytes` MiB.
    """

    redis: str | None = None
    folder: str | None = None
    record_megabytes: int = Field(default=64, ge=1, le=65536)
    prefix: str = Field(default="memberscope", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    timeout: float = Field(default=0.25, gt=0)

    @model_validator(mode="after")
    def _one_place(self) -> StateConfig:
        if self.redis is not None and self.folder is not None:
            raise ValueError("Expected redis or folder, got both. Remove one")
        return self


class UpstreamsConfig(PolicyTable):
    """Addresses of the model's server, used where the command line gives none.

    Every `health_seconds` each of several is asked for `health_path`, or without one whether it
    accepts a connection; after `fail_after` failures in a row it gets no requests until it answers.
    """

    urls: tuple[str, ...] = ()
    health_path: str | None = Field(default=None, pattern=r"^/[\x21-\x7e]*$")
    health_seconds: float = Field(default=5.0, gt=0)
    fail_after: int = Field(default=2, ge=1)


class TelemetryConfig(PolicyTable):
    """Traces and metrics for OpenTelemetry, sent as its variables OTEL_* say, under this name."""

    traces: bool = False
    metrics: bool = False
    service: str = "memberscope-guard"


class AdminConfig(PolicyTable):
    """Token of the operators' port, in a file or in an environment variable.

    Without one, whoever reaches the port may read the metrics and have the policy read again.
    """

    token_file: str | None = None
    token_env: str | None = None

    @model_validator(mode="after")
    def _single(self) -> AdminConfig:
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("Expected token_file or token_env, got both. Keep one of them.")
        return self


class MeasuredClaim(PolicyTable):
    """Claim of the audit that this policy rests on: its digest, level, limit and upper bound.

    `outputs` are those of the level (None: not said), and `attacks` all that ran there. What is
    served must follow from the level.
    """

    result: str
    level: str
    fpr: float | None = None
    claim: str = ""
    limit: float
    upper: float
    attack: str
    confidence: float
    outputs: Literal["labels", "probabilities", "logits"] | None = None
    attacks: tuple[str, ...] = ()
