"""The query stage of an HTTP audit beside a bare load generator.

Same server, batch size and concurrency, in one run.

The server is a process of its own: uvicorn, JSON, and a scikit-learn model. The load generator
posts bodies that were encoded before, from plain threads of `http.client`, and does not look at the
answers. The audit encodes the records, books each in the ledger on disk before it is sent, decodes,
checks and stores the answers, and asks 32 records twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from aims import judge
from bare_client import bare
from memberscope.signals import Store, collect_outputs
from memberscope.targets import HttpTarget
from memberscope.targets.http.target import dump_json
from memberscope.types import Records
from memberscope.wire.batch import build_request_batch
from memberscope.wire.endpoint import Endpoint

RECORDS, CLASSES, ROUNDS = 10_000, 10, 3
AIM = 0.9


def served(features: int, kind: str):
    """The ASGI application: /v2/models/m/infer, answered by a fitted model."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, features)), rng.integers(0, CLASSES, 1000)
    if kind == "mlp":
        model = MLPClassifier((256, 128), max_iter=200, tol=1.0, n_iter_no_change=3).fit(x, y)
    else:
        model = RandomForestClassifier(50, max_depth=8, n_jobs=1).fit(x, y)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        status, told = 404, b"{}"
        if scope["method"] == "POST":
            tensor = json.loads(body)["inputs"][0]
            p = model.predict_proba(np.reshape(tensor["data"], tensor["shape"]))
            output = {
                "name": "p",
                "datatype": "FP64",
                "shape": list(p.shape),
                "data": p.ravel().tolist(),
            }
            status, told = 200, json.dumps({"model_name": "m", "outputs": [output]}).encode()
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-length", b"%d" % len(told))],
            }
        )
        await send({"type": "http.response.body", "body": told})

    return app


@contextmanager
def server(features: int, kind: str) -> Iterator[str]:
    """The URL of the application in a process of its own."""
    command = [sys.executable, __file__, "serve", str(features), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def serve(features: int, kind: str) -> None:
    """Serve until killed; the port is printed."""
    import socket

    import uvicorn

    app = served(features, kind)
    taken = socket.create_server(("127.0.0.1", 0))
    print(taken.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[taken])


def audited(url: str, records: Records, batch: int, concurrency: int) -> tuple[float, int]:
    """Seconds of the audit's query stage with a new ledger, and the records that it sent."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = Endpoint(
            url, model_name="m", n_classes=CLASSES, batch_size=batch, concurrency=concurrency
        )
        started = time.perf_counter()
        with HttpTarget(endpoint, ledger=Path(folder) / "ledger.sqlite") as target:
            seen = collect_outputs(target, records, store=Store(Path(folder) / "signals"))
            sent = target.spent().sent
        seconds = time.perf_counter() - started
    assert seen.deterministic and sent == len(records) + 32
    return seconds, sent


def compare(features: int, kind: str, batch: int, concurrency: int) -> float:
    """The ratio of throughputs, from alternating rounds; the medians of both."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(RECORDS, features))
    records = Records(x, rng.integers(0, CLASSES, RECORDS), np.arange(RECORDS).astype(str))
    serving = Endpoint("http://localhost", model_name="m").serving
    bodies = [
        dump_json(serving.request(build_request_batch(x[start : start + batch])))
        for start in range(0, RECORDS, batch)
    ]
    ours, theirs, work = [], [], []
    with server(features, kind) as url:
        bare(f"{url}/v2/models/m/infer", bodies[:10], concurrency)
        for _ in range(ROUNDS):
            theirs.append(RECORDS / bare(f"{url}/v2/models/m/infer", bodies, concurrency))
            spent = time.process_time()
            seconds, sent = audited(url, records, batch, concurrency)
            work.append(time.process_time() - spent)
            ours.append(sent / seconds)
    ratio = median(ours) / median(theirs)
    name = f"{kind}, {features} features, batches of {batch}"
    print(
        f"{kind:6} {features:4} features, batches of {batch:3}, {concurrency} at a time: audit "
        f"{median(ours):7.0f} records/s, "
        f"bare {median(theirs):7.0f} ({min(theirs):.0f} to {max(theirs):.0f}), ratio {ratio:.2f}; "
        f"the audit's own work {median(work):.2f} CPU s of {RECORDS / median(ours):.2f} s "
        f"{judge(name, ratio, 'of the bare throughput', at_least=AIM)}",
        flush=True,
    )
    return ratio


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), sys.argv[3])
    else:
        for setting in [
            ("mlp", 20, 64, 4),
            ("forest", 20, 64, 4),
            ("mlp", 446, 64, 4),
            ("forest", 20, 256, 4),
        ]:
            compare(setting[1], setting[0], *setting[2:])
