"""Captions to ids and back: the words of the training captions, bytes, or a tokenizer of one's own."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loopos import checks
from loopos.data.tokenizer import ByteTokenizer, resolve
from loopos.files import durable

FILE = "caption_vocabulary.json"  # in a run
PAD, BOS, EOS, UNKNOWN = range(4)
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unknown>")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|_")
_NO_SPACE_BEFORE = set(",.;:!?)]}%")
_NO_SPACE_BEHIND = set("([{$#")


def words(text: str) -> list[str]:
    """The words of a text in lower case; punctuation stands apart, but inside of a word (man's, black-and-white)."""
    return _WORD.findall(text.lower())


class WordVocabulary:
    """One id a word. Ids 0 to 3 are padding, begin, end and any other word; then the words of ``entries``.

    A word that is not in the vocabulary is ``unknown``. It is read as such and never learned as a target, so that a
    model does not say it."""

    pad, bos, eos, unknown = PAD, BOS, EOS, UNKNOWN

    def __init__(self, entries: Sequence[str]):
        """entries: the words, each once, as ``words`` gives them; else ValueError."""
        self.entries = tuple(entries)
        self._ids = {word: len(_SPECIAL) + place for place, word in enumerate(self.entries)}
        if len(self._ids) != len(self.entries):
            twice = next(word for word, count in Counter(self.entries).items() if count > 1)
            raise ValueError(f"WordVocabulary: expected each word once, got {twice!r} more than once")
        for word in self.entries:
            if not isinstance(word, str) or words(word) != [word]:
                raise ValueError(
                    f"WordVocabulary: expected one word in lower case or one sign, got {checks.shown(word)}"
                )

    @classmethod
    def of(cls, captions: Iterable[str], min_count: int = 1) -> WordVocabulary:
        """Of the words that ``captions`` have at least ``min_count`` times, the most frequent first, equals by letter.
        None left: ValueError."""
        least = checks.count("WordVocabulary.of", "min_count", min_count)
        counted = Counter(word for caption in captions for word in words(caption))
        kept = sorted((-count, word) for word, count in counted.items() if count >= least)
        if not kept:
            raise ValueError(
                f"WordVocabulary.of: none of the {len(counted)} words of the captions comes {least} times (min_count)"
            )
        return cls([word for _, word in kept])

    @property
    def vocab_size(self) -> int:
        return len(_SPECIAL) + len(self.entries)

    def encode(self, text: str) -> list[int]:
        """The ids of a caption's words, without begin and end."""
        return [self._ids.get(word, UNKNOWN) for word in words(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The caption up to the first end; padding and begin are left out. A text of the vocabulary's words comes back
        in lower case, its spaces as they are written. An id outside 0..vocab_size-1: IndexError."""
        said: list[str] = []
        for word in (self._word(place, int(each)) for place, each in enumerate(_until_end(ids, EOS, (PAD, BOS)))):
            if said and word not in _NO_SPACE_BEFORE and said[-1] not in _NO_SPACE_BEHIND:
                said.append(" ")
            said.append(word)
        return "".join(said)

    def _word(self, place: int, number: int) -> str:
        if not 0 <= number < self.vocab_size:
            raise IndexError(f"decode: id {number} at position {place} is outside 0..{self.vocab_size - 1}")
        return _SPECIAL[number] if number < len(_SPECIAL) else self.entries[number - len(_SPECIAL)]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "words", "words": list(self.entries)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordVocabulary) and other.entries == self.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        return f"<WordVocabulary of {len(self.entries)} words>"


class TokenVocabulary:
    """The ids of a tokenizer (bytes, a tokenizer.json), and padding, begin and end behind them."""

    unknown: int | None = None

    def __init__(self, tokenizer: Any):
        """tokenizer: what ``tokenizer=`` of :func:`loopos.train` takes; "chars" is refused."""
        self.tokenizer = resolve(tokenizer)
        size = int(self.tokenizer.vocab_size)
        self.pad, self.bos, self.eos = size, size + 1, size + 2

    @property
    def vocab_size(self) -> int:
        return self.eos + 1

    def encode(self, text: str) -> list[int]:
        return [int(each) for each in self.tokenizer.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The caption up to the first end; padding and begin are left out."""
        return self.tokenizer.decode(_until_end(ids, self.eos, (self.pad, self.bos)))

    def to_dict(self) -> dict[str, Any]:
        if isinstance(self.tokenizer, ByteTokenizer):
            return {"kind": "bytes"}
        return {"kind": "tokenizer", "vocab_size": int(self.tokenizer.vocab_size)}

    def __repr__(self) -> str:
        return f"<TokenVocabulary of {self.vocab_size} ids>"


Vocabulary = WordVocabulary | TokenVocabulary


def _until_end(ids: Iterable[int], end: int, skipped: tuple[int, ...]) -> list[int]:
    kept: list[int] = []
    for each in ids:
        if each == end:
            break
        if each not in skipped:
            kept.append(int(each))
    return kept


def save_vocabulary(path: str | os.PathLike, vocabulary: Vocabulary) -> None:
    """To a JSON file, written aside and renamed."""
    durable.write_json(path, vocabulary.to_dict())


def load_vocabulary(path: str | os.PathLike, tokenizer: Any = None) -> Vocabulary:
    """From a JSON file; of one that was made of a tokenizer, ``tokenizer`` is that. Malformed: ValueError."""
    return vocabulary_from_dict(durable.load_json(path), tokenizer, where=os.fspath(path))


def vocabulary_from_dict(values: Any, tokenizer: Any = None, *, where: str = "vocabulary") -> Vocabulary:
    """The vocabulary that ``to_dict`` described. Anything malformed: ValueError."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if kind == "bytes":
        return TokenVocabulary("bytes")
    if kind == "words" and isinstance(entries := values.get("words"), list):
        return WordVocabulary(entries)
    if kind == "tokenizer":
        if tokenizer is None:
            raise ValueError(
                f"{where}: the captions were read by a tokenizer that the file does not carry; pass it again"
            )
        if (made := TokenVocabulary(tokenizer)).tokenizer.vocab_size != values.get("vocab_size"):
            raise ValueError(
                f"{where}: the captions were read by a tokenizer of {values.get('vocab_size')} tokens, got one of "
                f"{made.tokenizer.vocab_size}"
            )
        return made
    raise ValueError(
        f"{where}: expected a vocabulary of kind 'words', 'bytes' or 'tokenizer', got {checks.shown(values)}"
    )
