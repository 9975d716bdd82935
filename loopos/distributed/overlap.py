"""Gradients are sent while backward makes the next ones.

Backward tells from where on in their buffer gradients are final (``final_from`` of the core's accumulate). A thread
sends the buckets that are, and looks at those under way: MPI moves them when somebody looks. The thread of the run
computes meanwhile; when its pass is through it takes over, and the two are never in MPI at the same time.

It takes some of a core, so it is for ranks on several machines. Within one, sending is copying, which the cores that
compute do themselves, now or later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

LOOKS = 128  # at what is under way, before a pause: MPI moves some kilobytes a look
PAUSE = 1e-3  # seconds
_left: list[Any] = []  # exchanges that an error left under way: MPI may still write where they point to


def left_under_way() -> bool:
    """Whether an error has left exchanges of this process half done, for which later ones would be taken."""
    return bool(_left)


class Overlap:
    """Carries an exchange on for as long as the context lasts, which gives the function that backward calls.

    Nothing happens where it is never called. What goes wrong is raised when the context ends."""

    def __init__(self, exchange: Any, size: int):
        """exchange: begun, with advance(first) and starts_at(first); size: of the buffer, of which nothing is final."""
        self._exchange, self._first = exchange, size
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Callable[[int], None]:
        return self.final_from

    def final_from(self, first: int) -> None:
        """The numbers from here to the end will not change any more."""
        self._first = min(self._first, first)
        if self._thread is None and self._exchange.starts_at(self._first):
            self._thread = threading.Thread(target=self._work, name="loopos-overlap", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            while not self._over.is_set():
                for _ in range(LOOKS):
                    self._exchange.advance(self._first)
                self._over.wait(PAUSE)
        except BaseException as error:
            self._error = error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self._thread is None:
            return
        if error is not None:
            _left.append(self._exchange)
        self._thread.join()
        if self._error is not None and error is None:
            _left.append(self._exchange)
            raise self._error
