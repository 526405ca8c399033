"""`memberscope guard run`: the guard in front of a model's server."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

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


def serve_guarded_model(
    upstream: Annotated[
        str, typer.Option(help="The server of the model, such as http://localhost:8080.")
    ],
    policy: Annotated[Path, typer.Option(help="What clients may see, and how often: guard.toml.")],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for clients.")] = 8000,
    admin_host: Annotated[
        str, typer.Option(help="Address of health, metrics and reload; never a public one.")
    ] = "127.0.0.1",
    admin_port: Annotated[
        int, typer.Option(help="Its port; each further worker has the next one.")
    ] = 9464,
    workers: Annotated[int, typer.Option(help="Processes; more than one need [state] redis.")] = 1,
    grace: Annotated[
        float, typer.Option(help="Seconds that queries may take to end at shutdown.")
    ] = 30.0,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM), to speak TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Authorities whose client certificates identify (mTLS).")
    ] = None,
    upstream_ca: Annotated[
        Path | None, typer.Option(help="Authority that signed the upstream's certificate.")
    ] = None,
    log_level: Annotated[
        str, typer.Option(help="debug (each query), info, warning or error.")
    ] = "info",
    allow_looser: Annotated[
        bool,
        typer.Option(
            "--allow-looser", help="Serve more than [measured] says, with a warning in the log."
        ),
    ] = False,
) -> None:
    """Serve what was measured: restrict answers, keep budgets, and watch for campaigns."""
    from memberscope.errors import InputError

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Expected {missing[0]} for the guard, got none. Run pip install 'memberscope[guard]'."
        )

    from memberscope.guard.server import Run, serve_guard

    settings = Run(
        upstream=upstream,
        policy=policy,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
        workers=workers,
        grace=grace,
        tls_cert=tls_cert,
        tls_key=tls_key,
        client_ca=client_ca,
        upstream_ca=upstream_ca,
        log_level=log_level,
        allow_looser=allow_looser,
    )
    serve_guard(settings)
