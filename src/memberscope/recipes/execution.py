"""Where reference models are trained: joblib's backends, one thread a job, so that the place does not change the result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from memberscope.errors import InputError, TargetError

Backend = Literal["loky", "sequential", "dask", "ray"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Execution:
    """Processes on this machine (`loky`), this process (`sequential`), or a cluster at `address` (`dask`, `ray`).

    `n_jobs` jobs run at a time, -1 for as many as there are cores or workers. A job that takes longer than `timeout` seconds
    ends the run; what was finished before is kept.
    """

    backend: Backend = "loky"
    address: str | None = None
    n_jobs: int = -1
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise InputError(f"Expected a backend among {', '.join(get_args(Backend))}, got {self.backend!r}. Choose one.")
        if self.timeout is not None and self.timeout <= 0:
            raise InputError(f"Expected a timeout of some seconds, got {self.timeout}. Leave it out for none.")


@contextmanager
def place(execution: Execution) -> Iterator[Any]:
    """Settings of joblib for the backend, connected to its cluster.

    Raises:
        InputError: The backend is not installed, or its cluster cannot be reached.
    """
    from joblib import parallel_config

    with ExitStack() as stack:
        if execution.backend == "dask":
            stack.enter_context(dask_client(execution.address))
        if execution.backend == "ray":
            connect_ray(execution.address)
        name = "loky" if execution.backend == "sequential" else execution.backend
        n_jobs = 1 if execution.backend == "sequential" else execution.n_jobs
        inner = {"inner_max_num_threads": 1} if name == "loky" and n_jobs != 1 else {}
        stack.enter_context(parallel_config(backend=name, n_jobs=n_jobs, **inner))
        yield


@contextmanager
def dask_client(address: str | None) -> Iterator[None]:
    """A connection to the Dask scheduler at `address`, closed afterwards.

    Raises:
        InputError: dask.distributed is not installed, or there is no scheduler.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("Expected dask for --backend dask, got none. Run `pip install memberscope[dask]`.") from error
    if address is None:
        raise InputError("Expected the address of a Dask scheduler, got none. Add --scheduler tcp://host:8786.")
    try:
        client = Client(address, timeout=30, set_as_default=True)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"Expected a Dask scheduler at {address}, got {type(error).__name__}. Start it, or check it."
        ) from error
    try:
        yield
    finally:
        client.close()


def connect_ray(address: str | None) -> None:
    """Join the Ray cluster at `address` and tell joblib about it.

    Raises:
        InputError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise InputError("Expected ray for --backend ray, got none. Run `pip install memberscope[ray]`.") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address or "auto", log_to_driver=False, logging_level="error")
        except (OSError, ValueError, RuntimeError) as error:
            where = address or "auto"
            raise InputError(
                f"Expected a Ray cluster at {where}, got {type(error).__name__}. Start it, or check it."
            ) from error
    register_ray()


@contextmanager
def threads_at_most(n: int) -> Iterator[None]:
    """Every library in this process restricted to `n` threads: sums are then made in one order, wherever the job runs."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    with threadpool_limits(limits=n):
        if torch:
            torch.set_num_threads(n)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def stream(work: Callable[..., Answer], jobs: Sequence[tuple[Any, ...]], execution: Execution) -> Iterator[Answer]:
    """Answers of `work` on each job's arguments as they come, in any order.

    Raises:
        TargetError: A job took too long, a worker died, or the cluster was lost; answers given before are the caller's.
    """
    from multiprocessing import TimeoutError as JobTimeout

    from joblib import Parallel, delayed

    try:
        with place(execution):
            parallel = Parallel(return_as="generator_unordered", timeout=execution.timeout, pre_dispatch="2*n_jobs")
            yield from parallel(delayed(work)(*job) for job in jobs)
    except (TimeoutError, JobTimeout) as error:
        raise TargetError(
            f"Expected each job within {execution.timeout:g} seconds, got none from one of them. "
            f"Run it again with a longer --model-timeout; finished models are kept."
        ) from error
    except (InputError, TargetError):
        raise
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("joblib", "loky", "distributed", "ray", "concurrent"):
            raise TargetError(
                f"Expected the workers to finish, got {type(error).__name__} ({(str(error).splitlines() or [''])[0]}). "
                f"Run it again; finished models are kept."
            ) from error
        raise
