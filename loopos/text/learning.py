"""A byte-level BPE learned from texts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from loopos import checks

BYTES = 256
KNOWN = {  # special tokens whose name says what they are for
    "eos_token": ("<|endoftext|>", "<|eos|>", "<eos>", "</s>", "[EOS]", "<|im_end|>", "<|end|>"),
    "bos_token": ("<|bos|>", "<bos>", "<s>", "[BOS]", "<|begin_of_text|>"),
    "pad_token": ("<|pad|>", "<pad>", "[PAD]"),
}
_PIECE = 1 << 20  # characters of a text at a time


def learn(
    sources: str | os.PathLike | Iterable[str | os.PathLike], vocab_size: int, special_tokens: Sequence[str]
) -> tuple[Any, dict[str, str]]:
    """The tokenizer, and which special tokens are eos, bos and pad. See Tokenizer.train."""
    special = _special(special_tokens)
    size = checks.integer("Tokenizer.train", "vocab_size", vocab_size, low=1)
    if size < BYTES + len(special):
        raise ValueError(
            f"Tokenizer.train: vocab_size must be at least {BYTES + len(special)}, the bytes and {len(special)} "
            f"special tokens, got {size}"
        )
    try:
        import tokenizers
    except ImportError:
        raise ImportError(
            "Tokenizer.train: learning one needs the package tokenizers; pip install 'loopos[hf]'"
        ) from None

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(_texts(sources), trainer)
    if (count := made.get_vocab_size()) < size:
        warnings.warn(
            f"Tokenizer.train: the texts give {count} tokens, {size} were asked for; more text gives more",
            UserWarning,
            stacklevel=4,
        )
    chosen = {role: next((name for name in names if name in special), None) for role, names in KNOWN.items()}
    return made, {role: name for role, name in chosen.items() if name is not None}


def _special(names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"Tokenizer.train: special_tokens must be a list of texts, got {checks.shown(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"Tokenizer.train: special_tokens must differ from each other, got {checks.shown(names)}")
    return list(names)


def _texts(sources: Any) -> Iterator[str]:
    """Every text in pieces that end with a line where that is possible."""
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        if not isinstance(source, str | os.PathLike):
            raise TypeError(f"Tokenizer.train: a text must be str or a path, got {checks.shown(source)}")
        if isinstance(source, os.PathLike) or os.path.isfile(source):
            try:
                with open(source, encoding="utf-8", newline="") as file:
                    yield from iter(lambda file=file: "".join(file.readlines(_PIECE)), "")
            except UnicodeDecodeError as error:
                raise ValueError(f"Tokenizer.train: {source} must be a UTF-8 text: {error}") from None
        else:
            yield source
