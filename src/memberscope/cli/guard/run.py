"""`memberscope guard run` and `monitor`: the guard in front of a model's server."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_option
from memberscope.errors import InputError

NEEDED = (
    "aiohttp",
    "cryptography",
    "httptools",
    "jwt",
    "orjson",
    "prometheus_client",
    "redis",
    "starlette",
    "uvicorn",
)


def show_setting(name: str) -> str:
    """Give the words for the server's own setting of this name."""
    return f"{{memberscope.guard.server:Run.{name}}}"


def require_guard_packages() -> None:
    """Refuse to go on without the packages of the extra `guard`.

    Raises:
        InputError: One is missing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Expected {missing[0]} for the guard, got none. Run pip install 'memberscope[guard]'."
        )


@dataclass(frozen=True)
class ServeOptions:
    """The options of `guard run`; where nothing is given, the server's own settings hold."""

    policy: Path = add_option("What clients may see, and how often: guard.toml.")
    models: tuple[Path, ...] | None = add_option(
        "The policy of a further model, whose [serving] prefix begins its paths; again for more.",
        default=None,
        is_repeated=True,
        flag="--model",
    )
    upstream: tuple[str, ...] | None = add_option(
        "The server of the model, such as http://localhost:8080; again for replicas. In its place "
        "the policy may name urls in [upstreams].",
        default=None,
        is_repeated=True,
    )
    host: str | None = add_option(
        "The address to listen at.", default=None, shown=show_setting("host")
    )
    port: int | None = add_option("The port for clients.", default=None, shown=show_setting("port"))
    admin_host: str | None = add_option(
        "The address of health, metrics and reload; never a public one.",
        default=None,
        shown=show_setting("admin_host"),
    )
    admin_port: int | None = add_option(
        "The port of health, metrics and reload; each further worker has the next one.",
        default=None,
        shown=show_setting("admin_port"),
    )
    workers: int | None = add_option(
        "Processes; more than one need [state] redis.", default=None, shown=show_setting("workers")
    )
    grace: float | None = add_option(
        "Seconds that queries may take to end at shutdown.",
        default=None,
        shown=show_setting("grace"),
    )
    drain: float | None = add_option(
        "Seconds at shutdown in which the guard still serves but says that it is not ready.",
        default=None,
        shown=show_setting("drain"),
    )
    tls_cert: Path | None = add_option("Certificate chain (PEM), to speak TLS.", default=None)
    tls_key: Path | None = add_option("The certificate's private key (PEM).", default=None)
    client_ca: Path | None = add_option(
        "Authorities whose client certificates identify (mTLS).", default=None
    )
    upstream_ca: Path | None = add_option(
        "Authority that signed the upstream's certificate.", default=None
    )
    log_level: str | None = add_option(
        "Level of the log: debug (each query), info, warning or error.",
        default=None,
        shown=show_setting("log_level"),
    )
    allow_looser: bool = add_option(
        "Serve more than [measured] says, with a warning in the log.", default=False
    )


@dataclass(frozen=True)
class MonitorOptions:
    """The options of `guard monitor`."""

    policy: Path = add_option("The policy, guard.toml; its [monitor] names the socket and files.")


@take_options(MonitorOptions)
def serve_monitor_process(options: MonitorOptions) -> None:
    """Watch for a guard that runs as another user, at the Unix socket of its policy."""
    require_guard_packages()
    from memberscope.guard.server import serve_monitor

    serve_monitor(options.policy)


@take_options(ServeOptions)
def serve_guarded_model(options: ServeOptions) -> None:
    """Serve what was measured: restrict answers, keep budgets, and watch for campaigns."""
    require_guard_packages()
    from memberscope.guard.server import Run, serve_guard

    given = {
        entry.name: getattr(options, entry.name)
        for entry in fields(options)
        if getattr(options, entry.name) is not None
    }
    serve_guard(Run(**given))
