"""Where a text ends: at an end-of-text token, or at a stop sequence of ids or of characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopos import checks
from loopos.text import DecodeStream


@dataclass(frozen=True)
class Stops:
    """eos: ids, each of which ends a text. sequences: of ids. strings: found in the text, wherever tokens begin."""

    eos: tuple[int, ...] = ()
    sequences: tuple[tuple[int, ...], ...] = ()
    strings: tuple[str, ...] = ()

    @classmethod
    def checked(cls, where: str, stop: Any, eos: Any, *, vocab_size: int, tokenizer: Any) -> Stops:
        """Of what a caller of the function ``where`` gave. eos: None, an id, or several. stop: None; a string, or a
        sequence of ids; or a list of such. tokenizer: what strings are looked for with, or None."""
        strings, sequences = [], []
        for each in _listed(where, stop):
            if isinstance(each, str):
                strings.append(each)
            else:
                sequences.append(_ids(where, "stop", each, vocab_size))
        if not all((*strings, *sequences)):
            raise ValueError(f"{where}: stop must not hold an empty string or sequence: nothing would be generated")
        if strings and tokenizer is None:
            raise ValueError(
                f"{where}: stop has the string {strings[0]!r}, and there is no tokenizer to look for it with; give "
                "sequences of ids, or a model that has a tokenizer"
            )
        ends: tuple[int, ...] = ()
        if eos is not None:
            ends = _ids(where, "eos", eos if _is_sequence(eos) else [eos], vocab_size)
        return cls(ends, tuple(sequences), tuple(strings))

    def __bool__(self) -> bool:
        return bool(self.eos or self.sequences or self.strings)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _listed(where: str, stop: Any) -> list[Any]:
    if stop is None:
        return []
    if isinstance(stop, str):
        return [stop]
    if not _is_sequence(stop):
        raise TypeError(
            f"{where}: stop must be a string, a sequence of ids or a list of such, got {checks.shown(stop)}"
        )
    listed = list(stop)
    return listed if all(isinstance(each, str) or _is_sequence(each) for each in listed) and listed else [listed]


def _ids(where: str, name: str, ids: Any, vocab_size: int) -> tuple[int, ...]:
    return tuple(checks.integer(where, name, each, low=0, high=vocab_size - 1) for each in ids)


def decoding(tokenizer: Any) -> Callable[[Sequence[int]], str]:
    """The tokenizer's ``decode`` for what a model writes. A vocabulary is often larger than its tokenizer, for the sake
    of round sizes; an id that is no token has no text, as in transformers."""
    size = getattr(tokenizer, "vocab_size", None)
    if size is None:
        return lambda ids: str(tokenizer.decode(ids))
    return lambda ids: str(tokenizer.decode([id for id in ids if id < size]))


class Watch:
    """One text as its ids come: what of it is certain, and whether it has ended."""

    def __init__(self, stops: Stops, tokenizer: Any = None):
        """tokenizer: None where nobody asks for text."""
        self._stops = stops
        self._stream = None if tokenizer is None else DecodeStream(decoding(tokenizer))
        self._longest = max(map(len, stops.sequences), default=0)
        self._last: list[int] = []  # ids, as many as the longest sequence has
        self._held = ""  # text that may be the beginning of a stop string
        self.ended = False

    def prime(self, ids: Sequence[int]) -> str:
        """The text of ids that come before: nothing ends in them, but what follows is decoded as behind them."""
        return "" if self._stream is None else "".join([self._stream.put(int(id)) for id in ids])

    def put(self, id: int) -> str:
        """The text that is certain after the next id. That of an end-of-text token, and of a stop string, is none."""
        if id in self._stops.eos:
            self.ended = True
            return self._release()
        if self._longest:
            self._last = [*self._last, id][-self._longest :]
            self.ended = any(self._last[-len(each) :] == list(each) for each in self._stops.sequences)
        if self._stream is None:
            return ""
        self._held += self._stream.put(id)
        cut = self._cut()
        return self._release() if self.ended and cut is None else self._certain(cut)

    def flush(self) -> str:
        """What was held back, of a text that ends without a stop."""
        return self._release()

    def _cut(self) -> int | None:
        """Where the first stop string begins; the text then ends before it."""
        found = [at for at in (self._held.find(each) for each in self._stops.strings) if at >= 0]
        return min(found) if found else None

    def _certain(self, cut: int | None) -> str:
        if cut is not None:
            self.ended = True
            text, self._held, self._stream = self._held[:cut], "", None
            return text
        keep = 0
        for each in self._stops.strings:
            for n in range(min(len(each) - 1, len(self._held)), keep, -1):
                if self._held.endswith(each[:n]):
                    keep = n
                    break
        certain = len(self._held) - keep
        text, self._held = self._held[:certain], self._held[certain:]
        return text

    def _release(self) -> str:
        text = self._held + ("" if self._stream is None else self._stream.flush())
        self._held = ""
        return text
