"""Ctrl-C and SIGTERM while training: finish what is whole, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import numpy as np

from loopos.distributed.alone import Alone


class Interrupted(Exception):
    """Raised by :meth:`Interrupts.check`, between two micro-batches: the update under way is abandoned."""


class Interrupts:
    """A context in which the first Ctrl-C only sets ``pending``, for the loop to look at; a second one raises
    KeyboardInterrupt where it falls. SIGTERM sets ``pending`` too, when ``sigterm`` asks for it.

    Only Python's own handler (and the system's, for SIGTERM) is replaced: whoever has set another keeps it. Outside the
    main thread, where Python has no signals, nothing is done. The old handlers come back at the end."""

    def __init__(self, *, sigterm: bool = False, ranks: Alone | None = None):
        """ranks: the processes of the run; a signal to any of them counts for all, from the next :meth:`agree` on."""
        self._ranks = ranks if ranks is not None and ranks.size > 1 else None
        self._heard: signal.Signals | None = None
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
        if self._ranks is not None:
            self._heard = signal.Signals(number)  # a second Ctrl-C to one of several processes says no more than one
        elif self.pending is None:
            self.pending = signal.Signals(number)
        elif number == signal.SIGINT:
            self.forced = True
            raise KeyboardInterrupt("training was stopped by a second Ctrl-C")

    def agree(self, stopping: bool) -> bool:
        """Once an update, in every process: a signal that any of them has heard is pending in all. Returns whether the
        first is ``stopping``."""
        if self._ranks is None:
            return stopping
        told = self._ranks.total(
            np.array([self._heard == signal.SIGINT, self._heard == signal.SIGTERM, stopping and self._ranks.first])
        )
        for heard, number in zip(told, (signal.SIGINT, signal.SIGTERM), strict=False):
            if heard and self.pending is None:
                self.pending = number
        return bool(told[2])

    def check(self) -> None:
        """Raise Interrupted when a signal has come."""
        if self.pending is not None:
            raise Interrupted
