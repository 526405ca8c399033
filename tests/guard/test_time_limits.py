"""Limits on the time of many waits, kept by one timer, against those of asyncio itself."""

from __future__ import annotations

import asyncio

import pytest

from memberscope.guard.admission.time_limits import TimeLimits


async def wait_limited(limits: TimeLimits, seconds: float) -> str:
    """Wait so long under a limit, and say how it ended."""
    try:
        with limits.start():
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "late"
    return "in time"


def test_each_of_many_waits_ends_by_its_own_limit() -> None:
    async def run() -> list[str]:
        limits = TimeLimits(0.05)
        waits = [asyncio.create_task(wait_limited(limits, s)) for s in (60, 0, 60, 0.001, 60)]
        first = await asyncio.gather(*waits)
        # The timer is set anew after all have ended
        return [*first, await wait_limited(limits, 0), await wait_limited(limits, 60)]

    assert asyncio.run(run()) == ["late", "in time", "late", "in time", "late", "in time", "late"]


def test_a_later_wait_keeps_its_whole_time() -> None:
    async def run() -> tuple[bool, str]:
        limits = TimeLimits(0.2)
        early = asyncio.create_task(wait_limited(limits, 60))
        await asyncio.sleep(0.1)
        later = asyncio.create_task(wait_limited(limits, 60))
        assert await early == "late"
        return later.done(), await later

    assert asyncio.run(run()) == (False, "late")


@pytest.mark.parametrize("seconds", [60.0, 0.0], ids=["alone", "together with its limit"])
def test_a_task_that_somebody_else_cancels_stays_cancelled(seconds: float) -> None:
    async def run() -> None:
        task = asyncio.create_task(wait_limited(TimeLimits(seconds), 60))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def test_errors_of_the_block_pass_and_loops_are_kept_apart() -> None:
    limits = TimeLimits(0.01)

    async def fail() -> None:
        with limits.start():
            raise KeyError("of the block")

    for _ in range(3):
        with pytest.raises(KeyError):
            asyncio.run(fail())
        assert asyncio.run(wait_limited(limits, 60)) == "late"
    # Closed loops are forgotten when another one opens
    assert len(limits._loops) == 1
