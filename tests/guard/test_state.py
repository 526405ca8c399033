"""What every state of the guard promises, one table over both.

And what memory promises under a flood.
"""

from __future__ import annotations

import asyncio
import math
import mmap
import uuid
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.guard.policy.tables import ClientLimits, RateLimit
from memberscope.guard.state.bucket_table import BucketTable
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import (
    ActiveResponse,
    Bucket,
    RecordBuckets,
    StateError,
    Taken,
)
from memberscope.guard.state.local_fallback import LocalAfterFault
from memberscope.guard.state.redis_store import RedisState
from memberscope.guard.state.token_buckets import build_buckets, format_retry_after

AGES = 1e9  # seconds: a refill time so long that nothing refills during a test


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis"])
def state_here(request):
    """Makes a fresh state within the event loop of the test."""
    url = request.getfixturevalue("redis_here").url if request.param == "redis" else None

    @asynccontextmanager
    async def make():
        state = RedisState(url, f"t{uuid.uuid4().hex}", 20.0) if url else MemoryState(clients=1000)
        yield state
        await state.close()

    return make


def records(
    hashes: list[int], times: list[int], holds: int, seconds: float = AGES
) -> RecordBuckets:
    return RecordBuckets("r:default:ff", RateLimit(n=holds, seconds=seconds), hashes, times)


def bucket(key: str, n: int, holds: int = 10, seconds: float = AGES) -> Bucket:
    return Bucket(key, RateLimit(n=holds, seconds=seconds), n)


def with_state(state_here, body):
    async def whole():
        async with state_here() as state:
            return await body(state)

    return asyncio.run(whole())


def test_a_budget_is_granted_to_the_last_token_and_no_further(state_here):
    async def body(state):
        return [(await state.take([bucket("c:x", 1, holds=1000)])).allowed for _ in range(1002)]

    assert with_state(state_here, body) == [True] * 1000 + [False] * 2


def test_what_is_given_back_can_be_taken_again_and_no_more(state_here):
    async def body(state):
        asked = [bucket("c:x", 8), bucket("c:y", 10)]
        taken = await state.take(asked)
        await state.refund(asked, taken)
        again = await state.take([bucket("c:x", 10), bucket("c:y", 4)])
        # No bucket ever holds more than a full one
        await state.refund([bucket("c:y", 4), bucket("c:z", 3)], again)
        await state.refund([bucket("c:y", 4)], again)
        return [
            (await state.take([entry])).allowed
            for entry in (bucket("c:x", 1), bucket("c:y", 10), bucket("c:y", 1), bucket("c:z", 10))
        ]

    assert with_state(state_here, body) == [False, True, False, True]


def test_all_buckets_or_none(state_here):
    async def body(state):
        await state.take([bucket("c:b", 8)])
        refused = await state.take([bucket("c:a", 5), bucket("c:b", 3), bucket("c:c", 1)])
        return refused, await state.take([bucket("c:a", 10)]), await state.take([bucket("c:b", 2)])

    refused, whole_a, rest_b = with_state(state_here, body)
    assert (refused.allowed, refused.lacking) == (False, 1)
    assert refused.retry_after == pytest.approx(AGES / 10, rel=1e-6)
    assert whole_a.allowed and rest_b.allowed


def test_the_bucket_that_lacks_most_is_named(state_here):
    async def body(state):
        await state.take([bucket("c:a", 10), bucket("c:b", 9)])
        return await state.take([bucket("c:b", 2), bucket("c:a", 5), bucket("c:b", 0)])

    found = with_state(state_here, body)
    assert found.lacking == 1 and found.retry_after == pytest.approx(AGES / 2, rel=1e-6)


def test_more_than_a_bucket_holds_is_never_allowed(state_here):
    found = with_state(state_here, lambda state: state.take([bucket("c:a", 11)]))
    assert found == Taken(False, math.inf, 0)


def test_one_key_twice_in_a_request_counts_twice(state_here):
    async def body(state):
        return [(await state.take([bucket("c:a", 6), bucket("c:a", n)])).allowed for n in (5, 4, 0)]

    assert with_state(state_here, body) == [False, True, False]


def test_no_buckets_no_limit(state_here):
    assert with_state(state_here, lambda state: state.take([])) == Taken(True)


