"""What a person may hand to train as data, turned into one array of token ids.

A file, a text, bytes or an array come in; a 1-D integer array comes out, memory-mapped where the file allows it.
``loopos.data`` cuts it into batches.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import warnings
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from loopos import checks
from loopos.text import Tokenizer

from . import content, shared_text
from .examples.data import ExampleData
from .examples.data import find as find_examples
from .token_file import give_back, read_bin, read_npy, tell_width
from .tokenizer import ByteTokenizer, resolve, text_of, utf8

CHUNK = 1 << 20  # ids looked at together, so that a memory-mapped file never has to fit in memory
TEXTS = str | bytes | mmap.mmap
TEXT_SUFFIXES = (".bin", ".csv", ".json", ".jsonl", ".log", ".md", ".npy", ".parquet", ".text", ".tsv", ".txt")


class TextOrPathError(FileNotFoundError, ValueError):
    """A str that is too short to be a text and looks like the path of a file that is not there: both are true."""


class Source(NamedTuple):
    """What was read: a str, bytes, a mapped file of text, a 1-D array of ids, examples, or a dataset object; how errors
    call it; and the text itself when it may have been meant as a path."""

    value: Any
    name: str = "data"
    maybe_path: str | None = None
    path: Path | None = None  # of the file that a text was read from; None of a text that was given

    @property
    def is_dataset(self) -> bool:
        return not isinstance(self.value, TEXTS | np.ndarray | ExampleData)

    @property
    def is_examples(self) -> bool:
        return isinstance(self.value, ExampleData)

    @property
    def is_ids(self) -> bool:
        return isinstance(self.value, np.ndarray)

    @property
    def is_text(self) -> bool:
        return isinstance(self.value, TEXTS)

    @property
    def what(self) -> str:
        """How an error of several processes calls it."""
        return "held-out data" if self.name.startswith("eval_data") else "training data"

    def text(self) -> str:
        """The text as str; bytes that are not UTF-8: ValueError with the position."""
        return self.value if isinstance(self.value, str) else text_of(self.name, self.value)

    def characters(self, ranks: Any = None) -> str:
        """All that the text has, and each once where several ``ranks`` look for them together."""
        if _several(ranks) and self.path is not None:
            return shared_text.characters(self.name, self.value, ranks)
        return self.text()


def _several(ranks: Any) -> bool:
    return ranks is not None and ranks.size > 1


def read(data: Any, name: str = "data", ranks: Any = None) -> Source:
    """Take ``data`` for what it is. ranks: the processes that read the same at the same time; a file of text is then
    mapped into memory by all of them. DifferentRank where it is another one in some.

    pathlib.Path, or a str when such a file exists: its contents (.npy and .bin are memory-mapped ids, .jsonl, .csv and
    .parquet are examples, and so is a folder with train.jsonl; anything else is text, kept as bytes); a list of
    objects: examples; another str: that text; bytes: themselves; a 1-D integer array or a list of ints: ids; an object
    with ``batch``: itself. Ids that are not integers: TypeError; more than one dimension: ValueError; a Path that is
    not there: FileNotFoundError."""
    if (examples := find_examples(data, name)) is not None:
        return Source(examples, examples.named)
    if isinstance(data, PurePath):
        return _read_file(Path(data), name, ranks)
    if isinstance(data, str):
        if os.path.isfile(data):
            return _read_file(Path(data), name, ranks)
        return Source(data, name, data if _looks_like_path(data) else None)
    if isinstance(data, bytes | bytearray | memoryview):
        return Source(bytes(data), name)
    if isinstance(data, list | tuple | range) or hasattr(data, "__array__"):
        ids = token_array(data, name)
        tell_width(ids, name)
        return Source(ids, name)
    if callable(getattr(data, "batch", None)) and not isinstance(data, type):
        return Source(data, name)
    raise TypeError(
        f"{name}: expected a path, a text, bytes, a 1-D integer array or an object with batch(step, micro), "
        f"got {checks.shown(data)}"
    )


def token_array(values: Any, name: str) -> np.ndarray:
    """``values`` as a plain 1-D integer array, without a copy of an array or memmap."""
    if isinstance(values, list | tuple) and any(isinstance(value, str | bytes | PurePath) for value in values[:100]):
        kind = "files" if any(isinstance(value, PurePath) for value in values[:100]) else "texts"
        raise TypeError(
            f"{name}: a list of {kind} is not read; give one path, or join the texts into one: '\\n\\n'.join(texts)"
        )
    checks.unmasked(name, "ids", values)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:  # ragged lists, tensors that refuse
        raise TypeError(f"{name}: ids must be a 1-D integer array, got {type(values).__name__} ({error})") from None
    if array.size and array.dtype.kind not in "iu":  # an empty list has no type; its length is refused later
        raise TypeError(f"{name}: ids must be integers, got {array.dtype}; nothing is cast silently")
    if array.ndim != 1:
        raise ValueError(f"{name}: ids must be a 1-D array, got shape {array.shape}")
    return array if array.size else np.zeros(0, np.int64)


def _read_file(path: Path, name: str, ranks: Any) -> Source:
    name = f"{name} (file {path})"
    if not path.exists():
        hint = "; standard input is /dev/stdin" if str(path) == "-" else ""
        raise FileNotFoundError(errno.ENOENT, f"{name}: no such file{hint}", str(path))
    if path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, f"{name}: expected a file, or a folder with train.jsonl, got a folder without", str(path)
        )
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return Source(token_array(read_npy(path, name), name), name)
    if suffix == ".bin":
        return Source(read_bin(path, name), name)
    if not _several(ranks):
        return Source(path.read_bytes(), name, path=path)
    source = Source(_mapped(path), name, path=path)
    shared_text.compare(path, ranks, source.what)
    return source


def _mapped(path: Path) -> mmap.mmap | bytes:
    """Its bytes; what cannot be mapped, a pipe or an empty file, is read."""
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return file.read()


def _looks_like_path(text: str) -> bool:
    if not text or len(text) > 4096 or "\n" in text:
        return False
    suffix = os.path.splitext(text)[1][1:]
    return os.sep in text or (0 < len(suffix) <= 5 and suffix.isalnum())


def require_length(source: Source, tokens: int, seq_len: int) -> None:
    """At least seq_len + 1 ``tokens``, or ValueError with both numbers. When the text may have been meant as a path,
    the error says that no such file was found; a longer text that is certainly a file name brings a warning."""
    path = source.maybe_path
    if tokens > seq_len:
        if path and path.lower().endswith(TEXT_SUFFIXES) and not any(c.isspace() for c in path):
            warnings.warn(
                f"{source.name}: no file {path!r} was found, so its name is taken as the text to learn; pass a "
                "pathlib.Path if a file was meant",
                stacklevel=2,
            )
        return
    sentence = f"{source.name}: {tokens} tokens are too few for seq_len {seq_len}, which needs at least {seq_len + 1}"
    if path is None:
        raise ValueError(f"{sentence}; give more text or a smaller seq_len")
    raise TextOrPathError(
        errno.ENOENT,
        f"the file was not found, and as a text it is too short. {sentence}. If a file was meant, "
        f"there is none of that name in {os.getcwd()}",
        path,
    )


def examine(source: Source, tokenizer: Any) -> None:
    """A text that was read from a file: see :func:`loopos.data.content.examine`."""
    if source.is_text and source.path is not None:
        named = isinstance(tokenizer, str) and tokenizer == "bytes"
        content.examine(source.value, source.name, source.path.suffix.lower(), bytes_meant=named)


def to_ids(source: Source, tokenizer: Any, ranks: Any = None) -> np.ndarray:
    """The ids of ``source``: a text through ``tokenizer`` (an object, see tokenizer.resolve), ids as they are. ranks:
    the processes that call this at the same time, and share the work on a file out."""
    if not source.is_text:
        return source.value
    if isinstance(tokenizer, ByteTokenizer):  # one byte an id, not four: the text may be large
        data = utf8(source.name, source.value) if isinstance(source.value, str) else source.value
        return np.frombuffer(data, dtype=np.uint8)
    if _several(ranks) and source.path is not None and shared_text.divided(tokenizer):
        return shared_text.to_ids(source.path, source.name, source.value, tokenizer, ranks, source.what)
    encoded = tokenizer.encode(source.text())
    encoded = np.array(encoded, np.int32) if isinstance(tokenizer, Tokenizer) else encoded  # a list, and may be long
    return token_array(encoded, f"{source.name}: tokenizer.encode")


def load_ids(data: Any, tokenizer: Any = None) -> tuple[np.ndarray, Any]:
    """Everything of :func:`read` except examples and dataset objects, and a tokenizer or its name, as (ids (N,),
    tokenizer object). For ids the tokenizer is the object given, or None. "chars" takes its vocabulary from the whole
    text."""
    ids, made = load(data, tokenizer)
    if isinstance(ids, ExampleData):
        raise TypeError(f"{ids.named}: expected a text, a file of text or ids, got examples")
    return ids, made


def load(
    data: Any, tokenizer: Any = None, name: str = "data", ranks: Any = None
) -> tuple[np.ndarray | ExampleData, Any]:
    """As :func:`load_ids`, and examples as they are. name: how errors call ``data``; ranks: see :func:`read`."""
    source = read(data, name, ranks)
    if source.is_dataset:
        raise TypeError(f"{source.name}: expected a text, a file or ids, got {checks.shown(data)}")
    if tokenizer is None and source.is_ids:
        return source.value, None
    examine(source, tokenizer)
    made = resolve(tokenizer, source.characters(ranks) if tokenizer == "chars" and source.is_text else None)
    return (source.value if source.is_examples else to_ids(source, made, ranks)), made


def check_ids(ids: np.ndarray, vocab_size: int, name: str = "data") -> None:
    """Every id within 0..vocab_size-1, or IndexError with the first one's position and value. Read in pieces."""
    limits = np.iinfo(ids.dtype)
    if limits.min >= 0 and limits.max < vocab_size:
        return
    for start in range(0, len(ids), CHUNK):
        piece = ids[start : start + CHUNK]
        if piece.min() < 0 or piece.max() >= vocab_size:
            at = int(np.argmax((piece < 0) | (piece >= vocab_size)))
            more = ", and a .bin file is read as uint16" if name.endswith(".bin)") else ""
            if ids.dtype == np.uint8:
                more = ", and a text is read as bytes, ids 0..255, unless tokenizer= says otherwise"
            raise IndexError(
                f"{name}: id {piece[at]} at position {start + at} is outside 0..{vocab_size - 1}; "
                f"vocab_size is {vocab_size}{more}"
            )
        give_back(ids)


