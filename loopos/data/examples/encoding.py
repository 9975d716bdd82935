"""From an example to its tokens, and which of them are learned.

Texts of many examples go to the tokenizer together, where it has ``encode_batch``, so that it can use its threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loopos import checks
from loopos.text import before_text

from .forms import FORMS, Chat, Completion, Example, Text
from .turns import ASSISTANT, Rendered, common_prefix, rendered

if TYPE_CHECKING:
    from concurrent.futures import Future

GROUP = 512  # examples encoded together
GROUP_CHARS = 1 << 20  # or of so many characters, whichever comes first

# Why nothing of an example is learned; the number is kept with the example.
LEARNED, EMPTY, NO_TURN, UNKNOWN, LONE = range(5)
CAUSES = {
    EMPTY: "the text to learn is empty",
    NO_TURN: "no message is the assistant's",
    UNKNOWN: "the chat template does not show where the assistant's turn is",
    LONE: "one token alone: nothing comes before it that could predict it",
}


class Encoded(NamedTuple):
    """tokens (n,) int32: an id where it is learned, ~id where it is only read; number: line or row; form: index into
    FORMS; cause: LEARNED, or why nothing is."""

    tokens: np.ndarray
    number: int
    form: int
    cause: int


class _Prepared(NamedTuple):
    """pieces: texts that follow one another, and whether each is learned; whole: they are cut out of one text, and the
    tokens are those of the whole. end: the end-of-text token follows."""

    number: int
    form: int
    pieces: list[tuple[str, bool]]
    end: bool
    cause: int = LEARNED


class Encoder:
    """tokenizer: encode, decode, vocab_size; where it has them, ``eos`` (the id that ends a text), ``bos``,
    ``apply_chat_template`` and ``render_chat`` as of loopos.Tokenizer, ``backend.encode_batch``."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._end = end_of_text(tokenizer)
        self._begin = before_text(tokenizer)

    def encode(self, examples: Iterable[tuple[int, Any, str]]) -> Iterator[Encoded]:
        """examples: (number, Example, how errors call it), in order, one by one."""
        from concurrent.futures import ThreadPoolExecutor  # here, because a training on text needs none

        examples = iter(examples)
        waiting: tuple[list[_Prepared], Future[list[np.ndarray]]] | None = None
        with ThreadPoolExecutor(1) as encoding:  # the tokenizer's threads work while the next group is rendered
            while group := list(_some(examples)):
                prepared = [self._prepare(number, example, where) for number, example, where in group]
                texts = [text for each in prepared for text in self._texts(each)]
                begun = prepared, encoding.submit(self._encode_all, texts, group[0][2])
                if waiting is not None:
                    yield from self._finished(*waiting)
                waiting = begun
            if waiting is not None:
                yield from self._finished(*waiting)

    def _finished(self, prepared: list[_Prepared], encoding: Future[list[np.ndarray]]) -> Iterator[Encoded]:
        ids = iter(encoding.result())
        for each in prepared:
            yield self._finish(each, list(islice(ids, len(self._texts(each)))))

    def _prepare(self, number: int, example: Example, where: str) -> _Prepared:
        form = FORMS.index(type(example))
        if isinstance(example, Text):
            return _Prepared(number, form, [(example.text, True)], True, LEARNED if example.text else EMPTY)
        if isinstance(example, Completion):
            pieces = [(example.prompt, False), (example.completion, True)]
            return _Prepared(number, form, pieces, True, LEARNED if example.completion else EMPTY)
        return self._chat(number, form, example, where)

    def _chat(self, number: int, form: int, chat: Chat, where: str) -> _Prepared:
        template = getattr(self._tokenizer, "apply_chat_template", None)
        if template is None:
            raise ValueError(
                f"{where}: messages need a tokenizer with a chat template, got {checks.shown(self._tokenizer)}; give "
                "the tokenizer of the model's folder, or write prompt and completion"
            )
        more = {} if chat.tools is None else {"tools": chat.tools}

        def render(messages: Sequence[dict[str, Any]], begin: bool) -> str:
            return str(template(list(messages), add_generation_prompt=begin, **more))

        try:
            found = rendered(render, chat.messages, chat.first)
            if found.unknown:
                found = self._marked(chat, more) or found
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: the chat template cannot render these messages: {error}") from None
        pieces, at = [], 0
        for start, end in found.spans:
            pieces += [(found.text[at:start], False), (found.text[start:end], True)]
            at = end
        pieces.append((found.text[at:], False))
        pieces = [piece for piece in pieces if piece[0]]
        cause = UNKNOWN if found.unknown else LEARNED if found.spans else NO_TURN
        return _Prepared(number, form, pieces, False, cause)

    def _marked(self, chat: Chat, more: dict[str, Any]) -> Rendered | None:
        """By the marks that a template makes itself ({% generation %}), if it makes one for each turn."""
        if not hasattr(self._tokenizer, "render_chat"):
            return None
        text, answers = self._tokenizer.render_chat(chat.messages, **more)
        turns = [i for i, message in enumerate(chat.messages) if message["role"] in ASSISTANT]
        if len(answers) != len(turns):
            return None
        return Rendered(text, [span for i, span in zip(turns, answers, strict=True) if i >= chat.first], [])

    @staticmethod
    def _texts(each: _Prepared) -> list[str]:
        """What the tokenizer is asked for: the whole and, where there is more than one, the pieces."""
        pieces = [text for text, _ in each.pieces]
        return ["".join(pieces), *pieces] if len(pieces) > 1 else pieces

    def _encode_all(self, texts: list[str], where: str) -> list[np.ndarray]:
        backend = getattr(self._tokenizer, "backend", None)
        if hasattr(backend, "encode_batch"):
            batch = getattr(backend, "encode_batch_fast", backend.encode_batch)  # without offsets, where there is one
            return [np.array(each.ids, np.int32) for each in batch(texts, add_special_tokens=False)]
        return [_ids(self._tokenizer.encode(text), where) for text in texts]

    def _finish(self, each: _Prepared, ids: list[np.ndarray]) -> Encoded:
        learned = self._learned(each, ids)
        tokens = ids[0] if ids else np.zeros(0, np.int32)
        if len(ids) == 3 and each.end and not _joined(ids):  # as a prompt is read alone, so it is learned
            tokens = np.concatenate(ids[1:])
        if each.end:
            begin = self._begin if tokens[:1].tolist() != self._begin else []
            end = self._end if tokens[-1:].tolist() != self._end else []
            tokens = np.concatenate([np.array(begin, np.int32), tokens, np.array(end, np.int32)])
            learned = np.concatenate([np.zeros(len(begin), bool), learned, np.ones(len(end), bool)])
        cause = each.cause
        if cause == LEARNED and not learned[1:].any():
            cause = LONE if len(tokens) < 2 else EMPTY
        if cause != LEARNED:
            learned[:] = False
        return Encoded(np.where(learned, tokens, ~tokens).astype(np.int32), each.number, each.form, cause)

    def _learned(self, each: _Prepared, ids: list[np.ndarray]) -> np.ndarray:
        """Which tokens are of a learned piece; of a turn, up to its last end-of-text token."""
        if not ids:
            return np.zeros(0, bool)
        if len(ids) == 1:
            return np.full(len(ids[0]), each.pieces[0][1])
        whole, parts = ids[0], ids[1:]
        ends = np.cumsum([len(part) for part in parts])
        if not _joined(ids) and not each.end:
            ends = self._ends(each, whole)
        size = int(ends[-1])
        learned, at = np.zeros(size, bool), 0
        for (_, wanted), end in zip(each.pieces, ends, strict=True):
            stop = int(end)
            if wanted and not each.end:
                stops = np.flatnonzero(np.isin(whole[at:stop], self._end))
                stop = at + int(stops[-1]) + 1 if len(stops) else stop
            learned[at:stop] = wanted
            at = int(end)
        return learned

    def _ends(self, each: _Prepared, whole: np.ndarray) -> np.ndarray:
        """Where pieces end among the tokens of the whole, when tokens join what is cut: after those that the text up to
        there shares with the whole."""
        texts, ends = [text for text, _ in each.pieces], []
        for count in range(1, len(texts)):
            part = _ids(self._tokenizer.encode("".join(texts[:count])), "tokenizer")
            ends.append(common_prefix(part.tolist(), whole.tolist()))
        return np.maximum.accumulate([*ends, len(whole)])


