"""The number of threads, for the length of a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import _core


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads inside the block; None leaves the number as it is."""
    before = _core.get_num_threads()
    if count is not None:
        _core.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            _core.set_num_threads(before)
