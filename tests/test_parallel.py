"""Small calls of a model keep to one OpenMP thread, and others keep all of theirs."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from memberscope._parallel import EMPTIED, SMALL, limit_small_call, map_in_parallel, run_beside

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


def test_two_things_run_side_by_side():
    # Neither passes the barrier without the other
    both = threading.Barrier(2, timeout=60)
    first, second = run_beside(both.wait, both.wait)
    assert {first, second} == {0, 1}


def test_an_error_in_one_thing_is_raised_after_the_other_has_ended():
    done = []
    with pytest.raises(ZeroDivisionError):
        run_beside(lambda: 1 / 0, lambda: done.append(1))
    with pytest.raises(ZeroDivisionError):
        run_beside(lambda: done.append(2), lambda: 1 / 0)
    assert done == [1, 2]


def test_what_runs_beside_may_run_in_parallel_itself():
    squares = [run_beside(lambda: map_in_parallel(abs, [-1, 2]), lambda: map_in_parallel(abs, [3]))]
    assert squares == [([1, 2], [3])]


def test_emptied_warning_filters_come_back_and_are_not_warned_of():
    x = np.random.default_rng(0).normal(size=(60, 2))

    def fit(k: int) -> None:
        # As another thread's fit leaves them for a moment
        warnings.resetwarnings()
        HistGradientBoostingRegressor(max_iter=1).fit(x, x[:, 0])
        warnings.warn(f"heard {k}", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as seen:
        before = list(warnings.filters)
        map_in_parallel(fit, range(2))
        assert list(warnings.filters) == before
    told = [str(entry.message) for entry in seen]
    assert sorted(told) == ["heard 0", "heard 1"] and EMPTIED not in "".join(told)
