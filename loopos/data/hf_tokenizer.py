"""Tokenizers of Hugging Face's ``tokenizers`` package (extra [hf]): an object of it, or the tokenizer.json it wrote."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.files import kinds

FILE = "tokenizer.json"


class HuggingFaceTokenizer:
    """A ``tokenizers.Tokenizer`` as LoopOS asks one: encode, decode, vocab_size. A text is encoded as it stands: no
    token is put before or behind it."""

    def __init__(self, tokenizer: Any, path: Path | None = None):
        """path: the file it was read from, by which a run finds it again."""
        self.tokenizer, self.path = tokenizer, path

    @property
    def vocab_size(self) -> int:
        """Added tokens included."""
        return int(self.tokenizer.get_vocab_size())

    def encode(self, text: str) -> np.ndarray:
        """int32 (N,)."""
        if not isinstance(text, str):
            raise TypeError(f"HuggingFaceTokenizer.encode: text must be str, got {checks.shown(text)}")
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` (N,), special tokens included."""
        return str(self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=False))

    @cached_property
    def sha256(self) -> str:
        """Of what it would write: two of equal sizes may be different."""
        return hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()

    def __repr__(self) -> str:
        return f"HuggingFaceTokenizer({self.vocab_size} tokens{'' if self.path is None else f', {self.path}'})"


def is_foreign(spec: Any) -> bool:
    """Whether it has the methods of ``tokenizers.Tokenizer``."""
    methods = ("encode", "decode", "get_vocab_size", "to_str")
    return not isinstance(spec, type) and all(callable(getattr(spec, name, None)) for name in methods)


def find(path: str | os.PathLike) -> Path | None:
    """The tokenizer.json that ``path``, a file or a folder, names; None when there is none."""
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    return path if path.is_file() else None


def load(path: str | os.PathLike) -> HuggingFaceTokenizer:
    """Of a tokenizer.json, or of the folder that has one. None there: FileNotFoundError; the package is missing:
    ImportError naming the extra; a file of another kind: ValueError."""
    found = find(path)
    if found is None:
        raise FileNotFoundError(2, f"tokenizer: no {FILE} there", os.fspath(path))
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ImportError(
            f"{found}: reading it needs the package tokenizers; pip install 'loopos[hf]', or pass the ids (.npy)"
        ) from None
    try:
        made = Tokenizer.from_file(str(found))
    except Exception as error:  # the package raises plain Exception
        with found.open("rb") as file:
            kind = kinds.kind_of(file.read(kinds.HEAD))
        if kind is not None:
            raise ValueError(f"{found}: no {FILE}: this is {kind}") from None
        raise ValueError(f"{found}: expected a {FILE} that tokenizers can read: {error}") from None
    return HuggingFaceTokenizer(made, found.absolute())
