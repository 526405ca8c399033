"""Run training jobs on this machine or a cluster.

They run on joblib's backends with one thread a job, so that the place does not change the result.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any, Literal, TypeVar, get_args

from memberscope.errors import InputError, TargetError
from memberscope.recipes.fleet.cluster_backends import (
    RETRIES,
    LostClusterError,
    LostDataError,
    Put,
    open_dask_backend,
    open_ray_backend,
)

Backend = Literal["loky", "sequential", "dask", "ray"]
Answer = TypeVar("Answer")
# Limits on threads, and the random numbers of some libraries, belong to the process and not to a
# thread: one job at a time sets them
ALONE = RLock()
# The cores that joblib counts. LightGBM starts as many threads, whatever OpenMP is limited to: two
# processes with two threads each on two cores took 100 s for a model of 0.3 s
CORES = "LOKY_MAX_CPU_COUNT"
# Packages whose errors mean a lost worker
FROM_WORKERS = ("joblib", "loky", "distributed", "ray", "concurrent", "memberscope")


@dataclass(frozen=True)
class Execution:
    """Where jobs run: processes here, this process, or a cluster.

    `loky` starts processes on this machine, `sequential` uses this process, `dask` and `ray` use a
    cluster at `address`. `n_jobs` jobs run at a time, -1 for as many as there are cores or workers.
    A job that takes longer than `timeout` seconds ends the run; what was finished before is kept.
    """

    backend: Backend = "loky"
    address: str | None = None
    n_jobs: int = -1
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise InputError(
                f"Expected a backend among {', '.join(get_args(Backend))}, got {self.backend!r}. "
                "Choose one of these with --backend."
            )
        if self.n_jobs == 0:
            raise InputError(
                "Expected at least one job at a time, or -1 for all cores, got 0. Leave out "
                "--jobs for all cores."
            )
        if self.timeout is not None and self.timeout <= 0:
            raise InputError(
                f"Expected a timeout above 0 seconds, got {self.timeout}. Leave --model-timeout "
                "out for none."
            )
        # A job in this process could only be ended together with the run
        if self.timeout is not None and self.backend == "sequential":
            raise InputError(
                "Expected the backend loky, dask or ray for a timeout, got sequential, which "
                "cannot end a job. Use --backend loky with --jobs 1 instead."
            )


@contextmanager
def _open_backend(execution: Execution, shared: Any, gpus: int = 0) -> Iterator[Any]:
    """Set joblib up for the backend, connected to its cluster.

    Give a handle of what all jobs share.

    Raises:
        InputError: The backend is not installed, or its cluster cannot be reached.
    """
    from joblib import parallel_config

    with ExitStack() as stack:
        backend, handle, inner = execution.backend, shared, {}
        # One job on loky is run by joblib in this process
        n_jobs = 1 if backend == "sequential" else execution.n_jobs
        if backend == "dask":
            backend, handle = stack.enter_context(open_dask_backend(execution.address, shared))
        elif backend == "ray":
            backend, handle = stack.enter_context(open_ray_backend(execution.address, shared, gpus))
        else:
            # With one job joblib would work in this process, which it could not end at a timeout
            n_jobs = 2 if n_jobs == 1 and execution.timeout else n_jobs
            backend, inner = "loky", {"inner_max_num_threads": 1} if n_jobs != 1 else {}
        stack.enter_context(parallel_config(backend=backend, n_jobs=n_jobs, **inner))
        yield handle


@contextmanager
def limit_threads(n: int) -> Iterator[None]:
    """Restrict every library to `n` threads, and to one job at a time.

    Sums are then made in one order, wherever the job runs. Estimators that would start workers of
    their own run them in this thread.
    """
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    # torch keeps a number of its own, which threadpoolctl does not reach
    before = torch.get_num_threads() if torch else 1
    with ALONE, threadpool_limits(limits=n), parallel_config(backend="sequential"):
        cores = os.environ.get(CORES)
        os.environ[CORES] = str(n)
        if torch:
            torch.set_num_threads(n)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
            if cores is None:
                del os.environ[CORES]
            else:
                os.environ[CORES] = cores


def run_job(work: Callable[..., Answer], shared: Any, number: int, job: Any) -> tuple[int, Answer]:
    """Run a job in a worker; give its number and its answer."""
    return number, work(shared.get() if isinstance(shared, Put) else shared, job)


def stream_answers(
    work: Callable[[Any, Any], Answer],
    shared: Any,
    jobs: Sequence[Any],
    execution: Execution,
    gpus: int = 0,
) -> Iterator[Answer]:
    """Yield the answers of `work(shared, job)` as they come, in any order.

    On Ray each job holds `gpus`. `shared` goes to each worker or node once. Where its last holder
    died, it is sent again and the jobs left are run.

    Raises:
        TargetError: A job took too long, a worker died, or the cluster was lost; answers given
    before are the caller's.
    """
    # Only what is left is run again after a loss
    left = dict(enumerate(jobs))
    for attempt in range(RETRIES + 1):
        try:
            for number, answer in _run_jobs_once(work, shared, left, execution, gpus):
                del left[number]
                yield answer
            return
        except InputError as error:
            # At the first attempt nothing has died yet: the mistake is the user's
            if attempt == 0:
                raise
            raise TargetError(f"{error} Workers died before; finished models are kept.") from error
        except LostDataError as error:
            if attempt == RETRIES:
                raise TargetError(
                    f"Expected workers that keep the records, got none that lived in {attempt + 1} "
                    "attempts. Find out why they die, and run it again; finished models are kept."
                ) from error


def _run_jobs_once(
    work: Callable[[Any, Any], Answer],
    shared: Any,
    jobs: dict[int, Any],
    execution: Execution,
    gpus: int,
) -> Iterator[tuple[int, Answer]]:
    """Yield numbers and answers of the jobs as they come.

    Raises:
        LostDataError: The workers that held what is shared died.
        TargetError: A job took too long, workers keep dying, or the cluster was lost.
    """
    from multiprocessing import TimeoutError as JobTimeout

    from joblib import Parallel, delayed

    try:
        with _open_backend(execution, shared, gpus) as handle:
            # The clock of a timeout also runs for jobs that wait, so none is then made to wait.
            ahead = (
                "2*n_jobs"
                if execution.timeout is None
                else 1
                if execution.n_jobs == 1
                else "n_jobs"
            )
            parallel = Parallel(
                return_as="generator_unordered",
                timeout=execution.timeout,
                # Without a timeout jobs wait ahead, so that workers are not idle between answers
                pre_dispatch=ahead,
                # Each answer comes when it is there, not with others
                batch_size=1,
            )
            yield from _suppress_joblib_warning(
                parallel(delayed(run_job)(work, handle, *job) for job in list(jobs.items()))
            )
    except (TimeoutError, JobTimeout) as error:
        raise TargetError(
            f"Expected each job within {execution.timeout or 0:g} seconds, got none from one of "
            "them. Run it again with a longer --model-timeout; finished models are kept."
        ) from error
    except LostClusterError as error:
        raise TargetError(
            f"Expected the {execution.backend} cluster at {execution.address or 'auto'} to stay, "
            "lost the connection to it. Start it, and run it again; finished models are kept."
        ) from error
    # These say what is wrong already
    except (InputError, TargetError, LostDataError):
        raise
    except Exception as error:
        # Other errors are faults of the work itself, and are not blamed on workers
        if execution.address or type(error).__module__.split(".")[0] in FROM_WORKERS:
            raise _build_lost_workers_error(error) from error
        raise


def _suppress_joblib_warning(answers: Any) -> Iterator[Any]:
    """Yield the answers, without joblib's warning if the caller stops early.

    The error says enough, for example on a full disk.
    """
    import warnings

    try:
        for answer in answers:  # noqa: UP028
            yield answer
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            answers.close()


def _build_lost_workers_error(error: Exception) -> TargetError:
    """Describe workers or a cluster that are gone as an error."""
    first = (str(error).splitlines() or [""])[0][:200]
    return TargetError(
        f"Expected the workers to finish, got {type(error).__name__} ({first}). Run it again; "
        "finished models are kept."
    )