def fingerprint(ids: np.ndarray) -> dict[str, Any]:
    """{"kind": "tokens", "length": N, "sha256": hex} of ids (N,), JSON-safe. The digest is of the values as
    little-endian int64, so the same ids in another dtype agree; beyond 4 Mi ids it samples 64 pieces spread evenly."""
    count, piece = len(ids), 1 << 16
    whole = count <= 64 * piece
    starts = range(0, count, piece) if whole else [i * (count - piece) // 63 for i in range(64)]
    digest = hashlib.sha256(f"{count}:".encode())
    for start in starts:
        digest.update(ids[start : start + piece].astype("<i8").tobytes())
        give_back(ids)
    return {"kind": "tokens", "length": count, "sha256": digest.hexdigest()}


def default_text() -> str:
    """English that every Python carries: the texts of ``pydoc_data.topics`` in the order of their sorted keys, with an
    empty line between. About 460 kB; it varies a little with the version of Python."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise FileNotFoundError(
            errno.ENOENT, "default_text: this Python came without its help texts; pass a text file instead"
        ) from None
    return "\n\n".join(topics[key].strip() for key in sorted(topics))


def train_eval_split(text_or_ids: Any, fraction: float = 0.1) -> tuple[Any, Any]:
    """(train, held out): the last ``fraction`` of a str, bytes, array or ExampleData is held out; train is the first
    int(N (1 - fraction)), and nothing is copied that can be viewed. fraction in (0, 1)."""
    if isinstance(text_or_ids, ExampleData):
        return text_or_ids.split(checks.real("train_eval_split", "fraction", fraction, above=0, below=1))
    if not isinstance(text_or_ids, str | bytes | np.ndarray):
        raise TypeError(f"train_eval_split: expected str, bytes or an array of ids, got {checks.shown(text_or_ids)}")
    fraction = checks.real("train_eval_split", "fraction", fraction, above=0, below=1)
    cut = int(len(text_or_ids) * (1 - fraction))
    return text_or_ids[:cut], text_or_ids[cut:]
