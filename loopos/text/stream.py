"""Text token by token, without broken characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\ufffd"
_LONGEST = 8  # more unfinished bytes in a row than any character has: they are no character


class DecodeStream:
    """Ids one by one in, text piece by piece out: a character that is spread over several tokens comes when its last
    byte has come. What ``put`` and ``flush`` return, joined, is the text of all ids."""

    def __init__(self, decode: Callable[[Sequence[int]], str]):
        """decode: ids to text, of a tokenizer."""
        self._decode = decode
        self._ids: list[int] = []  # those not told yet, behind some for context: some decoders drop a first space
        self._told = 0  # characters of their text that were returned

    def put(self, id: int) -> str:
        """The text that is certain now; "" when a character is not complete."""
        self._ids.append(int(id))
        text = self._decode(self._ids)
        certain = len(text.rstrip(BROKEN))
        if len(text) - certain > _LONGEST:
            certain = len(text) - _LONGEST
        certain = max(certain, self._told)
        new, self._told = text[self._told : certain], certain
        if certain == len(text) and new:
            self._forget(text)
        return new

    def _forget(self, text: str) -> None:
        """Keep the fewest last ids whose text alone is the end of the whole one: not half a character."""
        for start in range(len(self._ids) - 1, max(0, len(self._ids) - _LONGEST), -1):
            rest = self._decode(self._ids[start:])
            if rest and text.endswith(rest):
                self._ids, self._told = self._ids[start:], len(rest)
                return

    def flush(self) -> str:
        """What is left, broken characters as U+FFFD; the stream is then at its beginning again."""
        text = self._decode(self._ids)[self._told :] if self._ids else ""
        self._ids, self._told = [], 0
        return text
