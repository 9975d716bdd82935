"""Which tokenizer makes ids of a text for a model out of a folder: its own, never one of another vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopos.data.token_file import SUFFIXES
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer, resolve, tokenizer_to_dict
from loopos.data.vocabulary import padded

from .folders import Loaded


def holds_ids(text: str | None) -> bool:
    """Whether a file that the command line names has token ids, which need no tokenizer."""
    return text is not None and Path(text).suffix.lower() in SUFFIXES


def reader(folder: str, loaded: Loaded, asked: str | None = None) -> Any:
    """The tokenizer by which texts are read for this model. asked: by name or path, see loopos.train.

    ValueError when there is none, or when the one asked for gives other ids than the model learned."""
    theirs, size = loaded.model.tokenizer, loaded.model.config.vocab_size
    if asked is None:
        if theirs is not None:
            return theirs
        if loaded.step is None and size == ByteTokenizer.vocab_size:  # what `loopos train --export` writes of bytes
            return ByteTokenizer()
        raise ValueError(
            f"{folder} holds no tokenizer, so a text cannot be turned into ids of its {size}; "
            "pass the tokenizer.json it was made with (--tokenizer), or a file of ids (.npy or .bin)"
        )
    if asked == "chars" and not isinstance(theirs, CharTokenizer):
        raise ValueError(
            f"tokenizer 'chars' makes a vocabulary of its own, {folder} has another: {_named(theirs, size)}"
        )
    made = theirs if asked == "chars" else resolve(asked)
    if theirs is not None and tokenizer_to_dict(made) != tokenizer_to_dict(theirs):
        raise ValueError(f"tokenizer {asked!r} is another than that of {folder}, {_named(theirs, size)}; leave it out")
    if theirs is None and not padded(size, made.vocab_size):
        raise ValueError(
            f"tokenizer {asked!r} has {made.vocab_size} tokens, the model in {folder} has {size}: its ids mean "
            "something else"
        )
    return made


def _named(tokenizer: Any, size: int) -> str:
    if tokenizer is None:
        return f"{size} ids that no tokenizer in it explains"
    kind = tokenizer_to_dict(tokenizer)["kind"]
    return f"{'tokenizer.json' if kind == 'hf' else repr(kind)} with {tokenizer.vocab_size} tokens"
