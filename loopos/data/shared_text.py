"""A file of text, turned into tokens once a machine by the processes that read it at the same time.

Characters can be cut anywhere between two of them, so the processes share a text out. What a tokenizer of larger pieces
(BPE and the like) makes of one place may depend on the text around it, so one process of each machine does all of it.
What they make is one cache (``loopos.data.examples.store``) that all of a machine map into memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from loopos.text import Tokenizer

from .examples import together
from .examples.data import digest_of
from .examples.encoding import LEARNED, Encoded
from .examples.lines import Share, bounds
from .token_file import give_back
from .tokenizer import CharTokenizer, text_of

PIECE = 1 << 20  # bytes turned into tokens together
_LONGEST = 3  # bytes of a character after its first
SIGN = 1.0  # seconds between two signs that a process gets on


def compare(path: Path, ranks: Any, what: str) -> None:
    """DifferentRank in every process when one has other bytes in this file. Of a machine one process reads them."""
    together.same_file(path, "text", ranks, what)


def characters(name: str, text: Any, ranks: Any) -> str:
    """Those of ``text``, UTF-8 bytes that every process has, sorted; each looks at its share of them. name: how errors
    call the text."""

    def own() -> str:
        found: set[str] = set()
        for first, last in _cuts(text, (ranks.rank, ranks.size)):
            found.update(text_of(name, text[first:last], first))
        return "".join(sorted(found))

    return "".join(sorted(set().union(*together.in_each(ranks, own))))


def divided(tokenizer: Any) -> bool:
    """Whether :func:`to_ids` is for what this tokenizer makes of a text."""
    return type(tokenizer) in (CharTokenizer, Tokenizer)


def to_ids(path: Path, name: str, text: Any, tokenizer: Any, ranks: Any, what: str) -> np.ndarray:
    """The ids (N,) of ``text``, the bytes of ``path``, in every process: the same as ``tokenizer.encode`` gives, and
    the same errors. what: how an error calls bytes that are others in a process."""

    def before(share: Share) -> int:
        if isinstance(tokenizer, Tokenizer):
            return 0
        return sum(_begin(np.frombuffer(text[first:last], np.uint8)) for first, last in _cuts(text, share))

    def encoded(share: Share, position: int) -> Iterator[Encoded]:
        if isinstance(tokenizer, Tokenizer):
            if share[0] == 0:
                with _getting_on(ranks):
                    yield Encoded(np.array(tokenizer.encode(text_of(name, text)), np.int32), 0, 0, LEARNED)
            return
        for first, last in _cuts(text, share):
            part = text_of(name, text[first:last], first)
            yield Encoded(tokenizer.encode_part(part, position), first, 0, LEARNED)
            position += len(part)

    return together.of_file(path, f"text {digest_of(tokenizer)}", ranks, what, before, encoded).whole


def _begin(data: np.ndarray) -> int:
    """How many characters begin in these bytes of UTF-8."""
    return int(np.count_nonzero((data & 0xC0) != 0x80))


def _cuts(text: Any, share: Share) -> Iterator[tuple[int, int]]:
    """From where to where the pieces of a share of these UTF-8 bytes go: no character is cut."""
    at, end = (_boundary(text, each) for each in bounds(len(text), share))
    while at < end:
        last = min(_boundary(text, at + PIECE), end)
        yield at, last
        give_back(text)
        at = last


def _boundary(text: Any, at: int) -> int:
    """The first byte from ``at`` on that a character begins with, or the end; in what is no UTF-8 some byte near."""
    if at == 0:
        return 0
    for place in range(at, min(at + _LONGEST, len(text))):
        if text[place] & 0xC0 != 0x80:
            return place
    return min(at + _LONGEST, len(text))


@contextmanager
def _getting_on(ranks: Any) -> Iterator[None]:
    """The others wait, and a tokenizer does not tell how far it is: for as long as this lasts this process is told to
    get on."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(SIGN):
            ranks.at(0)

    thread = threading.Thread(target=tell, name="loopos-getting-on", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