@pytest.mark.parametrize("many", [1, 3, 600])
def test_records_budgets_are_counted_and_refused_together(state_here, many):
    """Some are taken from alone, some by arrays, and in Redis in pieces."""

    async def body(state):
        whole = records([*range(many)], [1] * many, 2)
        found = [(await state.take([bucket("c:x", 1), whole])).allowed for _ in range(3)]
        # The last of them is spent, so that nothing is taken from the others
        late = records([*range(1000, 1000 + many), 0], [1] * (many + 1), 2)
        refused = await state.take([bucket("c:x", 7), late])
        rest = await state.take(
            [bucket("c:x", 8), records([*range(1000, 1000 + many)], [2] * many, 2)]
        )
        return found, refused, rest, await state.take([records([5], [3], 2)])

    found, refused, rest, never = with_state(state_here, body)
    assert found == [True, True, False]
    assert not refused.allowed and refused.lacking == 1
    assert refused.retry_after == pytest.approx(AGES / 2, rel=1e-5)
    assert rest.allowed and never == Taken(False, math.inf, 0)


@pytest.mark.parametrize("many", [1, 3, 600])
def test_a_refund_gives_back_what_was_taken_once(state_here, many):
    async def body(state):
        asked = [bucket("c:x", 10), records([*range(many)], [2] * many, 2)]
        taken = await state.take(asked)
        await state.refund(asked, taken)
        return [(await state.take(asked)).allowed for _ in range(2)]

    assert with_state(state_here, body) == [True, False]


def test_a_budget_of_records_is_bounded():
    with pytest.raises(InputError, match="at most 100000 a record, got 100001"):
        records([1], [1], 100_001)


def test_tokens_are_never_given():
    with pytest.raises(InputError, match="Expected tokens to take, got -1"):
        bucket("c:a", -1)


def test_the_hardest_response_in_force_is_told(state_here):
    async def body(state):
        found = [await state.standing("ff")]
        for response in ("throttle", "block", "coarsen"):
            await state.stand("ff", ActiveResponse(response, f"by {response}"), 1000.0)
            found.append(await state.standing("ff"))
        return found, await state.standing("fe")

    found, other = with_state(state_here, body)
    block = ActiveResponse("block", "by block")
    assert (
        found == [None, ActiveResponse("throttle", "by throttle"), block, block] and other is None
    )


def test_a_milder_response_that_lasts_longer_follows_the_harder(state_here):
    async def body(state):
        await state.stand("ff", ActiveResponse("block", "probing"), 0.05)
        await state.stand("ff", ActiveResponse("throttle", "volume"), 1000.0)
        while (found := await state.standing("ff")).response == "block":
            await asyncio.sleep(0.02)
        return found

    assert with_state(state_here, body) == ActiveResponse("throttle", "volume")


def test_the_longer_of_two_equal_responses_stays(state_here):
    async def body(state):
        await state.stand("ff", ActiveResponse("block", "long"), 1000.0)
        await state.stand("ff", ActiveResponse("block", "short"), 1.0)
        await state.stand("fe", ActiveResponse("block", "never"), 0.0)
        return await state.standing("ff"), await state.standing("fe")

    assert with_state(state_here, body) == (ActiveResponse("block", "long"), None)


TAKES = st.lists(
    st.tuples(st.sampled_from(["c:a", "c:b", "r:a"]), st.integers(0, 4)), min_size=1, max_size=3
)
STEPS = st.lists(st.tuples(TAKES, st.floats(-50, 200)), max_size=40)
HOLDS = {"c:a": 3, "c:b": 7, "r:a": 2}


