"""Run joblib on Dask and Ray, in backends that survive the loss of workers.

They report when the cluster itself is gone.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from memberscope.errors import InputError

PATIENCE = 10.0  # seconds to wait for a cluster that does not answer
PULSE = 1.0  # seconds between two looks at whether it is still there
RETRIES = 3  # times that a job is given another worker after its own died


class LostClusterError(Exception):
    """Raised when the scheduler or the head node went away while models were trained."""


class LostDataError(Exception):
    """Raised when the only workers that held the records died.

    The cluster is there, and the records can be sent to it again.
    """


class ClusterMonitor:
    """Monitor that ends waiting jobs with an error once `alive` says that the cluster is gone.

    Without it joblib would wait for ever for answers from a lost cluster.
    """

    def __init__(self, alive: Callable[[], bool], pulse: float = PULSE) -> None:
        """Start to check every `pulse` seconds."""
        self.alive, self.pulse = alive, pulse
        self.waiting: dict[int, Callable[[Any], Any]] = {}
        self.stopped = threading.Event()
        threading.Thread(target=self.look, name="cluster-watch", daemon=True).start()

    def watched(self, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap a callback, so that it is called once: by the backend, or by this monitor."""
        # The dictionary holds the callback, so that no other object gets its id meanwhile
        number = id(callback)
        self.waiting[number] = callback

        def once(answer: Any) -> None:
            # Whoever takes it out first calls it; the other finds nothing
            if self.waiting.pop(number, None) is not None:
                callback(answer)

        return once

    def look(self) -> None:
        """Check until the cluster is gone or the monitor is stopped."""
        while not self.stopped.wait(self.pulse):
            if not self.alive():
                self.stopped.set()
                # A copy, since callbacks remove themselves from the dictionary while it is walked
                for number in list(self.waiting):
                    callback = self.waiting.pop(number, None)
                    if callback is not None:
                        callback(LostClusterError())


def _is_reachable(address: str, patience: float = PATIENCE) -> bool:
    """Check whether something listens at `host:port`, with or without a scheme in front.

    >>> _is_reachable("127.0.0.1:1", patience=0.5), _is_reachable("nonsense")
    (False, False)
    """
    # From the right, since an IPv6 address has colons of its own
    host, _, port = address.split("://")[-1].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=patience):
            return bool(host)
    except (OSError, ValueError, OverflowError):
        return False


@contextmanager
def open_dask_backend(address: str | None, shared: Any) -> Iterator[tuple[Any, Any]]:
    """Open a joblib backend on the Dask scheduler at `address`, and a handle to what is `shared`.

    Raises:
        InputError: dask.distributed is not installed, there is no scheduler, or its workers are not
    usable.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "Expected dask for --backend dask, got none. Run `pip install memberscope[dask]`."
        ) from error
    if address is None:
        raise InputError(
            "Expected the address of a Dask scheduler, got none. Add --scheduler tcp://host:8786."
        )
    # A quick check, as Dask itself would wait; other schemes have no socket to try
    if address.split("://")[0] in ("tcp", "tls") and not _is_reachable(address):
        raise InputError(
            f"Expected a Dask scheduler at {address}, got no answer. Start it, or check "
            "--scheduler."
        )
    try:
        # Not the default client, which would change what the user's own Dask code does
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"Expected a Dask scheduler at {address}, got {type(error).__name__}. Start it, or "
            "check --scheduler."
        ) from error
    unlost = _silence_dask_callbacks()
    try:
        _require_workers(client, address)
        # On every worker: what is held by one alone dies with it. Not by content, since a key that
        # was lost is not sent again.
        handle = client.scatter(shared, broadcast=True, hash=False)
        # Started last, so that nothing is watched where the set-up failed
        watch = ClusterMonitor(lambda: client.status == "running")
        try:
            yield _build_dask_class()(client, watch), handle
        finally:
            watch.stopped.set()
    finally:
        _close_quietly(client)
        unlost()


def _silence_dask_callbacks() -> Callable[[], None]:
    """Keep Dask's callbacks from printing that a connection was closed.

    The error that is raised says so already. The returned function undoes it.
    """
    import logging

    def elsewhere(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], OSError))

    logger = logging.getLogger("tornado.application")
    logger.addFilter(elsewhere)
    return lambda: logger.removeFilter(elsewhere)


def _require_workers(client: Any, address: str) -> None:
    """Wait for a worker.

    Raises:
        InputError: There is none, or one trains several models in the same process.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise InputError(
            f"Expected workers at {address}, got none. Run `dask worker {address} --nthreads 1`."
        ) from error
    # Threads share a process, and limits on threads and random numbers belong to the process
    threads = max(client.nthreads().values(), default=1)
    if threads > 1:
        raise InputError(
            "Expected Dask workers of one thread, which train one model at a time, got one of "
            f"{threads} threads. Start them with --nthreads 1 --nworkers {threads}."
        )


