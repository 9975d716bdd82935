"""Work done by threads ahead of the one who asks for it, in order, a bounded amount of it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def mapped(function: Callable[[A], B], items: Iterable[A], workers: int, window: int = 16) -> Iterator[B]:
    """``function`` of each item, in order; at most ``window`` results exist before they are taken."""
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="loopos-pictures") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Ahead:
    """``make(number)`` for numbers that are mostly asked for one after another: the next ``count`` are made while the
    caller uses the last. Any order gives the same results; another order only waits. count 0: no threads."""

    def __init__(self, make: Callable[[int], Any], count: int, workers: int):
        self._make, self.count, self.workers = make, count, workers
        self._waiting: OrderedDict[int, Future] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None

    def take(self, number: int) -> Any:
        """``make(number)``; an error that it raised is raised here."""
        if not self.count:
            return self._make(number)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loopos-pictures")
        wanted = range(number, number + self.count + 1)
        for other in [each for each in self._waiting if each not in wanted]:  # the order changed, as after a resume
            self._waiting.pop(other).cancel()
        for each in wanted:
            if each not in self._waiting:
                self._waiting[each] = self._pool.submit(self._make, each)
        return self._waiting.pop(number).result()

    def close(self) -> None:
        """End the threads; ``take`` starts them again."""
        pool, self._pool = self._pool, None
        self._waiting.clear()
        if pool is not None:
            pool.shutdown(cancel_futures=True)
