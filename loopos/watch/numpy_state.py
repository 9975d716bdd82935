"""The state of numpy's global generator, again and again, in a fraction of what ``numpy.random.get_state`` takes.

That call copies 624 words one by one in Python: a quarter of what watching a step of a small program took. Here the
words are compared with those of the last time, as numpy's ``BitGenerator.ctypes`` shows them, and copied when they
changed. With a second normal number in store the words alone do not say all; then they are copied too.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

_WORDS = 624
_BYTES = 4 * _WORDS + 4  # of MT19937: the words, and the place among them


class NumpyState:
    """Remembers the last state. now(): what ``numpy.random.set_state`` takes."""

    def __init__(self) -> None:
        self._raw: tuple[int, bytes] | None = None  # where, and what the generator's memory held
        self._state: Any = None

    def now(self) -> Any:
        raw = _raw()
        if raw is None or raw != self._raw:
            self._state = _copied()
            self._raw = raw if raw is not None and _agrees(raw[1], self._state) else None
        return self._state


def _raw() -> tuple[int, bytes] | None:
    """None where numpy, or a generator of somebody's own, does not show it."""
    try:
        generator = np.random.get_bit_generator()
        if type(generator) is not np.random.MT19937:
            return None
        address = generator.ctypes.state_address
    except (AttributeError, ImportError):
        return None
    return address, ctypes.string_at(address, _BYTES)


def _copied() -> Any:
    """A tuple, or of another generator than MT19937 a dict."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002 (the user's, not ours)
    if state["bit_generator"] != "MT19937":
        return state
    return "MT19937", state["state"]["key"], state["state"]["pos"], state["has_gauss"], state["gauss"]


def _agrees(raw: bytes, state: Any) -> bool:
    """Whether the memory is what it is taken for, and all of the state."""
    _, words, place, stored, _ = state
    return not stored and raw == np.asarray(words, np.uint32).tobytes() + np.int32(place).tobytes()
