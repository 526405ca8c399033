"""Run an event loop in a thread of its own.

Blocking code can then use coroutines even where a loop already runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class EventLoopThread:
    """An event loop that runs until it is closed.

    >>> async def one():
    ...     return 1
    >>> portal = EventLoopThread()
    >>> portal.call(one())
    1
    >>> portal.close()
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and give what it returns.

        When this thread is interrupted, the coroutine is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def inside(self) -> bool:
        """Check whether the caller is in the loop's own thread."""
        return threading.current_thread() is self._thread

    def leave(self) -> None:
        """Stop the loop from inside."""
        self._loop.stop()

    def close(self) -> None:
        """Stop the loop, and wait until it has stopped."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
