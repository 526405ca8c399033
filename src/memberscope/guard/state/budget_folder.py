"""Keep one process's budgets in files that outlive it.

Each table is a file that is mapped into memory, so that what was taken is in the system's hands at
once: a process that is killed loses nothing. The files are written to disk every five seconds, and
what a failure of power loses is what was taken since. A file is made under a temporary name, with
all its room, and renamed. Times in the files count from the first start; after a restart the time
that passed by the system's clock is added, none where that clock has stepped back.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import stat
import struct
import threading
import time
from pathlib import Path

from memberscope._files import translate_disk_errors
from memberscope.errors import InputError
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.state.record_table import HEADER

MAGIC = b"memberscope-budgets/1\n"
SALT_AT, TIME_AT, AHEAD_AT = 32, 64, 72
SYNC = 5.0  # seconds between writes to disk


class BudgetFolder:
    """Files of the budgets of one process, in a folder of its own.

    Raises:
        InputError: The folder cannot be written, another process keeps its budgets there, or its
            files are of another version.

    >>> import tempfile
    >>> folder = BudgetFolder(Path(tempfile.mkdtemp()) / "budgets")
    >>> len(folder.secret), len(folder.open_memory("c-3600-8192", 8192))
    (32, 8192)
    >>> folder.close()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with translate_disk_errors(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_writable_by_all(path):
            raise InputError(
                f"Expected a folder of budgets that only its owner can write, got {str(path)!r}, which "
                f"everybody can write, and so make budgets fresh. Run chmod 700 {path}."
            )
        self._lock = self._lock_folder()
        self._files: dict[str, int] = {}
        self._changes, self._ended = threading.Lock(), threading.Event()
        self._clock = self.open_memory("clock", HEADER)
        if not any(self._clock[SALT_AT : SALT_AT + 32]):
            self._clock[SALT_AT : SALT_AT + 32] = os.urandom(32)
        self.secret = bytes(self._clock[SALT_AT : SALT_AT + 32])
        self._drop_old_files()
        threading.Thread(target=self._write_often, daemon=True).start()

    def resume(self, wall: float) -> float:
        """Give the time of the budgets by a clock on the wall, never less than was kept.

        Raises:
            InputError: What was kept is no time.
        """
        kept, ahead = struct.unpack_from("<dd", self._clock, TIME_AT)
        # By an infinite time all budgets would be full, and by NaN none would ever lack anything
        if not (math.isfinite(kept) and math.isfinite(ahead)):
            raise InputError(
                f"Expected the time of the budgets in {str(self.path / 'clock')!r}, got {kept}. "
                "Move the folder away; what its budgets have counted goes with it."
            )
        # Beginning later than 0, which stands for a file that is new
        return max(kept, wall + ahead) if kept else 1.0

    def keep_time(self, now: float, wall: float) -> None:
        """Keep the time of the budgets, and how far it is ahead of the clock on the wall."""
        # Two numbers that are right each by itself, should the process end between them
        struct.pack_into("<d", self._clock, AHEAD_AT, now - wall)
        struct.pack_into("<d", self._clock, TIME_AT, now)

    def open_memory(self, name: str, size: int) -> mmap.mmap:
        """Open a file of `size` bytes as memory, with zeros where it is new.

        Raises:
            InputError: It cannot be made, or is of another size or version.
        """
        file = self.path / name
        with translate_disk_errors(file):
            if not file.exists():
                self._make_file(file, size)
            handle = os.open(file, os.O_RDWR)
        if os.pread(handle, len(MAGIC), 0) != MAGIC or os.fstat(handle).st_size != size:
            os.close(handle)
            raise InputError(
                f"Expected a file of {size} bytes of this version in {str(file)!r}, got another "
                "one. Move it away; what its budgets have counted goes with it."
            )
        memory = mmap.mmap(handle, size)
        with self._changes:
            self._files[name] = handle
        return memory

    def open_others(self, name: str, size: int) -> list[mmap.mmap]:
        """Open the files of the same name with another size, whose budgets still count."""
        sizes = (int(file.name.rpartition("-")[2]) for file in self.path.glob(f"{name}-*"))
        return [self.open_memory(f"{name}-{other}", other) for other in sizes if other != size]

    def drop_memories(self, name: str) -> None:
        """Remove the files of one name, whose budgets are all full."""
        for file in self.path.glob(f"{name}-*"):
            with self._changes:
                handle = self._files.pop(file.name, None)
                if handle is not None:
                    os.close(handle)
            file.unlink(missing_ok=True)

    def write(self) -> None:
        """Have the system write what has changed to disk, and wait for it.

        Raises:
            OSError: The disk failed.
        """
        with self._changes:
            handles = [os.dup(handle) for handle in self._files.values()]
        try:
            for handle in handles:
                os.fsync(handle)
        finally:
            for handle in handles:
                os.close(handle)

    def close(self) -> None:
        """Write everything, and let another process have the folder."""
        if self._ended.is_set():
            return
        self._ended.set()
        self.write()
        with self._changes:
            for handle in self._files.values():
                os.close(handle)
            self._files.clear()
        os.close(self._lock)

    def _lock_folder(self) -> int:
        """Lock the folder, until the process ends."""
        with translate_disk_errors(self.path):
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # as on Windows, where nothing keeps two processes apart
        except OSError:
            os.close(handle)
            raise InputError(
                f"Expected a folder of budgets of its own, got {str(self.path)!r}, which another "
                "process uses. Give each guard its folder, or several workers one Redis."
            ) from None
        return handle

    def _make_file(self, file: Path, size: int) -> None:
        temporary = file.with_name(f".{file.name}.tmp")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # All its room now: a disk that is full later would end the process
            os.posix_fallocate(handle, 0, size)
            os.pwrite(handle, MAGIC, 0)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, file)

    def _drop_old_files(self) -> None:
        """Remove tables of earlier policies in which everything has refilled."""
        for file in self.path.glob("[a-z]*-*-*"):
            _, seconds, _ = file.name.split("-")
            if file.stat().st_mtime + float(seconds) < time.time():
                file.unlink(missing_ok=True)

    def _write_often(self) -> None:
        while not self._ended.wait(SYNC):
            try:
                self.write()
            except OSError as error:
                # The memory is right, and the next round tries again
                log_event(logging.ERROR, "budgets_not_written", why=error.strerror)


def is_writable_by_all(path: Path) -> bool:
    """Tell whether every user of the machine may put other files into a folder.

    >>> import tempfile
    >>> is_writable_by_all(Path(tempfile.mkdtemp()))
    False
    """
    # Windows has no such bits
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IWOTH)
