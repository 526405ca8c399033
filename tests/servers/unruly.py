"""A server that speaks the three protocols and misbehaves on order.

It counts every record that reaches its model.

The model gives softmax(x @ weights). Orders are taken one a request, from `orders`, or `always`
when there are none left. `reached` counts the answers computed for each record; requests that were
turned away before that are in `refused`.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import numpy as np
import uvicorn

WEIGHTS = np.array([[1.0, -1.0, 0.5], [0.3, 0.8, -0.6]])
JSON = [(b"content-type", b"application/json")]


def model(x: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3) of records (n, 2)."""
    logits = np.exp(np.asarray(x, dtype=np.float64) @ WEIGHTS)
    return logits / logits.sum(axis=1, keepdims=True)


class Unruly:
    """The ASGI application."""

    def __init__(self, *orders: str, always: str = "fine", slow: float = 0.0) -> None:
        self.orders, self.always, self.slow = deque(orders), always, slow
        self.reached: Counter[tuple[float, ...]] = Counter()
        self.requests, self.refused, self.active, self.most_active, self.largest = 0, 0, 0, 0, 0
        self.seen: list[dict[str, str]] = []
        self.times: list[float] = []
        self.elsewhere = "http://127.0.0.2:1/score"
        self.metadata: dict[str, Any] | None = None
        self.version: str | None = None
        self.open = threading.Event()  # the order `wait` lasts until it is set

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if scope["method"] in ("GET", "HEAD"):
            status = 200 if self.metadata is not None else 404
            await reply(
                send, status, json.dumps(self.metadata or {"error": "no such thing"}).encode()
            )
            return
        self.requests += 1
        self.times.append(time.monotonic())
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await self.obey(
                self.orders.popleft() if self.orders else self.always,
                scope["path"],
                json.loads(body),
                send,
            )
        finally:
            self.active -= 1

    async def obey(self, order: str, path: str, document: Any, send: Any) -> None:
        word, _, value = order.partition(":")
        turned_away = {
            "429": 429,
            "429-date": 429,
            "401": 401,
            "404": 404,
            "400": 400,
            "400-of-four": 400,
            "elsewhere": 307,
            "moved": 307,
            "see": 303,
        }
        if word == "400-of-four":
            # Not before three others are under way, or the client would not send them
            while self.active < 4:
                await asyncio.sleep(0.01)
        if word in turned_away:
            self.refused += 1
            headers = {
                "429": [(b"retry-after", value.encode())],
                "429-date": [
                    (b"retry-after", formatdate(time.time() + int(value), usegmt=True).encode())
                ]
                if value.isdigit()
                else [],
                "elsewhere": [(b"location", self.elsewhere.encode())],
                "moved": [(b"location", path.encode())],
                "see": [(b"location", path.encode())],
            }.get(word, [])
            await reply(send, turned_away[word], (value or "not now").encode(), headers)
            return
        rows = records_of(path, document)
        self.reached.update(tuple(map(float, row)) for row in rows)
        self.largest = max(self.largest, len(rows))
        if self.slow:
            await asyncio.sleep(self.slow)
        await self.misbehave(word, value, path, model(np.array(rows)), send)

    async def misbehave(self, word: str, value: str, path: str, p: np.ndarray, send: Any) -> None:
        if word in ("500", "502", "503"):
            headers = [(b"retry-after", value.encode())] if value.isdigit() else []
            await reply(send, int(word), b"broken " + value.encode(), headers)
        elif word == "hang":
            await asyncio.sleep(3600)
        elif word == "wait":
            while not self.open.is_set():
                await asyncio.sleep(0.01)
            await self.misbehave("fine", "", path, p, send)
        elif word in ("endless", "drip"):
            await send({"type": "http.response.start", "status": 200, "headers": JSON})
            part = b"[" * 65536 if word == "endless" else b"["
            for _ in range(100_000):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(0 if word == "endless" else 0.02)
        elif word == "truncated":
            whole = answer(path, p, self.version)
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [*JSON, (b"content-length", b"%d" % len(whole))],
                }
            )
            await send({"type": "http.response.body", "body": whole[: len(whole) // 2]})
        else:
            changed: dict[str, Any] = {
                "half": lambda: answer(path, p, self.version)[:-7],
                "html": lambda: b"<html>sorry</html>",
                "shape": lambda: answer(path, p[:, :2], self.version),
                "nan": lambda: answer(path, np.where(np.eye(*p.shape), np.nan, p), self.version),
                "fewer": lambda: answer(path, p[:-1], self.version),
                "labels": lambda: answer(path, p.argmax(axis=1), self.version),
                "words": lambda: answer(
                    path,
                    np.array(["cat", "dog", "eel"], dtype=object)[p.argmax(axis=1)],
                    self.version,
                ),
                "top2": lambda: answer(path, top(p, 2), self.version),
                "other": lambda: b'{"error": "no outputs today"}',
            }
            await reply(send, 200, changed.get(word, lambda: answer(path, p, self.version))())


def top(p: np.ndarray, k: int) -> list[dict[str, float]]:
    """The k likeliest classes of each record by name."""
    return [{("cat", "dog", "eel")[c]: float(row[c]) for c in np.argsort(-row)[:k]} for row in p]


def records_of(path: str, document: Any) -> list[list[float]]:
    """The records of a request in any of the three protocols."""
    if path.endswith("/infer"):
        tensor = document["inputs"][0]
        return np.reshape(tensor["data"], tensor["shape"]).tolist()
    if path.endswith("/invocations"):
        return document["inputs"] if "inputs" in document else document["dataframe_split"]["data"]
    return document["records"] if "records" in document else [document["record"]]


def answer(path: str, values: Any, version: str | None) -> bytes:
    """An answer in the protocol of the path."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if path.endswith("/infer"):
        array = np.array(values)
        kind = {"f": "FP64", "i": "INT64"}.get(array.dtype.kind, "BYTES")
        tensor = {
            "name": "p",
            "datatype": kind,
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        document = {"model_name": "m", "outputs": [tensor]} | (
            {"model_version": version} if version else {}
        )
    else:
        document = {"predictions": listed}
    return json.dumps(document).encode()


async def reply(
    send: Any, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """One whole response."""
    await send(
        {"type": "http.response.start", "status": status, "headers": [*JSON, *(headers or [])]}
    )
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(app: Any, **settings: Any) -> Iterator[str]:
    """The URL of `app` on the loopback interface, in a thread of this process."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
            **settings,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http{'s' if 'ssl_certfile' in settings else ''}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
