"""Budgets and the stream of observations over a real Redis.

Several workers, and a Redis that dies, hangs and comes back.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid

import pytest
import redis

from memberscope.errors import InputError
from memberscope.guard.policy.tables import RateLimit
from memberscope.guard.state.interface import ActiveResponse, Bucket, RecordBuckets, StateError
from memberscope.guard.state.redis_client import RedisLink
from memberscope.guard.state.redis_store import RedisState
from memberscope.guard.state.stream_lease import Consumer, LeaseLost

AGES = 1e9  # seconds: a refill time so long that nothing refills during a test
PATIENT = 20.0
DRAIN = """
import asyncio, sys
from memberscope.guard.policy.tables import RateLimit
from memberscope.guard.state.redis_store import RedisState
from memberscope.guard.state.interface import Bucket

async def drain():
    state = RedisState(sys.argv[1], sys.argv[2], 20.0)
    print("ready", flush=True)
    sys.stdin.readline()
    granted = 0
    async def some():
        nonlocal granted
        for _ in range(50):
            taken = await state.take([Bucket("c:x", RateLimit(n=500, seconds=1e9), 1)])
            granted += taken.allowed
    await asyncio.gather(*(some() for _ in range(8)))
    await state.close()
    print(granted)

asyncio.run(drain())
"""
WORKER = """
import asyncio, sys
from memberscope.guard.state.stream_lease import Consumer

async def count():
    consumer = Consumer(sys.argv[1], sys.argv[2], 20.0, lease=float(sys.argv[3]), poll=0.02)
    n = int(await consumer.resume() or b"0")
    print("holds", n, flush=True)
    async for id, line in consumer.lines():
        n += 1
        if n % 50 == 0:
            await consumer.checkpoint(id, str(n).encode())
            print("stored", n, flush=True)

asyncio.run(count())
"""


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex}"


def one(n: int = 1, holds: int = 1000) -> list[Bucket]:
    return [Bucket("c:x", RateLimit(n=holds, seconds=AGES), n)]


async def until(condition, limit: float = 60.0):
    """Wait for an answer that is neither false nor a StateError."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            if found := await condition():
                return found
        except StateError:
            pass
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


def test_two_processes_agree_on_one_budget_to_the_token(redis_here, prefix):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", DRAIN, redis_here.url, prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n", "ready\n"]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    granted = [int(worker.communicate(timeout=100)[0]) for worker in workers]
    assert sum(granted) == 500