class Naive:
    """Buckets as counts of tokens that are topped up whenever time passes."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.tokens = seconds, {key: float(n) for key, n in HOLDS.items()}

    def passed(self, seconds: float) -> None:
        for key, n in HOLDS.items():
            self.tokens[key] = min(n, self.tokens[key] + max(0.0, seconds) * n / self.seconds)

    def take(self, wanted: list[tuple[str, int]]) -> bool:
        left = dict(self.tokens)
        for key, n in wanted:
            left[key] -= n
        if min(left.values()) < -1e-6:
            return False
        self.tokens = left
        return True


@given(STEPS)
def test_memory_agrees_with_counted_tokens_while_the_clock_steps(steps):
    clock = Clock()
    state, naive = MemoryState(clients=100, clock=clock), Naive(100.0)

    async def body():
        for wanted, step in steps:
            clock.now += step
            naive.passed(step)
            found = await state.take([bucket(key, n, HOLDS[key], 100.0) for key, n in wanted])
            assert found.allowed == naive.take(wanted)

    asyncio.run(body())


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TAKES, max_size=15))
def test_redis_agrees_with_counted_tokens(redis_here, steps):
    naive = Naive(AGES)

    async def body():
        state = RedisState(redis_here.url, f"t{uuid.uuid4().hex}", 20.0)
        for wanted in steps:
            found = await state.take([bucket(key, n, HOLDS[key]) for key, n in wanted])
            assert found.allowed == naive.take(wanted)
        await state.close()

    asyncio.run(body())


def test_waiting_as_long_as_told_is_enough_and_not_too_long():
    clock = Clock()
    state = MemoryState(clients=10, clock=clock)

    async def body():
        await state.take([bucket("c:a", 10, seconds=3600.0)])
        wait = (await state.take([bucket("c:a", 3, seconds=3600.0)])).retry_after
        clock.now += wait - 1.0
        early = await state.take([bucket("c:a", 3, seconds=3600.0)])
        clock.now += 1.0
        return wait, early.allowed, (await state.take([bucket("c:a", 3, seconds=3600.0)])).allowed

    assert asyncio.run(body()) == (pytest.approx(1080.0), False, True)


def test_a_clock_that_steps_back_neither_refills_nor_stops():
    clock = Clock()
    state = MemoryState(clients=10, clock=clock)

    async def body():
        found = []
        for step in (0.0, -900.0, 900.0 - 1e-3, 1e9, 0.0):
            clock.now += step
            found.append(
                [(await state.take([bucket("c:a", 5, seconds=1800.0)])).allowed for _ in range(3)]
            )
        return found

    # The way back up cannot be told from time: it refills half. A leap refills what the bucket
    # holds, not more.
    assert asyncio.run(body()) == [
        [True, True, False],
        [False, False, False],
        [False, False, False],
        [True, True, False],
        [False, False, False],
    ]


def test_no_flood_of_identities_buys_anybody_a_token():
    """Far more identities than places, each asking a little.

    Whoever spent a budget before or within the flood gets no more than it.
    """
    clients, holds = 200, 20
    state = MemoryState(clients=clients, clock=Clock())

    async def granted(name):
        return (await state.take([bucket(f"c:{name}", 1, holds)])).allowed

    async def body():
        total = dict.fromkeys(["proven", "ping", "pong"], 0)
        for _ in range(holds):
            total["proven"] += await granted("proven")
        for i in range(6000):
            await granted(f"flood {i}")
            for name in ("ping", "pong", "proven"):
                total[name] += await granted(name)
        return total

    total = asyncio.run(body())
    assert total["proven"] == holds
    assert total["ping"] <= holds and total["pong"] <= holds


def test_newcomers_pay_only_their_share_of_a_flood():
    """800 tokens over 400 places: 2 each, and in the most crowded set not 5."""
    clients = 200
    state = MemoryState(clients=clients, clock=Clock())

    async def body():
        for i in range(4 * clients):
            await state.take([bucket(f"c:flood {i}", 1, holds=20)])
        return [(await state.take([bucket(f"c:new {i}", 15, holds=20)])).allowed for i in range(20)]

    assert all(asyncio.run(body()))


def test_few_newcomers_notice_a_full_table():
    """At the number of clients that a table is made for, hardly a set overflows."""
    state = MemoryState(clients=5000, clock=Clock())

    async def body():
        for i in range(5000):
            await state.take([bucket(f"c:{i}", 10)])
        return [(await state.take([bucket(f"c:new {i}", 10)])).allowed for i in range(500)]

    assert sum(asyncio.run(body())) >= 450


def test_a_table_keeps_the_emptiest_and_takes_the_place_of_the_full():
    table = BucketTable(mmap.mmap(-1, BucketTable.count_bytes(1)))
    for key in range(16):
        table.put(key, 100.0 + key, now=50.0)
    table.put(99, 500.0, now=50.0)
    assert [table.full_at(key) for key in (0, 1, 15, 99, 77)] == [100.0, 101.0, 115.0, 500.0, 100.0]
    table.put(98, 400.0, now=101.5)  # key 1 is full by then, so nothing is forgotten
    assert table.full_at(77) == 100.0 and table.full_at(98) == 400.0


def test_memory_is_taken_once_and_as_stated():
    clients, record_bytes = 100_000, 2**23
    allowed = ClientLimits(per_client="1000/h", per_record="5/d")
    state = MemoryState(clients=clients, clock=Clock(), record_bytes=record_bytes)

    async def fill(part):
        for i in part:
            await state.take(build_buckets(f"{i:016x}", "default", allowed, None, [i], None))
        return [*state._tables.values()], [*state._records.values()]

    before = asyncio.run(fill(range(10)))
    assert asyncio.run(fill(range(10, 2000))) == before
    [[table], [records]] = before
    assert BucketTable.count_bytes(clients) / clients < 34
    assert table.sets * 16 >= 2 * clients
    assert 8 * records.places <= record_bytes < 9 * records.places


def test_responses_are_bounded_and_those_that_end_first_go():
    clock = Clock()
    state = MemoryState(clients=100, clock=clock)

    async def body():
        for i in range(300):
            await state.stand(f"{i}", ActiveResponse("block", "volume"), 1000.0 + i)
        assert len(state._standing) <= 100
        clock.now += 1200.5
        return [await state.standing(f"{i}") is not None for i in (0, 150, 290)]

    assert asyncio.run(body()) == [False, False, True]


def test_rates_that_a_reload_took_away_leave_no_memory():
    clock = Clock()
    state = MemoryState(clients=100, clock=clock)

    async def body():
        for seconds in range(1, 50):
            await state.take([bucket("c:a", 1, seconds=float(seconds))])
            clock.now += 100.0

    asyncio.run(body())
    assert len(state._tables) == 1


def test_lines_reach_the_monitor_of_one_process():
    lines = []
    state = MemoryState(clients=1, publish=lines.append)
    asyncio.run(state.publish("a line"))
    assert lines == ["a line"]


class Away(MemoryState):
    """A shared state that can be away."""

    gone = False

    async def take(self, buckets):
        return await self._or_gone(super().take(buckets))

    async def standing(self, client):
        return await self._or_gone(super().standing(client))

    async def stand(self, client, standing, seconds):
        return await self._or_gone(super().stand(client, standing, seconds))

    async def publish(self, line):
        return await self._or_gone(super().publish(line))

    async def _or_gone(self, answer):
        found = await answer
        if self.gone:
            raise StateError("gone")
        return found


def test_in_a_fault_this_process_goes_on_with_what_it_knows():
    lines, faults = [], []
    shared = Away(clients=10, publish=lambda line: lines.append(f"shared {line}"))
    state = LocalAfterFault(
        shared, MemoryState(clients=10, publish=lambda line: lines.append(line)), faults.append
    )

    async def body():
        before = [await state.take([bucket("c:a", 6)]), await state.take([bucket("c:a", 6)])]
        await state.stand("ff", ActiveResponse("block", "volume"), 1000.0)
        shared.gone = True
        await state.stand("fe", ActiveResponse("throttle", "volume"), 1000.0)
        await state.publish("line")
        after = [await state.take([bucket("c:a", 4)]), await state.take([bucket("c:a", 1)])]
        return (
            [taken.allowed for taken in before + after],
            await state.standing("ff"),
            await state.standing("fe"),
        )

    allowed, blocked, throttled = asyncio.run(body())
    assert allowed == [True, False, True, False]
    assert blocked.response == "block" and throttled.response == "throttle"
    assert "line" in lines and len(faults) == state.faults == 6


def test_a_request_draws_from_every_budget_it_falls_under():
    allowed = ClientLimits(per_client="100/h", per_record="5/d")
    found = build_buckets(
        "ff", "partner", allowed, RateLimit.of("9/s"), [2**64 - 1, 3, 3], RateLimit.of("1/m")
    )
    assert found == [
        Bucket("c:partner:ff", RateLimit.of("100/h"), 3),
        Bucket("a:", RateLimit.of("9/s"), 3),
        Bucket("t:ff", RateLimit.of("1/m"), 3),
        RecordBuckets("r:partner:ff", RateLimit.of("5/d"), [2**64 - 1, 3], [1, 2], ("ff", "ff")),
    ]
    assert build_buckets("ff", "partner", allowed, RateLimit.of("9/s"), [], None) == []
    assert build_buckets("ff", "partner", ClientLimits(), None, [1], None) == []


@given(st.floats(0, 1e9))
def test_the_header_never_tells_too_short_a_time(seconds):
    assert seconds <= float(format_retry_after(seconds)) <= max(1.0, seconds + 1.0)