def _close_quietly(client: Any) -> None:
    """Close a connection, even to a scheduler that is gone or slow.

    Its time-outs are not printed, since the error that is raised says more.
    """
    import gc
    import logging

    loggers = [logging.getLogger(name) for name in ("distributed.client", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        client.close(timeout=2)
    except (OSError, TimeoutError):
        pass
    finally:
        gc.collect()  # a future that timed out unread says so when it is collected
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _build_dask_class() -> type[Any]:
    """Build a Dask backend of joblib with a monitor.

    The class is made here since it needs Dask to be imported.
    """
    import asyncio
    import concurrent.futures

    from joblib._dask import DaskDistributedBackend

    class FleetOnDask(DaskDistributedBackend):  # type: ignore[misc]
        def __init__(self, client: Any, watch: ClusterMonitor) -> None:
            super().__init__(client=client)
            self.watch = watch

        def compute_batch_size(self) -> int:
            return 1  # a finished model is an answer of its own

        def effective_n_jobs(self, n_jobs: int) -> int:
            # One would make joblib train here and not on the only worker.
            return max(2, int(super().effective_n_jobs(n_jobs)))

        def submit(self, func: Any, callback: Any = None) -> Any:
            return super().submit(func, self.watch.watched(callback))

        def retrieve_result_callback(self, out: Any) -> Any:
            # Dask cancels jobs whose data are lost; only its status tells which of the two it was
            if isinstance(out, asyncio.CancelledError | concurrent.futures.CancelledError):
                raise LostDataError() if self.client.status == "running" else LostClusterError()
            return super().retrieve_result_callback(out)

    return FleetOnDask


@contextmanager
def open_ray_backend(address: str | None, shared: Any, gpus: int) -> Iterator[tuple[Any, Any]]:
    """Open a joblib backend on the Ray cluster at `address`, and a handle to what is `shared`.

    Each job holds `gpus`.

    Raises:
        InputError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "Expected ray for --backend ray, got none. Run `pip install memberscope[ray]`."
        ) from error
    # A connection of the caller's must not be closed here
    ours = not ray.is_initialized()
    if ours:
        _join_ray(ray, address)
    # Watched by its address: calls of Ray itself would wait for a head that is gone
    head = str(ray.get_runtime_context().gcs_address)
    watch = ClusterMonitor(lambda: _is_reachable(head, PULSE))
    try:
        yield _build_ray_class()(watch, gpus), Put(ray.put(shared))
    finally:
        # First, or the end of the connection would count as the loss of the cluster
        watch.stopped.set()
        # Without a head the shutdown would wait for it
        if ours and _is_reachable(head, PULSE):
            ray.shutdown()


def _join_ray(ray: Any, address: str | None) -> None:
    """Connect this process to the cluster.

    Raises:
        InputError: There is none.
    """
    where = address or "auto"
    if address is not None and address != "auto" and not _is_reachable(address):
        raise InputError(
            f"Expected a Ray cluster at {where}, got no answer. Start it, or check --address."
        )
    try:
        ray.init(address=where, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"Expected a Ray cluster at {where}, got {type(error).__name__}. Start it, or check "
            "--scheduler."
        ) from error


class Put:
    """Records in Ray's object store, which each node fetches once."""

    def __init__(self, ref: Any) -> None:
        """Refer to the records."""
        self.ref = ref

    def get(self) -> Any:
        """Fetch the records, in a worker."""
        import ray

        return ray.get(self.ref)


def _build_ray_class() -> type[Any]:
    """Build a joblib backend whose jobs are Ray tasks.

    Ray's own backend gives each job to an actor that is chosen beforehand: it cannot stream
    answers, sends the records with every job, and loses an actor's jobs with it. Tasks go to any
    free worker, and to another when theirs dies.
    """
    import ray
    from joblib.parallel import ParallelBackendBase

    class FleetOnRay(ParallelBackendBase):  # type: ignore[misc]
        supports_retrieve_callback = True
        default_n_jobs = -1

        def __init__(self, watch: ClusterMonitor, gpus: int) -> None:
            super().__init__(nesting_level=0)
            self.watch, self.gpus = watch, gpus
            # Ray itself starts a task anew when its worker dies
            self.task = ray.remote(_catch_job_error).options(
                num_cpus=1, num_gpus=gpus, max_retries=RETRIES
            )
            # What is running, so that it can be cancelled
            self.refs: set[Any] = set()

        def effective_n_jobs(self, n_jobs: int) -> int:
            have = ray.cluster_resources()
            slots = int(
                min(
                    have.get("CPU", 1),
                    # Where each job holds a GPU, these may be scarcer than cores
                    have.get("GPU", 0) / self.gpus if self.gpus else float("inf"),
                )
            )
            # One would make joblib train here and not on the only worker.
            return max(2, slots if n_jobs < 0 else min(n_jobs, slots))

        def submit(self, func: Any, callback: Any = None) -> Any:
            called = self.watch.watched(callback)
            ref = self.task.remote(func)
            self.refs.add(ref)

            def done(future: Any) -> None:
                self.refs.discard(ref)
                # An error is an answer too: joblib raises it where it is retrieved
                called(future.exception() or future.result())

            future = ref.future()
            future.add_done_callback(done)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise out
            return out

        def abort_everything(self, ensure_ready: bool = True) -> None:
            # A cluster that is gone can cancel nothing, and would not answer
            if not self.watch.stopped.is_set():
                for ref in list(self.refs):
                    ray.cancel(ref, force=True)

    return FleetOnRay


def _catch_job_error(func: Callable[[], Any]) -> Any:
    """Give the answer of a job, or its error as a value.

    Ray would otherwise wrap the error in a message of its own.
    """
    try:
        return func()
    except Exception as error:
        return error
