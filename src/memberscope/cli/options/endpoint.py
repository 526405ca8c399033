"""The options of a live endpoint, `[target] url = …`.

Every field is a key of `audit.toml` and a flag of `audit` and `plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from memberscope.cli.options.choices import TEXT_PROTOCOLS
from memberscope.cli.options.lookup import ENDPOINT_KEYS, ROWS, choose_out_folder
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.cli.options.table import Options
    from memberscope.targets import LoadedTarget, TextServerTarget
    from memberscope.types import Target
    from memberscope.wire import ServerConnection


def refuse_model_beside_endpoint(options: Options) -> None:
    """Refuse an endpoint beside a model, signals or `long`, and an endpoint's keys without one.

    Raises:
        InputError: They were given together.
    """
    if options.url and (options.model or options.signals):
        raise InputError(
            f"Expected one target, got --url and --{'model' if options.model else 'signals'}. "
            "Leave one out."
        )
    if options.url and options.long:
        raise InputError(
            "Expected --long for the folder of a language model, got --url: a server says itself "
            "how long texts may be. Leave --long out."
        )
    alone = [
        key
        for key in ENDPOINT_KEYS
        if key not in ("url", "outputs", "batch_size") and getattr(options, key) is not None
    ]
    if alone and not options.url:
        flag = ROWS[alone[0]].flag
        raise InputError(
            f"Expected --url with {flag}, got none. Say where the endpoint is, or leave {flag} out."
        )


def build_endpoint_target(options: Options) -> LoadedTarget:
    """Build the endpoint that the options describe; its ledger is in the output folder.

    Nothing is sent.

    Raises:
        InputError: A value is not usable, or the classes have names in the records and none in the
    options.
    """
    from memberscope.targets import HttpTarget, LoadedTarget
    from memberscope.wire import Endpoint

    if options.protocol in TEXT_PROTOCOLS:
        text_target = build_text_endpoint_target(options)
        return LoadedTarget(text_target, (_describe_asking(text_target.endpoint),))
    said = _list_said(options)
    if options.classes is not None:
        said["classes"] = tuple(str(name) for name in options.classes)
    if options.task not in (None, "classification"):
        said["task"] = options.task
        said["n_classes"] = options.n_classes or _count_true_columns(options)
    elif options.classes is None and options.n_classes is None:
        said["n_classes"] = _count_classes_in_records(options)
    endpoint = Endpoint(**said)
    ledger = choose_out_folder(options, "audit") / "ledger.sqlite"
    target = HttpTarget(endpoint, ledger=ledger, query_budget=options.query_budget)
    return LoadedTarget(target, (_describe_asking(endpoint),))


def _count_true_columns(options: Options) -> int | None:
    """Count the columns of true values, where they say how many numbers an answer has."""
    from memberscope.targets.tables import split_column_names

    # An array, and windows, may hold several numbers under one name
    names = split_column_names(options.label or "", ())
    return len(names) if len(names) > 1 and options.window is None else None


def _list_said(options: Options) -> dict[str, Any]:
    """List what was said of the endpoint, by the fields of its declaration."""
    return {
        key: getattr(options, key) for key in ENDPOINT_KEYS if getattr(options, key) is not None
    }


def _describe_asking(endpoint: ServerConnection) -> str:
    """Describe in a sentence how the server was asked."""
    from memberscope.targets.http import strip_url

    plain = " without encryption" if endpoint.url.startswith("http:") else ""
    return f"Asked {strip_url(endpoint.url)} over HTTP (protocol {endpoint.protocol}){plain}."


def build_text_endpoint_target(options: Options, base: str | None = None) -> TextServerTarget:
    """Build the served language model that the options describe, or its `base`: a URL, or a name.

    Each has a ledger of its own in the output folder. Nothing is sent.

    Raises:
        InputError: A value is not usable, or an option is about classes.
    """
    from dataclasses import fields

    from memberscope.targets import TextServerTarget
    from memberscope.wire import TextEndpoint

    said = _list_said(options)
    known = {entry.name for entry in fields(TextEndpoint)}
    if foreign := [key for key in said if key not in known]:
        flag = ROWS[foreign[0]].flag
        raise InputError(
            f"Expected no {flag} with protocol {options.protocol}, which is about texts, got one. "
            "Leave it out."
        )
    ledger = "ledger.sqlite" if base is None else "ledger-base.sqlite"
    return TextServerTarget(
        TextEndpoint(**said if base is None else locate_base(said, base)),
        ledger=choose_out_folder(options, "audit") / ledger,
        query_budget=options.query_budget,
    )


def locate_base(said: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Locate the model before fine-tuning: another name at the same server, or another URL.

    There it has the name of the audited model, unless one follows the URL behind `#`.

    >>> locate_base({"url": "http://a", "model_name": "m"}, "http://b/v1#base")
    {'url': 'http://b/v1', 'model_name': 'base'}
    >>> locate_base({"url": "http://a", "model_name": "m"}, "base")
    {'url': 'http://a', 'model_name': 'base'}
    """
    if "://" not in base:
        return {**said, "model_name": base}
    url, _, name = base.partition("#")
    return {**said, "url": url} | ({"model_name": name} if name else {})


def _count_classes_in_records(options: Options) -> int:
    """Count the classes where the records number them.

    Raises:
        InputError: The records name them, which tells nothing of the server's order.
    """
    from memberscope.cli.options.layout import build_table_layout
    from memberscope.targets import FunctionTarget, read_pair

    unknown = FunctionTarget(lambda x: x, n_classes=2)
    names = read_pair(
        options.members or "", options.non_members or "", build_table_layout(options, unknown), None
    )[2]
    if not all(name.isdigit() for name in names):
        raise InputError(
            "Expected --classes in the order of the server's answers, got none, and the records "
            f"name {', '.join(names[:6])}. Give it."
        )
    return max(2, len(names))


def name_endpoint(options: Options) -> str:
    """Name the audit of an endpoint: by the model's name, or the host."""
    return (
        options.model_name or (urlsplit(options.url).hostname if options.url else None) or "audit"
    )


def describe_planned_requests(target: Target, queries: int) -> list[str]:
    """List lines for `plan`: requests, and minutes at the rate limit.

    Only the ledger of an earlier run is looked at.
    """
    from memberscope.targets import HttpTarget, TextServerTarget
    from memberscope.wire import TextEndpoint

    if not isinstance(target, HttpTarget | TextServerTarget):
        return []
    endpoint = target.endpoint
    requests = -(-queries // endpoint.rows_a_request)
    line = f"requests {requests} of up to {endpoint.rows_a_request} records, {endpoint.concurrency} at a time"
    if isinstance(endpoint, TextEndpoint) and endpoint.serving.once_a_token:
        return [f"requests one for each token of {queries} texts, {endpoint.concurrency} at a time"]
    if endpoint.rate is not None:
        line += (
            f"; at {endpoint.rate:g} a second at least {requests / endpoint.rate / 60:.1f} minutes"
        )
    lines = [line]
    if target.ledger is not None and target.ledger.is_file():
        spent = target.spent()
        target.close()
        lines.append(
            f"ledger   {spent.answered} answers of an earlier run, {spent.sent} records sent, "
            f"{spent.unanswered} without an answer"
        )
    if endpoint.max_queries is not None and queries > endpoint.max_queries:
        lines.append(
            f"budget   {queries} queries are more than --max-queries {endpoint.max_queries}: the "
            "audit will stop before its end"
        )
    return lines
