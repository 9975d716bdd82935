"""Text to ids and back. Anything with encode, decode and vocab_size is a tokenizer; two are built in, and those of
Hugging Face are ``loopos.text``'s."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from loopos import checks
from loopos.text import Tokenizer, find, is_foreign

_PIECE = 1 << 20  # characters


class ByteTokenizer:
    """UTF-8 bytes: id = byte, vocabulary 256. Round-trips any text."""

    vocab_size = 256

    def encode(self, text: str | bytes) -> np.ndarray:
        """int32 (N,), one id per byte. A lone surrogate, which UTF-8 cannot hold: ValueError with its position."""
        data = utf8("ByteTokenizer.encode", text) if isinstance(text, str) else text
        if not isinstance(data, bytes | bytearray):
            raise TypeError(f"ByteTokenizer.encode: text must be str or bytes, got {checks.shown(text)}")
        return np.frombuffer(data, dtype=np.uint8).astype(np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` (N,). Bytes that are not UTF-8, such as a character cut in half, become U+FFFD."""
        return _ids("ByteTokenizer.decode", ids, 256).astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "bytes"}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByteTokenizer)

    def __hash__(self) -> int:
        return hash("bytes")

    def __repr__(self) -> str:
        return "ByteTokenizer()"


class CharTokenizer:
    """One id per character; the vocabulary is the characters of ``text``, sorted by code point."""

    def __init__(self, text: str):
        """An empty text or a lone surrogate in it: ValueError."""
        if not isinstance(text, str):
            raise TypeError(f"CharTokenizer: text must be str, got {checks.shown(text)}")
        if not text:
            raise ValueError("CharTokenizer: text must have at least one character, got an empty text")
        parts = [np.unique(_code_points("CharTokenizer", *part)) for part in _pieces(text)]
        self._points = np.unique(np.concatenate(parts))

    @property
    def vocab_size(self) -> int:
        return len(self._points)

    @property
    def vocabulary(self) -> str:
        """Character of id i at position i."""
        return self._text(self._points)

    def encode(self, text: str) -> np.ndarray:
        """int32 (N,). A character outside the vocabulary: ValueError naming it and its position."""
        if not isinstance(text, str):
            raise TypeError(f"CharTokenizer.encode: text must be str, got {checks.shown(text)}")
        ids = np.empty(len(text), np.int32)
        for part, before in _pieces(text):
            ids[before : before + len(part)] = self.encode_part(part, before)
        return ids

    def encode_part(self, text: str, before: int) -> np.ndarray:
        """As :meth:`encode`, of a part of a text, which so many characters come before."""
        points = _code_points("CharTokenizer.encode", text, before)
        ids = np.searchsorted(self._points, points).astype(np.int32)
        known = self._points[np.minimum(ids, self.vocab_size - 1)] == points
        if not known.all():
            at = int(np.argmin(known))
            raise ValueError(
                f"CharTokenizer.encode: character {text[at]!r} (U+{ord(text[at]):04X}) at position {before + at} is "
                f"not among the {self.vocab_size} characters of the vocabulary; build the tokenizer from a text that "
                "has it"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` (N,); an id outside 0..vocab_size-1: IndexError with position and value."""
        return self._text(self._points[_ids("CharTokenizer.decode", ids, self.vocab_size)])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "chars", "vocabulary": self.vocabulary}

    @staticmethod
    def _text(points: np.ndarray) -> str:
        return points.astype("<u4").tobytes().decode("utf-32-le")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharTokenizer) and np.array_equal(self._points, other._points)

    def __hash__(self) -> int:
        return hash(self.vocabulary)

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocabulary!r})"


def resolve(spec: Any, text: str | None = None) -> Any:
    """The tokenizer that ``spec`` asks for: None or "bytes"; "chars" (its vocabulary made from ``text``); the path of a
    tokenizer.json or of a folder that has one; a ``tokenizers.Tokenizer``; or an object with encode, decode and
    vocab_size, which is returned as it is. Anything else: TypeError or ValueError."""
    if spec is None or isinstance(spec, str | os.PathLike):
        return _named(spec, text)
    if is_foreign(spec) and not hasattr(spec, "vocab_size"):
        return Tokenizer(spec)
    lacking = [name for name in ("encode", "decode") if not callable(getattr(spec, name, None))]
    if isinstance(spec, type) or lacking or not hasattr(spec, "vocab_size"):
        raise TypeError(
            "train: tokenizer must be None, 'bytes', 'chars', the path of a tokenizer.json or an object with encode, "
            f"decode and vocab_size, got {checks.shown(spec)}"
        )
    checks.integer("train", "tokenizer.vocab_size", spec.vocab_size, low=1)
    return spec


def _named(spec: Any, text: str | None) -> Any:
    if spec is None or spec == "bytes":
        return ByteTokenizer()
    if spec == "chars":
        if text is None:
            raise ValueError(
                "train: tokenizer 'chars' makes its vocabulary from a text, got data without one; "
                "pass a text, or a CharTokenizer"
            )
        return CharTokenizer(text)
    if find(spec) is not None:
        return Tokenizer.from_pretrained(spec)
    raise ValueError(
        f"train: tokenizer must be one of 'bytes', 'chars', got {checks.shown(spec)}, which is no tokenizer.json and "
        "no folder with one either"
    )


def tokenizer_to_dict(tokenizer: Any) -> dict[str, Any] | None:
    """What a checkpoint keeps of a tokenizer: JSON-safe. Of one that is not built in only what tells it from others is
    kept: class name and vocabulary size, because code is never taken from a file; of one of Hugging Face, its digest.
    None stays None."""
    if tokenizer is None:
        return None
    if isinstance(tokenizer, ByteTokenizer | CharTokenizer):
        return tokenizer.to_dict()
    if isinstance(tokenizer, Tokenizer):
        return {"kind": "hf", "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
    return {"kind": "custom", "class": type(tokenizer).__qualname__, "vocab_size": int(tokenizer.vocab_size)}


def tokenizer_from_dict(values: Mapping[str, Any]) -> ByteTokenizer | CharTokenizer:
    """The tokenizer that ``to_dict`` described. Anything malformed, and "custom": ValueError."""
    where = "tokenizer_from_dict"
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: expected a dict with a kind, got {checks.shown(values)}")
    kind = values.get("kind")
    if kind == "bytes":
        return ByteTokenizer()
    if kind == "chars":
        vocabulary = values.get("vocabulary")
        if not isinstance(vocabulary, str) or not vocabulary:
            raise ValueError(f"{where}: vocabulary must be a text, got {checks.shown(vocabulary)}")
        tokenizer = CharTokenizer(vocabulary)
        if tokenizer.vocabulary != vocabulary:  # ids would silently mean other characters
            raise ValueError(f"{where}: vocabulary must be sorted and without repeats, got {checks.shown(vocabulary)}")
        return tokenizer
    if kind == "custom":
        raise ValueError(
            f"{where}: the tokenizer was an object of class {values.get('class')!r}, which a file cannot carry; "
            "pass it again as tokenizer="
        )
    if kind == "hf":
        raise ValueError(f"{where}: a checkpoint does not carry the tokenizer.json of this run; pass it again")
    raise ValueError(f"{where}: kind must be 'bytes' or 'chars', got {checks.shown(kind)}")


def utf8(where: str, text: str) -> bytes:
    """The UTF-8 bytes of ``text``; a lone surrogate, which UTF-8 cannot hold: ValueError naming it and its position."""
    return _encoded(where, text, "utf-8")


def text_of(name: str, data: Any, before: int = 0) -> str:
    """The text of UTF-8 ``data``, which so many bytes come before; other bytes: ValueError with the position. name: how
    the error calls them."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}: byte 0x{data[error.start]:02x} at position {before + error.start} is not UTF-8; "
            "this tokenizer reads characters, so convert the text to UTF-8 or use tokenizer='bytes'"
        ) from None


def _pieces(text: str) -> Iterator[tuple[str, int]]:
    """(piece, the characters before it): what is made of a long text on the way is larger than the text."""
    return ((text[at : at + _PIECE], at) for at in range(0, len(text), _PIECE))


def _code_points(where: str, text: str, before: int = 0) -> np.ndarray:
    return np.frombuffer(_encoded(where, text, "utf-32-le", before), dtype="<u4")


def _encoded(where: str, text: str, encoding: str, before: int = 0) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        found, at = ord(text[error.start]), before + error.start
        raise ValueError(
            f"{where}: text has a lone surrogate U+{found:04X} at position {at}, which is half a character; "
            "was the text decoded with errors='surrogateescape'? Pass the bytes instead"
        ) from None


def _ids(where: str, ids: Iterable[int], vocab_size: int) -> np.ndarray:
    """``ids`` as a 1-D array of values 0..vocab_size-1: else TypeError, ValueError or IndexError."""
    checks.unmasked(where, "ids", ids)
    array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
    if array.ndim != 1:
        raise ValueError(f"{where}: ids must have one dimension, got shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{where}: ids must be integers, got {array.dtype}")
    bad = (array < 0) | (array >= vocab_size)
    if bad.any():
        at = int(np.argmax(bad))
        raise IndexError(f"{where}: id {array[at]} at position {at} is outside 0..{vocab_size - 1}")
    return array.astype(np.int64)