def _joined(ids: list[np.ndarray]) -> bool:
    """Whether the tokens of the pieces, one after another, are those of the whole."""
    return sum(len(part) for part in ids[1:]) == len(ids[0]) and np.array_equal(np.concatenate(ids[1:]), ids[0])


def _some(examples: Iterator[tuple[int, Any, str]]) -> Iterator[tuple[int, Any, str]]:
    size = 0
    for example in islice(examples, GROUP):
        yield example
        size += sum(len(part) if isinstance(part, str) else 0 for part in example[1])
        if isinstance(example[1], Chat):
            size += sum(len(message["content"]) for message in example[1].messages)
        if size >= GROUP_CHARS:
            return


def _ids(values: Any, where: str) -> np.ndarray:
    ids = np.asarray(values)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise TypeError(f"{where}: tokenizer.encode must give a list of ids, got {checks.shown(values)}")
    if ids.size and ids.min() < 0:
        raise IndexError(f"{where}: tokenizer.encode gave the id {int(ids.min())}; ids begin at 0")
    return ids.astype(np.int32)


def end_of_text(tokenizer: Any) -> list[int]:
    """[the id that is put behind a text], or [] of a tokenizer that has none."""
    end = getattr(tokenizer, "eos", None)
    return [] if end is None else [int(end)]
