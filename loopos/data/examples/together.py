"""The tokens of examples, made by several processes: each turns records of its own into tokens, none of them twice on
one machine.

Processes that see the same file share its records out and write one cache, which all of them map into memory: it is,
byte for byte, what one process makes. What is wrong with a record is said as one process says it: of the first.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loopos.files import durable

from .encoding import Encoded
from .lines import Share
from .store import (
    KEPT_FROM,
    Files,
    Making,
    Store,
    already_open,
    append,
    begin,
    of_examples,
    opened,
    stays_open,
    write,
)

_LETTERS = 16  # of a digest, where people read it
_DATA_ERRORS = (IndexError, TypeError, ValueError)


def of_records(
    records: Sequence[Any], ranks: Any, what: str, encoded: Callable[[Share], Iterator[Encoded]]
) -> list[Encoded]:
    """Of a list that each process has. encoded: of a share of it; what: how an error calls a list that is another one
    in a process."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr(record).encode("utf-8", "surrogatepass") + b"\0")
    _require_same(ranks, what, digest.hexdigest())
    parts = in_each(ranks, lambda: list(encoded((ranks.rank, ranks.size))))
    return [each for part in parts for each in part]


def of_file(
    path: Path,
    tokenizer: str | None,
    ranks: Any,
    what: str,
    before: Callable[[Share], int],
    encoded: Callable[[Share, int], Iterator[Encoded]],
) -> Store:
    """As ``store.of_file``, in every process at the same time. before: of a share, see ``records.lines_before``;
    encoded: of a share that so many lines come before."""
    here, digest = same_file(path, tokenizer, ranks, what)
    leads, share = here[0] == ranks.rank, (here.index(ranks.rank), len(here))
    store = already_open(path, digest, tokenizer)
    if all(ranks.gather(store is not None)):
        return store
    counted = ranks.gather(before(share))
    lines = sum(counted[rank] for rank in here[: share[0]])
    if path.stat().st_size < KEPT_FROM:
        parts = in_each(ranks, lambda: list(encoded(share, lines)))
        store = of_examples([each for rank in here for each in parts[rank]], digest)
        store.path = path
        return stays_open(store, path, tokenizer)

    begun = begin(path, digest, tokenizer) if leads else None
    aside = ranks.gather(begun.aside if isinstance(begun, Making) else None)[here[0]]

    def own() -> Files | None:
        if aside is None:
            return None
        folder = aside if leads else aside / str(share[0])
        os.makedirs(folder, exist_ok=True)
        return write(folder, encoded(share, lines))

    def joined() -> Files:
        files = in_each(ranks, own, keep=True)
        for part in range(1, share[1]):
            append(files, aside / str(part))
            durable.remove(aside / str(part))
        return files

    if isinstance(begun, Making):
        store = begun.made(joined)
    else:
        in_each(ranks, own, keep=True)
        store = begun
    place = ranks.gather(None if store is None else store.folder)[here[0]]
    if store is None:
        store = opened(place, path, digest, verify=False)
    if not all(ranks.gather(store is not None)):
        raise OSError(f"{path}: its cache {place} is gone before all ranks of this machine could open it")
    return stays_open(store, path, tokenizer)


def same_file(path: Path, tokenizer: str | None, ranks: Any, what: str) -> tuple[list[int], str]:
    """(the processes for which it is one file, its digest), which one of them makes. DifferentRank in every process
    when it has other bytes in one; what: how the error calls them."""
    here = _who_sees(path, tokenizer, ranks)
    digest = ranks.gather(durable.sha256(path) if here[0] == ranks.rank else None)[here[0]]
    _require_same(ranks, what, digest)
    return here, digest


def _who_sees(path: Path, tokenizer: str | None, ranks: Any) -> list[int]:
    """The processes for which ``path`` is the file that it is for this one, with the same tokenizer."""
    found = path.stat()
    file = socket.gethostname(), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, tokenizer
    files = ranks.gather(file)
    return [rank for rank, theirs in enumerate(files) if theirs == file]


def _require_same(ranks: Any, what: str, digest: str) -> None:
    ranks.same({f"{what} (their SHA-256)": digest[:_LETTERS]})


def in_each(ranks: Any, work: Callable[[], Any], *, keep: bool = False) -> Any:
    """What ``work`` gave in each process, or with ``keep`` in this one. An error about data is raised in all of them:
    that of the first process that has one, which has the first of the records."""
    result, error = None, None
    try:
        result = work()
    except _DATA_ERRORS as raised:
        kind = next(each for each in _DATA_ERRORS if isinstance(raised, each))
        error = kind.__name__, str(raised)
    told = ranks.gather((None if keep else result, error))
    for _, wrong in told:
        if wrong is not None:
            raise {each.__name__: each for each in _DATA_ERRORS}[wrong[0]](wrong[1])
    return result if keep else [each for each, _ in told]
