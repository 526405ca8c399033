"""An HTTP audit of texts beside a bare client with the same concurrency, in one run.

The server is a process of its own: uvicorn, JSON, and a table of log-probabilities, with a wait for
each request that stands for the time of a model; it computes each answer once, before the first
timed round, so that its own work is that of sending. The bare client posts bodies that were encoded
before, from plain threads of `http.client` that each keep a connection. It reads each answer and
decodes the JSON with the audit's own decoder, but looks at no value; a second one only reads the
bytes. The audit, once the server is proven, writes the prompts, books each request in the ledger on
disk before it is sent, decodes, checks and stores the answers, and asks about the known text again
at the end. All send the same questions in turn, over as many connections.
"""

from __future__ import annotations

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
from memberscope.targets import TextServerTarget
from memberscope.targets.http.target import dump_json, parse_json
from memberscope.wire import TextEndpoint, TokenPrompt

ROUNDS, CONCURRENCY = 3, 8
AIM = 0.9
ROOT = Path(__file__).resolve().parent.parent
# Texts, characters (here a token each), texts a request, and seconds a request takes the server
SETTINGS = {
    "vllm": (1200, 256, 8, 0.3),
    "openai-completions": (1200, 256, 8, 0.3),
    "llama.cpp": (16, 60, 1, 0.05),
}


def serve(seconds: float) -> None:
    """Serve until killed; the port is printed."""
    import asyncio
    import socket

    import uvicorn

    sys.path.insert(0, str(ROOT / "tests" / "servers"))
    from text_server import TextServer

    model, kept = TextServer(max_model_len=4096), {}

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        event = await receive()
        body = event.get("body", b"")
        while event.get("more_body"):
            event = await receive()
            body += event.get("body", b"")
        # The time of a model is the wait alone: each answer is computed once
        if scope["path"].endswith(("completions", "completion")):
            await asyncio.sleep(seconds)
        key = (scope["path"], body)
        sent = kept.get(key)
        if sent is None:
            sent = kept[key] = []

            async def keep(message):
                sent.append(message)

            await answer(scope, body, keep)
        for message in sent:
            await send(message)

    async def answer(scope, body, keep):
        async def told():
            return {"type": "http.request", "body": body}

        await model(scope, told, keep)

    taken = socket.create_server(("127.0.0.1", 0))
    print(taken.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[taken])


@contextmanager
def server(seconds: float) -> Iterator[str]:
    """The URL of the server in a process of its own."""
    command = [sys.executable, __file__, "serve", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def parse_object(told: bytes) -> None:
    """Decode an answer, as any client has to."""
    assert isinstance(parse_json(told), dict)


def audited(endpoint: TextEndpoint, texts: list[str]) -> float:
    """Seconds in which a target with a new ledger measures the texts."""
    with tempfile.TemporaryDirectory() as folder:
        with TextServerTarget(endpoint, ledger=Path(folder) / "ledger.sqlite") as target:
            target.prove()
            started = time.perf_counter()
            signals = target.measure_tokens(texts)
            seconds = time.perf_counter() - started
        assert len(signals) == len(texts)
        return seconds


def write_bodies(endpoint: TextEndpoint, texts: list[str]) -> list[bytes]:
    """The bodies of all requests that score the texts."""
    serving, size = endpoint.serving, endpoint.rows_a_request
    if not serving.once_a_token:
        prompts = [TokenPrompt(text) for text in texts]
    else:
        ids = [tuple(map(ord, text)) for text in texts]
        prompts = [
            TokenPrompt(text, one, position=place)
            for text, one in zip(texts, ids, strict=True)
            for place in range(1, len(one))
        ]
    parts = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    return [dump_json(serving.ask(part, endpoint.model_name)) for part in parts]


def compare(protocol: str) -> None:
    """Print the ratio of throughputs from alternating rounds."""
    n_texts, length, batch, seconds = SETTINGS[protocol]
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, row)) for row in rng.integers(97, 123, (n_texts, length))]
    ours, theirs, blind, work, their_work = [], [], [], [], []
    with server(seconds) as url:
        endpoint = TextEndpoint(
            url, protocol, model_name="m", batch_size=batch, concurrency=CONCURRENCY
        )
        bodies = write_bodies(endpoint, texts)
        address = endpoint.serving.locate(url)
        bare(address, bodies, CONCURRENCY, parse_object)
        for _ in range(ROUNDS):
            spent = time.process_time()
            theirs.append(bare(address, bodies, CONCURRENCY, parse_object))
            their_work.append(time.process_time() - spent)
            spent = time.process_time()
            ours.append(audited(endpoint, texts))
            work.append(time.process_time() - spent)
            blind.append(bare(address, bodies, CONCURRENCY))
    ratio = median(theirs) / median(ours)
    print(
        f"{protocol:18} {n_texts} texts of {length} tokens in {len(bodies)} requests, "
        f"{CONCURRENCY} at a time: audit {median(ours):.2f} s, bare {median(theirs):.2f} s "
        f"({median(blind):.2f} s without decoding), ratio {ratio:.2f} "
        f"({median(blind) / median(ours):.2f}); work of the audit {median(work):.2f} CPU s, of the "
        f"bare client {median(their_work):.2f} "
        f"{judge(protocol, ratio, 'of the bare throughput', at_least=AIM)}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(float(sys.argv[2]))
    else:
        for name in SETTINGS:
            compare(name)
