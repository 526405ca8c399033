"""Run independent parts of one audit in threads.

NumPy and the tree learners release the interpreter's lock, so that threads do run in parallel.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Other = TypeVar("Other")

# Numbers (records times features) in a call of a model, up to which one thread answers it. Boosted
# trees take 110 ms of one core for half of that; two threads beside busy processes took 4 s
SMALL = 2**20

# In what scikit-learn warns of where a thread finds no warning filters
EMPTIED = "sklearn.utils.parallel.delayed"

# The OpenMP libraries found, and how many modules were loaded by then
_found: tuple[int, Any] | None = None


def limit_small_call(numbers: int) -> AbstractContextManager[object]:
    """Keep OpenMP to one thread during a call about so many `numbers`, if they are few.

    Threads save a small call a few milliseconds. Beside another busy process they wait for each
    other after every tree, which takes up to a hundred times as long as the call itself.

    >>> with limit_small_call(1000):
    ...     pass
    """
    global _found
    if numbers > SMALL:
        return nullcontext()
    from threadpoolctl import ThreadpoolController

    # To look for libraries takes milliseconds, and only an import can have loaded another one
    if _found is None or _found[0] != len(sys.modules):
        _found = len(sys.modules), ThreadpoolController().select(user_api="openmp")
    limited: AbstractContextManager[object] = _found[1].limit(limits=1)
    return limited


def map_in_parallel(
    work: Callable[[Item], Answer],
    items: Sequence[Item],
    progress: Callable[[int, int], None] | None = None,
    *,
    long: Callable[[Item], bool] = lambda item: False,
) -> list[Answer]:
    """Apply `work` to every item and give the answers in the items' order.

    An error in any of them is raised here. Items that are `long` are started first. Each item has
    one OpenMP thread, since several would compete for the same cores.

    >>> map_in_parallel(lambda x: x * x, [1, 2, 3], long=lambda x: x == 3)
    [1, 4, 9]
    """
    _import_learners()
    from joblib import Parallel, delayed
    from threadpoolctl import ThreadpoolController

    # Finding the libraries takes milliseconds, so it is done once for all items
    libraries = ThreadpoolController()

    def alone(index: int) -> Answer:
        with libraries.limit(limits=1, user_api="openmp"):
            return work(items[index])

    # The longest first: one that starts last would leave the other cores idle at the end
    order = sorted(range(len(items)), key=lambda index: not long(items[index]))
    answers: dict[int, Answer] = {}
    with _keep_warning_filters():
        results = Parallel(n_jobs=-1, prefer="threads", return_as="generator")(
            delayed(alone)(index) for index in order
        )
        for index, answer in zip(order, results, strict=True):
            answers[index] = answer
            if progress:
                progress(len(answers), len(items))
    return [answers[index] for index in range(len(items))]


def run_beside(work: Callable[[], Answer], beside: Callable[[], Other]) -> tuple[Answer, Other]:
    """Do `work` in this thread while another thread does what is `beside` it; give both answers.

    Either may apply functions in parallel itself, so that no core waits at the end of one of them.
    An error in either is raised once the other has ended.

    >>> run_beside(lambda: 1, lambda: "a")
    (1, 'a')
    """
    _import_learners()
    with _keep_warning_filters(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(beside)
        return work(), waiting.result()


@contextmanager
def _keep_warning_filters() -> Iterator[None]:
    """Keep the process's warning filters while threads call scikit-learn.

    It empties the filters in each of its calls for a moment, where another thread may find none,
    warn of that each time, and leave them empty.
    """
    show: Callable[..., None] = warnings.showwarning

    def show_others(message: Warning | str, *place: Any, **options: Any) -> None:
        if EMPTIED not in str(message):
            show(message, *place, **options)

    with warnings.catch_warnings():
        # Emptied filters ignore nothing, so what would be shown is looked at as well
        warnings.filterwarnings("ignore", message=f".*{EMPTIED}")
        warnings.showwarning = show_others
        yield


def _import_learners() -> None:
    """Import scikit-learn, which two threads that import it first at once find half made."""
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401