def test_a_bucket_refills_by_the_clock_of_redis_and_its_key_goes(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        ask = [Bucket("c:x", RateLimit(n=2, seconds=1.0), 2)]
        first, second = await state.take(ask), await state.take(ask)
        with redis.Redis.from_url(redis_here.url) as direct:
            lives = direct.pttl(f"{prefix}:b:1:c:x")
            third = await until(lambda: granted(state, ask))
            await until(lambda: gone(direct, f"{prefix}:b:1:c:x"))
        await state.close()
        return first, second, lives, third

    first, second, lives, third = asyncio.run(body())
    assert first.allowed and not second.allowed and third.allowed
    assert 0 < lives <= 1001 and 0 < second.retry_after <= 1.0


async def granted(state, ask):
    found = await state.take(ask)
    return found if found.allowed else None


async def gone(direct, key):
    return not direct.exists(key)


def test_a_clock_of_redis_that_stepped_back_neither_refills_nor_stops(redis_here, prefix):
    """As if 4 of 10 tokens had been taken an hour ahead of the clock.

    6 are left, and the waiting is not an hour longer.
    """
    key, ahead, seconds = f"{prefix}:b:{AGES:g}:c:x", 3600, AGES

    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        with redis.Redis.from_url(redis_here.url) as direct:
            now, micros = direct.time()
            direct.set(
                key, f"{4e5 * seconds:.0f} {(now + ahead) * 10**6 + micros}", px=1000 * ahead
            )
            found = [await state.take(one(n, holds=10)) for n in (7, 6, 1)]
            at = int(direct.get(key).split()[1])
        await state.close()
        return found, at / 1e6 - now

    (more, rest, empty), at = asyncio.run(body())
    assert not more.allowed and more.retry_after == pytest.approx(seconds / 10)
    assert rest.allowed and not empty.allowed
    assert at < ahead / 2


def test_every_key_has_a_time_to_live_and_no_name_of_a_client(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        consumer = Consumer(redis_here.url, prefix, PATIENT)
        await state.take(
            [
                *one(),
                Bucket("a:", RateLimit(n=5, seconds=100.0), 1),
                Bucket("r:default:ff:1", RateLimit(n=5, seconds=9.0), 1),
            ]
        )
        await state.stand("ff", ActiveResponse("block", "volume"), 100.0)
        await state.publish("line")
        await consumer.resume()
        await consumer.checkpoint("0-0/0", b"snapshot")
        with redis.Redis.from_url(redis_here.url) as direct:
            lives = {
                key.decode().removeprefix(f"{prefix}:").split(":")[0]
                if key.decode().startswith(f"{prefix}:q:")
                else key.decode().removeprefix(f"{prefix}:"): direct.pttl(key)
                for key in direct.scan_iter(f"{prefix}:*")
            }
        await state.close()
        await consumer.close()
        return lives

    lives = asyncio.run(body())
    named = [
        "b:100:a:",
        "b:1e+09:c:x",
        "b:9:r:default:ff:1",
        "count",
        "lease",
        "lines",
        "q",
        "s:ff:block",
        "snapshot",
    ]
    assert sorted(lives) == named
    assert min(lives.values()) > 0
    assert (
        lives["b:100:a:"] <= 20_001 and lives["b:1e+09:c:x"] <= 1e9 + 1
    )  # a fifth, and a thousandth, of the refill time


def test_redis_killed_and_restarted_in_mid_load(own_redis, prefix):
    async def load(state, seen, stop):
        while not stop.is_set():
            try:
                seen.append((await state.take(one())).allowed)
            except StateError:
                seen.append(None)
            await asyncio.sleep(0.001)

    async def body():
        state, seen, stop = RedisState(own_redis.url, prefix, 2.0), [], asyncio.Event()
        tasks = [asyncio.create_task(load(state, seen, stop)) for _ in range(8)]
        await until(lambda: happened(seen, True))
        own_redis.kill()
        await until(lambda: happened(seen, None))
        away = len(seen)
        await until(lambda: happened(seen[away:], None))
        await asyncio.to_thread(own_redis.start)
        back = len(seen)
        await until(lambda: happened(seen[back:], True))
        stop.set()
        await asyncio.gather(*tasks)
        standing = await state.standing("ff")
        await state.close()
        return set(seen), standing

    found, standing = asyncio.run(body())
    assert found == {True, None} and standing is None


async def happened(seen, what):
    return any(entry is what for entry in seen)


def test_a_hanging_redis_ends_every_call_in_time_and_answers_do_not_mix(own_redis, prefix):
    timeout = 0.25

    async def timed(call):
        begun = time.monotonic()
        with pytest.raises(StateError):
            await call
        return time.monotonic() - begun

    async def body():
        state = RedisState(own_redis.url, prefix, timeout)
        await until(lambda: state.take(one(0)))
        await until(lambda: stood(state))
        own_redis.freeze()
        calls = [
            state.take(one()),
            state.standing("ff"),
            state.publish("line"),
            *(state.take(one()) for _ in range(100)),
        ]
        took = await asyncio.gather(*map(timed, calls))
        took += [await timed(state.stand("ff", ActiveResponse("block", "late"), 10.0))]
        own_redis.thaw()
        await until(lambda: state.take(one(0)))
        answers = [await until(lambda: both(state)) for _ in range(20)]
        await state.close()
        return took, answers

    took, answers = asyncio.run(body())
    assert max(took) < 20 * timeout  # of which all but one is for a machine that is busy
    assert all(standing.response == "throttle" and taken.allowed for standing, taken in answers)


async def both(state):
    return await asyncio.gather(state.standing("ff"), state.take(one(0)))


async def stood(state):
    await state.stand("ff", ActiveResponse("throttle", "volume"), 1000.0)
    return True


def of_records(n: int) -> list[Bucket | RecordBuckets]:
    """A client's only ten tokens, and the only one of each of so many records."""
    rate = RateLimit(n=1, seconds=AGES)
    return [
        Bucket("c:x", RateLimit(n=10, seconds=AGES), 10),
        RecordBuckets("r:x", rate, [*range(n)], [1] * n),
    ]


@pytest.mark.parametrize("n", [1, 1000])
def test_what_a_late_answer_took_is_given_back(own_redis, prefix, n):
    """The question waits in Redis's socket, and is carried out after its request was refused."""

    async def body():
        state = RedisState(own_redis.url, prefix, 1.0)
        await until(lambda: state.take([Bucket("c:y", RateLimit(n=9, seconds=AGES), 1)]))
        own_redis.freeze()
        with pytest.raises(StateError):
            await state.take(of_records(n))
        own_redis.thaw()
        # Nobody else asks, so that only a refund lets this through; and it is given back once
        first = await until(lambda: granted(state, of_records(n)))
        await asyncio.sleep(0.6)
        second = await state.take(of_records(n))
        await state.close()
        return first.allowed, second.allowed

    assert asyncio.run(body()) == (True, False)


def test_a_question_that_was_called_off_before_it_came_does_nothing(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        [bucket] = one(10, holds=10)
        await state._call_off([([bucket], state.name("q", "late"))])
        late = await state._take(*state._ask([bucket], state.name("q", "late")))
        return late[0], await state.take([bucket]), await state.close()

    late, taken, _ = asyncio.run(body())
    assert late == -1 and taken.allowed


def test_a_refused_piece_gives_back_those_before_it(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        rate = RateLimit(n=1, seconds=AGES)
        await state.take([RecordBuckets("r:x", rate, [990], [1])])
        refused = await state.take(of_records(1000))
        rest = await state.take(of_records(990))
        with redis.Redis.from_url(redis_here.url) as direct:
            slow = direct.slowlog_get(128)
        await state.close()
        return refused, rest, max((entry["duration"] for entry in slow), default=0)

    refused, rest, longest = asyncio.run(body())
    assert (refused.allowed, refused.lacking, rest.allowed) == (False, 1, True)
    print(f"the longest script held Redis for {longest} microseconds")


@pytest.mark.parametrize(
    "url", ["http://:pa55word@host/0", "redis://x:pa/55word@host", "pa55word", "redis://x:pa55word"]
)
def test_no_sentence_quotes_a_password(url):
    with pytest.raises(InputError, match=r"Repair state\.redis") as error:
        RedisState(url)
    assert "55word" not in str(error.value) and error.value.__cause__ is None


def test_no_storm_while_redis_is_away(own_redis, prefix):
    """After three failures most questions fail without a connection."""

    async def body():
        state = RedisState(own_redis.url, prefix, 5.0)
        own_redis.kill()
        said = []
        for _ in range(200):
            with pytest.raises(StateError) as error:
                await state.take(one())
            said.append(str(error.value))
        await state.close()
        return said

    said = asyncio.run(body())
    assert sum("is not asked again yet" in sentence for sentence in said) > 150
    assert all("is not asked again yet" not in sentence for sentence in said[:3])


def test_an_error_of_redis_is_no_answer(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        with redis.Redis.from_url(redis_here.url) as direct:
            direct.lpush(f"{prefix}:b:1e+09:c:x", "not a bucket")
        try:
            with pytest.raises(StateError, match="did not answer"):
                await state.take(one())
        finally:
            await state.close()

    asyncio.run(body())


def test_scripts_are_sent_again_when_redis_forgot_them(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        first = await state.take(one(1000))
        with redis.Redis.from_url(redis_here.url) as direct:
            direct.script_flush()
        second = await state.take(one())
        await state.close()
        return first.allowed, second.allowed

    assert asyncio.run(body()) == (True, False)


def test_a_killed_worker_is_followed_by_one_that_counts_every_line_once(redis_here, prefix):
    def worker():
        command = [sys.executable, "-c", WORKER, redis_here.url, prefix, "4.0"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    async def publish(n):
        state = RedisState(redis_here.url, prefix, PATIENT)
        for i in range(n):
            await state.publish(f"line {i}")
        await state.close()

    first = worker()
    assert first.stdout.readline() == "holds 0\n"
    second = worker()
    try:
        asyncio.run(publish(120))
        assert [first.stdout.readline() for _ in range(2)] == ["stored 50\n", "stored 100\n"]
        first.kill()  # it has read 20 lines or so that are in no snapshot
        assert second.stdout.readline() == "holds 100\n"
        asyncio.run(publish(80))
        assert [second.stdout.readline() for _ in range(2)] == ["stored 150\n", "stored 200\n"]
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    with redis.Redis.from_url(redis_here.url) as direct:
        assert direct.hget(f"{prefix}:snapshot", "snapshot") == b"200"
        assert direct.xlen(f"{prefix}:lines") == 200


def consumer_of(server, prefix, **options) -> Consumer:
    return Consumer(server.url, prefix, PATIENT, poll=0.02, **options)


async def read(consumer, n):
    found = []
    async for id, line in consumer.lines():
        found.append((id, line))
        if len(found) == n:
            return found
    raise AssertionError("lines end only with an error")


def test_a_late_holder_can_neither_read_nor_write(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        late, next_one = (consumer_of(redis_here, prefix, lease=60.0) for _ in range(2))
        await state.publish("a line")
        await late.resume()
        [(id, _)] = await read(late, 1)
        with redis.Redis.from_url(redis_here.url) as direct:
            direct.delete(f"{prefix}:lease")  # as if it had slept longer than the lease
            assert await next_one.resume() is None
            with pytest.raises(LeaseLost):
                await late.checkpoint(id, b"late")
            with pytest.raises(LeaseLost):
                await read(late, 1)
            await next_one.checkpoint(id, b"next")
            direct.delete(
                f"{prefix}:lease"
            )  # and the next one is gone too: what late knows is older than the snapshot
            with pytest.raises(LeaseLost):
                await late.checkpoint(id, b"late")
            stored = direct.hget(f"{prefix}:snapshot", "snapshot")
        resumed = await late.resume()
        for each in (state, late, next_one):
            await each.close()
        return stored, resumed

    assert asyncio.run(body()) == (b"next", b"next")


def test_the_holder_renews_its_lease_and_gives_it_back(redis_here, prefix):
    async def body():
        state = RedisState(redis_here.url, prefix, PATIENT)
        holder, other = (
            consumer_of(redis_here, prefix, lease=60.0),
            consumer_of(redis_here, prefix, lease=60.0),
        )
        await holder.resume()
        with redis.Redis.from_url(redis_here.url) as direct:
            direct.pexpire(f"{prefix}:lease", 30_000)
            await state.publish("line")
            await read(holder, 1)
            lives = direct.pttl(f"{prefix}:lease")
        waiting = asyncio.create_task(other.resume())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        await holder.close()
        await asyncio.wait_for(waiting, 30)
        await state.close()
        await other.close()
        return lives, done

    lives, done = asyncio.run(body())
    assert lives > 30_000 and done == set()


def test_after_a_restart_of_redis_the_holder_goes_on_and_stores_its_snapshot_again(
    own_redis, prefix
):
    async def publish(state, line):
        async def said():
            await state.publish(line)
            return True

        await until(said)

    async def reading(consumer, lines):
        while True:
            try:
                async for _, line in consumer.lines():
                    lines.append(line)
            except LeaseLost:
                raise
            except StateError:
                await asyncio.sleep(0.02)

    async def body():
        state, consumer, lines = (
            RedisState(own_redis.url, prefix, 5.0),
            consumer_of(own_redis, prefix),
            [],
        )
        await consumer.resume()
        await publish(state, "before")
        [(id, line)] = await read(consumer, 1)
        await consumer.checkpoint(id, b"one")
        own_redis.kill()
        task = asyncio.create_task(reading(consumer, lines))
        with pytest.raises(StateError):
            await state.publish("lost")
        await asyncio.to_thread(own_redis.start)
        await publish(state, "after")
        await until(lambda: happened(["after" in lines], True))
        with redis.Redis.from_url(own_redis.url) as direct:
            stored = direct.hget(f"{prefix}:snapshot", "snapshot")
        task.cancel()
        await asyncio.wait([task])
        await state.close()
        await consumer.close()
        return line, lines, stored

    assert asyncio.run(body()) == ("before", ["after"], b"one")


def test_a_question_that_is_cancelled_ends_cancelled_wherever_it_has_come_to(redis_here):
    """The client's `asyncio.wait_for` swallows a cancel that comes as the question has been sent.

    A worker that is stopped went on.
    """

    async def cancelled_after(link, turns):
        task = asyncio.create_task(link.ask(link.redis.ping))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            return None
        task.cancel()
        await asyncio.wait([task], timeout=PATIENT)
        return task.cancelled()

    async def body():
        link = RedisLink(redis_here.url, PATIENT)
        await link.ask(link.redis.ping)
        ends = [await cancelled_after(link, turns) for turns in [*range(12)] * 10]
        assert await link.ask(link.redis.ping)
        await link.close()
        return ends

    ends = asyncio.run(body())
    assert True in ends and False not in ends


def test_lines_that_the_stream_dropped_are_counted(redis_here, prefix):
    async def body():
        state, consumer = (
            RedisState(redis_here.url, prefix, PATIENT, lines=100),
            consumer_of(redis_here, prefix),
        )
        await consumer.resume()
        await state.publish("line")
        await read(consumer, 1)
        for _ in range(1000):
            await state.publish("line")
        with redis.Redis.from_url(redis_here.url) as direct:
            left = direct.xlen(f"{prefix}:lines")
        await read(consumer, left)
        await state.close()
        await consumer.close()
        return left, consumer.missed

    left, missed = asyncio.run(body())
    assert missed == 1000 - left > 500
