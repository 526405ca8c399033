"""Bodies that come whole are read at once; others are waited for as ever."""

from __future__ import annotations

import asyncio

import pytest

from memberscope.guard.asgi.bodies import BegunCoroutine, ClientDisconnected, read_body
from memberscope.guard.refused import RequestRefused


def build_receive(*messages: dict | None):
    """A client that sends these; None is a pause, and after the last nothing comes any more."""
    left = list(messages)

    async def receive() -> dict:
        while left:
            found = left.pop(0)
            if found is not None:
                return found
            await asyncio.sleep(0.001)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def build_part(body: bytes, *, more: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


def read(*messages: dict | None, seconds: float = 30.0) -> bytes:
    async def run() -> bytes:
        return (await read_body(build_receive(*messages), {}, 8, seconds)).raw

    return asyncio.run(run())


def test_a_body_is_read_whole_however_it_comes():
    assert read(build_part(b"[1]")) == b"[1]"
    assert read(None, None, build_part(b"[1]")) == b"[1]"
    assert read(build_part(b"[1", more=True), None, build_part(b"]")) == b"[1]"
    assert read(build_part(b"[1", more=True), build_part(b"]")) == b"[1]"


@pytest.mark.parametrize("pause", [(), (None,)])
def test_what_ends_a_body_ends_it_before_and_after_a_pause(pause):
    with pytest.raises(ClientDisconnected):
        read(*pause, {"type": "http.disconnect"})
    with pytest.raises(RequestRefused, match="content-too-large"):
        read(*pause, build_part(b"123456789"))
    with pytest.raises(RequestRefused, match="request-timeout"):
        read(*pause, build_part(b"[1", more=True), seconds=0.01)


def test_cancelling_reaches_what_is_waited_for():
    seen = []

    async def wait() -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return b""

    async def run() -> None:
        async def go_on() -> bytes:
            return await BegunCoroutine(wait())

        task = asyncio.create_task(go_on())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(run())
    assert seen == ["cancelled"]


def test_what_is_caught_within_goes_on():
    async def wait() -> bytes:
        for _ in range(2):
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                await asyncio.sleep(0)
        return b"late"

    async def run() -> bytes:
        return await BegunCoroutine(wait())

    assert asyncio.run(run()) == b"late"
