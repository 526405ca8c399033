"""A plain HTTP client in threads, whose throughput is the floor of an audit's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from urllib.parse import urlsplit


def bare(
    url: str, bodies: list[bytes], concurrency: int, check: Callable[[bytes], object] | None = None
) -> float:
    """Seconds in which plain threads post all the bodies to `url`, read and `check` the answers."""
    left, lock = iter(bodies), threading.Lock()

    def work() -> None:
        connection = HTTPConnection(urlsplit(url).netloc)
        while True:
            with lock:
                body = next(left, None)
            if body is None:
                break
            headers = {"Content-Type": "application/json"}
            connection.request("POST", urlsplit(url).path, body, headers)
            answer = connection.getresponse()
            assert answer.status == 200
            told = answer.read()
            if check is not None:
                check(told)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started
