"""The options of a live endpoint, `[target] url = …`: every field is a key of `audit.toml` and a flag of `audit` and `plan`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints
from urllib.parse import urlsplit

import typer

from memberscope.cli.keys import KEYS, is_list
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.cli.keys import Options
    from memberscope.targets import Loaded
    from memberscope.types import Target

LISTED = tuple(name for name in KEYS if is_list(name))  # keys whose flag is comma-separated


def flags(
    *,
    url: Annotated[str | None, typer.Option(help="A served model to ask over HTTP.")] = None,
    protocol: Annotated[str | None, typer.Option(help="v2 (Open Inference Protocol), mlflow or json.")] = None,
    model_name: Annotated[str | None, typer.Option(help="Name of the served model (v2).")] = None,
    model_version: Annotated[str | None, typer.Option(help="Version of the served model.")] = None,
    body: Annotated[str | None, typer.Option(help='Request with a place for records: {"instances": "$records"}.')] = None,
    answer: Annotated[str | None, typer.Option(help="Output wanted (v2), or path such as predictions[*].probs.")] = None,
    outputs: Annotated[str | None, typer.Option(help="What one answer holds: labels, probabilities or logits.")] = None,
    classes: Annotated[str | None, typer.Option(help="Names of the classes in the server's order.")] = None,
    n_classes: Annotated[int | None, typer.Option(help="Number of classes, if they have no names.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Classes that one answer tells, if not all.")] = None,
    columns: Annotated[str | None, typer.Option(help="Names of the features, if the server wants them.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Records a request (64).")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at a time (4).")] = None,
    rate: Annotated[float | None, typer.Option(help="Most requests a second.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a request may take (60).")] = None,
    connect_timeout: Annotated[float | None, typer.Option(help="Seconds to connect (10).")] = None,
    read_timeout: Annotated[float | None, typer.Option(help="Seconds without a byte (as --timeout).")] = None,
    retries: Annotated[int | None, typer.Option(help="Further tries of a request (4).")] = None,
    auth_env: Annotated[str | None, typer.Option(help="Environment variable that holds the token.")] = None,
    auth_header: Annotated[str | None, typer.Option(help="Header that takes it (Authorization, as a bearer).")] = None,
    ca_file: Annotated[str | None, typer.Option(help="Certificates to trust instead of the system's (PEM).")] = None,
    max_queries: Annotated[int | None, typer.Option(help="Most records ever sent, retries included.")] = None,
) -> None:
    """The flags, as a signature for `with_endpoint_flags`."""


def with_endpoint_flags(verb: Callable[..., None]) -> Callable[..., None]:
    """The `verb` with the flags of an endpoint in place of its `**` parameter, which gets them by key.

    >>> def verb(config: str = "", **endpoint: Any) -> None: ...
    >>> list(inspect.signature(with_endpoint_flags(verb)).parameters)[:3]
    ['config', 'url', 'protocol']
    """
    own = [entry for entry in inspect.signature(verb).parameters.values() if entry.kind is not entry.VAR_KEYWORD]
    names = {entry.name for entry in own}
    hints = get_type_hints(flags, include_extras=True) | get_type_hints(verb, include_extras=True)
    more = [entry for name, entry in inspect.signature(flags).parameters.items() if name not in names]
    both = [entry.replace(annotation=hints[entry.name]) for entry in (*own, *more)]

    @functools.wraps(verb)
    def flagged(*args: Any, **given: Any) -> None:
        split = {key: listed(given[key]) for key in LISTED if key in given}
        verb(*args, **(given | split))

    flagged.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    flagged.__annotations__ = {entry.name: hints[entry.name] for entry in both}
    del flagged.__wrapped__
    return flagged


def listed(text: str | None) -> tuple[str, ...] | None:
    """A comma-separated flag as its parts."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def no_model_beside(options: Options) -> None:
    """Refuse an endpoint beside a model or signals, and an endpoint's keys without one.

    Raises:
        InputError: They were given together.
    """
    if options.url and (options.model or options.signals):
        raise InputError(f"Expected one target, got --url and --{'model' if options.model else 'signals'}. Leave one out.")
    alone = [key for key in KEYS if key not in ("url", "outputs", "batch_size") and getattr(options, key) is not None]
    if alone and not options.url:
        flag = "--" + alone[0].replace("_", "-")
        raise InputError(f"Expected --url with {flag}, got none. Say where the endpoint is, or leave {flag} out.")


def endpoint_target(options: Options) -> Loaded:
    """The endpoint that the options describe, its ledger in the output folder; nothing is sent.

    Raises:
        InputError: A value is not usable, or the classes have names in the records and none in the options.
    """
    from memberscope.targets import Endpoint, HttpTarget, Loaded
    from memberscope.targets.transport import shown

    said = {key: getattr(options, key) for key in KEYS if getattr(options, key) is not None}
    if options.classes is not None:
        said["classes"] = tuple(str(name) for name in options.classes)
    if options.classes is None and options.n_classes is None:
        said["n_classes"] = classes_in_records(options)
    endpoint = Endpoint(**said)
    ledger = Path(options.out or "memberscope-out") / "ledger.sqlite"
    target = HttpTarget(endpoint, ledger=ledger, query_budget=options.query_budget)
    plain = " without encryption" if endpoint.url.startswith("http:") else ""
    note = f"Asked {shown(endpoint.url)} over HTTP (protocol {endpoint.protocol}){plain}."
    return Loaded(target, (note,))


def classes_in_records(options: Options) -> int:
    """The number of classes where the records number them.

    Raises:
        InputError: The records name them, which tells nothing of the server's order.
    """
    from memberscope.cli.options import layout_of
    from memberscope.targets import FunctionTarget, read_pair

    unknown = FunctionTarget(lambda x: x, n_classes=2)
    names = read_pair(options.members or "", options.non_members or "", layout_of(options, unknown), None)[2]
    if not all(name.isdigit() for name in names):
        raise InputError(
            f"Expected --classes in the order of the server's answers, got none, and the records name {', '.join(names[:6])}. Give it."
        )
    return max(2, len(names))


def endpoint_name(options: Options) -> str:
    """What an audit of an endpoint is called: the model's name or the host."""
    return options.model_name or (urlsplit(options.url).hostname if options.url else None) or "audit"


def requests_planned(target: Target, queries: int) -> list[str]:
    """Lines for `plan`: requests, and minutes at the rate limit; only the ledger of an earlier run is looked at."""
    from memberscope.targets import HttpTarget

    if not isinstance(target, HttpTarget):
        return []
    endpoint = target.endpoint
    requests = -(-queries // endpoint.rows_a_request)
    line = f"requests {requests} of up to {endpoint.rows_a_request} records, {endpoint.concurrency} at a time"
    if endpoint.rate is not None:
        line += f"; at {endpoint.rate:g} a second at least {requests / endpoint.rate / 60:.1f} minutes"
    lines = [line]
    if target.ledger is not None and target.ledger.is_file():
        spent = target.spent()
        target.close()
        lines.append(
            f"ledger   {spent.answered} answers of an earlier run, {spent.sent} records sent, {spent.unanswered} without an answer"
        )
    if endpoint.max_queries is not None and queries > endpoint.max_queries:
        lines.append(
            f"budget   {queries} queries are more than --max-queries {endpoint.max_queries}: the audit will stop before its end"
        )
    return lines
