"""One generation at a time: requests wait in a queue of limited length, one thread takes them in order.

The thread that computes and the loop that talks to clients meet here alone: a :class:`Job` hands its pieces over, and
is told to stop when its client has gone, its time is up or the server ends.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .errors import Refused

Work = Callable[[Callable[[], bool]], Iterator[Any]]  # given a function that says whether to stop; yields pieces


class Job:
    """A piece of work and what has come of it so far."""

    def __init__(self, work: Work, seconds: float):
        self.work, self.seconds = work, seconds
        self._stop = threading.Event()
        self._why: Refused | None = None
        self._deadline: float | None = None
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Any] = asyncio.Queue()

    def cancel(self, why: Refused | None = None) -> None:
        """why: told to the client, if there is one still; a cut answer must not look like a whole one."""
        self._why = self._why or why
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def stopped(self) -> bool:
        """Asked between two tokens. The time begins with the work, not with the waiting."""
        return self._stop.is_set() or (self._deadline is not None and time.monotonic() > self._deadline)

    def run(self) -> None:
        """In the thread that computes."""
        if self.cancelled:
            return self._tell(self._why or _END)
        self._deadline = time.monotonic() + self.seconds
        try:
            for piece in self.work(self.stopped):
                self._tell(piece)
            late = not self.cancelled and time.monotonic() > self._deadline
            self._tell(_late(self.seconds) if late else self._why or _END)
        except Exception as error:  # the client is told, and the next one is served
            self._tell(error)

    def _tell(self, piece: Any) -> None:
        # the loop has ended: the server is going down
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    async def pieces(self) -> AsyncIterator[Any]:
        """As they come; what went wrong is raised."""
        try:
            while (piece := await self._pieces.get()) is not _END:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.cancel()


class Jobs:
    """waiting: how many may wait behind the one that is computed."""

    def __init__(self, waiting: int):
        self.waiting = waiting
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._open: set[Job] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="loopos-serve", daemon=True)
        self._thread.start()

    def submit(self, work: Work, seconds: float) -> Job:
        """Refused with 429 when the queue is full."""
        with self._lock:
            if self._closed:
                raise Refused(503, "the server is stopping")
            if sum(not job.cancelled for job in self._open) > self.waiting:  # whose clients have gone wait for nothing
                raise Refused(
                    429, f"{self.waiting} requests are waiting already; try again later", code="queue_is_full"
                )
            job = Job(work, seconds)
            self._open.add(job)
        self._queue.put(job)
        return job

    def close(self) -> None:
        """No more work is taken; what is under way stops after its token."""
        with self._lock:
            self._closed = True
            for job in self._open:
                job.cancel(Refused(503, "the server is stopping"))
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job.run()
            finally:
                with self._lock:
                    self._open.discard(job)


_END = object()


def _late(seconds: float) -> Refused:
    return Refused(504, f"the answer was not complete after {seconds:g} s, the limit of this server", code="timeout")
