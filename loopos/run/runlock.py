"""One live process per run folder: an flock on a file in it.

The kernel frees such a lock when the process dies, however it dies, so nothing stale can block. Two things could keep
it alive too long and are excluded: a program started from here (the descriptor is closed on exec) and a forked child
(it closes its copy at birth; closing a copy does not unlock).
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from pathlib import Path

from loopos.files.durable import explained

_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


class RunLock:
    """Holds ``path`` (created when missing, never removed) until :meth:`release`.

    Raises OSError at once when another live process, or another object of this one, holds it.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._fd: int | None = None
        with explained("take the lock of the run folder", self.path):
            while self._fd is None:
                self._fd = self._attempt()
        _held.add(self)

    def _attempt(self) -> int | None:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                return fd
        except FileNotFoundError:
            pass  # the folder was emptied between open and stat: what is locked has no name any more
        except BlockingIOError:
            os.close(fd)
            text = "another live training run is using this folder; wait until it ends or choose another output_dir"
            raise OSError(errno.EWOULDBLOCK, text, str(self.path.parent)) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    @property
    def held(self) -> bool:
        return self._fd is not None

    def release(self) -> None:
        fd, self._fd = self._fd, None
        _held.discard(self)
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)  # absent when __init__ did not get that far
        if fd is not None:
            os.close(fd)


def _forget_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
