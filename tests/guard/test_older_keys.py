"""Which older keys count: by rotation, by last use, and where the last uses are not known."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from memberscope.guard import parse_guard_policy
from memberscope.guard.hashing.pseudonyms import KeyedHasher
from memberscope.guard.hashing.secret_key import RESTART, Secret
from memberscope.guard.state import older_keys as module
from memberscope.guard.state.interface import StateError
from memberscope.guard.state.key_uses import MOST, FileKeyUses
from memberscope.guard.state.older_keys import LATE, OlderKeys

DAY = 86400.0
POLICY = parse_guard_policy({"serving": {"n_classes": 3}, "default": {"per_client": "5/d"}})
NEWEST = Secret("new", bytes(range(32)))
ROTATED = Secret("old", bytes(32), 0.0)


class Uses:
    """Last uses with given ages, that may be away."""

    def __init__(self, ages: dict[str, float], away: int = 0) -> None:
        self.ages, self.away, self.noted = ages, away, []

    async def note_use(self, key: str) -> None:
        self.noted.append(key)

    async def find_ages(self) -> dict[str, float]:
        self.away -= 1
        if self.away >= 0:
            raise StateError("away")
        return self.ages

    async def close(self) -> None:
        """Nothing to close."""


def count(uses: Uses | None, now: float, secret: Secret = ROTATED) -> int:
    """How many older keys count once the last uses were looked at."""
    names = KeyedHasher(NEWEST.key)

    async def run() -> int:
        older = OlderKeys(names, [secret, NEWEST], uses, lambda: now)
        older.follow(POLICY)
        await older.start()
        found = len(names.older)
        await older.stop()
        return found

    return asyncio.run(run())


@pytest.mark.parametrize(("late", "n"), [(0.0, 1), (1.0, 0)])
def test_without_last_uses_the_rotation_decides(late, n):
    assert count(None, DAY + RESTART + late) == n
    assert count(Uses({}), DAY + RESTART + late) == n


@pytest.mark.parametrize(("age", "n"), [(0.0, 1), (DAY + LATE, 1), (DAY + LATE + 1.0, 0)])
def test_a_last_use_counts_for_a_refill_time(age, n):
    assert count(Uses({"old": age}), 99 * DAY) == n
    # Of a file of the version before, which has no times of rotations
    assert count(Uses({"old": age}), 99 * DAY, Secret("old", bytes(32))) == n
    assert count(Uses({"another": age}), 99 * DAY) == 0


def test_while_nothing_is_known_every_key_counts(monkeypatch):
    monkeypatch.setattr(module, "RETRIED", 0.01)
    names, uses = KeyedHasher(NEWEST.key), Uses({}, away=3)

    async def run() -> None:
        older = OlderKeys(names, [ROTATED, NEWEST], uses, lambda: 99 * DAY)
        older.follow(POLICY)
        await older.start()
        assert len(names.older) == 1
        async with asyncio.timeout(30):
            while names.older:
                await asyncio.sleep(0.01)
        await older.stop()

    asyncio.run(run())
    # At the start and at the end
    assert uses.noted == ["new"] * 2


def test_a_key_that_is_missing_is_told_if_it_was_used_lately(caplog):
    with caplog.at_level(logging.WARNING, logger="memberscope"):
        count(Uses({"gone": DAY, "long gone": 9 * DAY, "old": 0.0}), 99 * DAY)
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "older_key_missing" in text]) == 1


def test_a_policy_with_longer_budgets_asks_for_older_keys():
    names = KeyedHasher(NEWEST.key)
    longer = parse_guard_policy({"serving": {"n_classes": 3}, "default": {"per_client": "5/9d"}})

    async def run() -> list[int]:
        older = OlderKeys(names, [ROTATED, NEWEST], Uses({"old": 5 * DAY}), lambda: 99 * DAY)
        older.follow(POLICY)
        await older.start()
        found = [len(names.older)]
        for policy in (longer, POLICY):
            older.follow(policy)
            found.append(len(names.older))
        await older.stop()
        return found

    assert asyncio.run(run()) == [0, 1, 0]


def test_the_file_keeps_the_newest_uses_and_survives_damage(tmp_path):
    now = [0.0]
    uses = FileKeyUses(tmp_path / "keys.json", lambda: now[0])

    async def run() -> None:
        assert await uses.find_ages() == {}
        for i in range(MOST + 3):
            now[0] = float(i)
            await uses.note_use(f"k{i}")
        ages = await uses.find_ages()
        assert len(ages) == MOST and ages["k3"] == MOST - 1 and "k2" not in ages
        # A clock that stepped back makes no use older
        now[0] = -5.0
        assert set((await uses.find_ages()).values()) == {0.0}
        (tmp_path / "keys.json").write_text("[")
        with pytest.raises(StateError):
            await uses.find_ages()
        await uses.note_use("again")
        assert set(await uses.find_ages()) == {"again"}

    asyncio.run(run())
    assert json.loads((tmp_path / "keys.json").read_text())["used"] == {"again": -5.0}
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
