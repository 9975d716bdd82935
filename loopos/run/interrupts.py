"""Ctrl-C and SIGTERM while training: finish what is whole, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """Raised by :meth:`Interrupts.check`, between two micro-batches: the update under way is abandoned."""


class Interrupts:
    """A context in which the first Ctrl-C only sets ``pending``, for the loop to look at; a second one raises
    KeyboardInterrupt where it falls. SIGTERM sets ``pending`` too, when ``sigterm`` asks for it.

    Only Python's own handler (and the system's, for SIGTERM) is replaced: whoever has set another keeps it. Outside the
    main thread, where Python has no signals, nothing is done. The old handlers come back at the end."""

    def __init__(self, *, sigterm: bool = False):
        self.pending: signal.Signals | None = None
        self.forced = False
        self._replaced: dict[signal.Signals, Any] = {}
        self._wanted = {signal.SIGINT: signal.default_int_handler}
        if sigterm:
            self._wanted[signal.SIGTERM] = signal.SIG_DFL

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, usual in self._wanted.items():
                if signal.getsignal(number) == usual:
                    self._replaced[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._replaced:
            signal.signal(*self._replaced.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending is None:
            self.pending = signal.Signals(number)
        elif number == signal.SIGINT:
            self.forced = True
            raise KeyboardInterrupt("training was stopped by a second Ctrl-C")

    def check(self) -> None:
        """Raise Interrupted when a signal has come."""
        if self.pending is not None:
            raise Interrupted
