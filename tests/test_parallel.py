"""Small calls of a model keep to one OpenMP thread, and others keep all of theirs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sklearn.ensemble  # noqa: F401
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from memberscope._parallel import SMALL, limit_small_call

LATE = """
from memberscope._parallel import limit_small_call
from threadpoolctl import threadpool_info, threadpool_limits
with limit_small_call(10):
    pass
import sklearn.ensemble
with threadpool_limits(2, "openmp"), limit_small_call(10):
    print([entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "openmp"])
"""


def count_threads() -> set[int]:
    return {entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "openmp"}


@pytest.mark.parametrize(("numbers", "threads"), [(1, 1), (SMALL, 1), (SMALL + 1, 3)])
def test_only_small_calls_are_limited_and_the_threads_come_back(numbers, threads):
    assert ThreadpoolController().select(user_api="openmp").info(), "no library to limit"
    with threadpool_limits(3, "openmp"):
        with limit_small_call(numbers):
            assert count_threads() == {threads}
        assert count_threads() == {3}


def test_threads_come_back_after_an_error():
    with threadpool_limits(3, "openmp"):
        with pytest.raises(ZeroDivisionError), limit_small_call(1):
            raise ZeroDivisionError
        assert count_threads() == {3}


def test_a_library_that_is_loaded_later_is_limited_too():
    shown = subprocess.run([sys.executable, "-c", LATE], capture_output=True, check=True, text=True)
    counts = shown.stdout.strip()
    assert counts != "[]" and set(counts.strip("[]").split(", ")) == {"1"}
