"""What a person hands to train as examples: a file, a folder with train and valid, or a list of records."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from loopos import checks

from . import records, together
from .encoding import Encoded, Encoder, end_of_text
from .folder import splits
from .forms import EXPECTED, example_of
from .lines import WHOLE, Share, bounds
from .records import lines_before, unit
from .store import KEPT_FROM, Store, of_examples, of_file


class ExampleData(NamedTuple):
    """Examples not yet read. files: in order, or records: a list of objects; valid: files that are held out, of a
    folder; part: which share of the examples, from where to where, each from 0 to 1."""

    files: tuple[Path, ...]
    name: str = "data"
    records: Sequence[Mapping[str, Any]] | None = None
    valid: tuple[Path, ...] = ()
    part: tuple[float, float] = (0.0, 1.0)

    @property
    def named(self) -> str:
        """How errors call it."""
        return f"{self.name} (file {self.files[0]})" if len(self.files) == 1 else self.name

    def held_out(self) -> ExampleData | None:
        """The folder's own held-out files."""
        return ExampleData(self.valid, "eval_data") if self.valid else None

    def split(self, fraction: float) -> tuple[ExampleData, ExampleData]:
        """(train, held out): the last ``fraction`` of the examples is held out."""
        start, end = self.part
        cut = end - (end - start) * fraction
        return self._replace(part=(start, cut)), self._replace(part=(cut, end), name="eval_data", valid=())

    def stores(self, tokenizer: Any, *, progress: bool = False, ranks: Any = None) -> list[Store]:
        """The tokens of each file: out of its cache, or made now, with a bar for a large file where ``progress``.
        ranks: the processes that call this at the same time, and share the work out."""
        encoder, digest = Encoder(tokenizer), digest_of(tokenizer)
        several = ranks is not None and ranks.size > 1
        what = "held-out data" if self.name == "eval_data" else "training data"
        if self.records is not None:

            def listed(share: Share) -> Iterator[Encoded]:
                return encoder.encode(self._recorded(share))

            found = together.of_records(self.records, ranks, what, listed) if several else list(listed(WHOLE))
            content = hashlib.sha256(b"".join(each.tokens.tobytes() + b"\0" for each in found)).hexdigest()
            return [of_examples(found, content)]

        def store(path: Path) -> Store:
            def encoded(share: Share = WHOLE, before: int = 0) -> Iterator[Encoded]:
                return encoder.encode(_read(path, f"{self.name} (file {path})", progress, share, before))

            if not several:
                return of_file(path, digest, encoded)
            return together.of_file(path, digest, ranks, what, partial(lines_before, path), encoded)

        return [store(path) for path in self.files]

    def numbered(self) -> Iterator[tuple[str, Any]]:
        """(how errors call it, record) of each record of this part, in order."""

        def every() -> Iterator[tuple[str, Any]]:
            for at, record in enumerate(self.records or ()):
                yield f"{self.name}[{at}]", record
            for path in self.files:
                for number, record in records.records(path, f"{self.name} (file {path})"):
                    yield f"{self.name} (file {path}), {unit(path)} {number}", record

        total = sum(1 for _ in every()) if self.part != (0.0, 1.0) else None
        first, last = (0, None) if total is None else (round(share * total) for share in self.part)
        return islice(every(), first, last)

    def _recorded(self, share: Share) -> Iterator[tuple[int, Any, str]]:
        given = self.records or ()
        first, last = bounds(len(given), share)
        for at, record in enumerate(given[first:last], first):
            where = f"{self.name}[{at}]"
            yield at, example_of(record, where), where


def _read(path: Path, name: str, progress: bool, share: Share, before: int) -> Iterator[tuple[int, Any, str]]:
    """(number, Example, where) of each record of a file, or of a share of it that so many lines come before."""
    size, what = path.stat().st_size // share[1], unit(path)
    from tqdm import tqdm  # here: `import loopos` need not wait for it

    shown = progress and size * share[1] >= KEPT_FROM and sys.stderr is not None
    with tqdm(total=size, unit="B", unit_scale=True, desc=f"tokens of {path.name}", disable=not shown) as bar:
        for number, record in records.records(path, name, bar.update, share, before):
            where = f"{name}, {what} {number}"
            yield number, example_of(record, where), where


def find(data: Any, name: str = "data") -> ExampleData | None:
    """``data`` as examples: ExampleData itself, a file of one of the SUFFIXES, a folder with train.jsonl and the like,
    a list of objects; None for anything else."""
    if isinstance(data, ExampleData):
        return data
    if isinstance(data, list | tuple) and data and isinstance(data[0], Mapping):
        return ExampleData((), name, records=list(data))
    if not isinstance(data, str | os.PathLike) or (isinstance(data, str) and (not data or "\0" in data)):
        return None
    path = Path(data)
    if path.suffix.lower() in records.SUFFIXES and path.is_file():
        return ExampleData((path,), name)
    try:
        is_folder = path.is_dir()
    except OSError:  # a text that is too long for a name
        return None
    if not is_folder or (found := splits(path)) is None:
        return None
    return ExampleData(found.train, name, valid=found.valid)


def digest_of(tokenizer: Any) -> str | None:
    """What tells a tokenizer from another, chat template and special tokens included; None of one that cannot be
    told."""
    if hasattr(tokenizer, "files"):
        parts = sorted((name, content) for name, content in tokenizer.files().items())
        digest = hashlib.sha256()
        for name, content in parts:
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()
    if hasattr(tokenizer, "sha256"):
        return str(tokenizer.sha256)
    if hasattr(tokenizer, "to_dict"):
        return hashlib.sha256(json.dumps([tokenizer.to_dict(), end_of_text(tokenizer)]).encode()).hexdigest()
    return None


def require(data: Any, where: str) -> ExampleData:
    """``data`` as examples, or TypeError."""
    found = find(data)
    if found is None:
        raise TypeError(
            f"{where}: expected examples: a .jsonl, .csv or .parquet file, a folder with train.jsonl, or "
            f"a list of objects such as {EXPECTED}, got {checks.shown(data)}"
        )
    return found
