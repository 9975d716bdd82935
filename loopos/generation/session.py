"""One text that goes on: what was read once is not read again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos import checks
from loopos.errors import NonFiniteError
from loopos.text.stream import BROKEN

from .cache import BLOCK, feed, refuse_nonfinite
from .sampling import Sampling, UniformStream
from .stopping import Stops, Watch

_WHERE = "Session.generate"
_NONE = np.zeros(0, np.int64)
_CONTEXT = 8  # ids of a prompt behind which the text is decoded: some tokenizers drop a space at the beginning


class Piece(NamedTuple):
    """One new token. id: it; text: whole characters that are certain now, perhaps none; finish_reason: of the last
    piece "stop" (an end-of-text token or a stop sequence), "length" (as many as were asked for), "context" (the model's
    context is full) or "stopped" (on request); else None. The last piece has id None where no token came with it."""

    id: int | None
    text: str
    finish_reason: str | None = None


class _Stopped(Exception):
    pass


class Session:
    """A model's key/value cache for one text at a time, such as a chat: of each prompt the part that the cache holds
    already, from its beginning on, is kept.

    tokenizer: None takes the model's; without one there is no text in the pieces, and no stop string. The cache is the
    model's: where something else has generated with it in between, the next call reads the whole prompt again. After a
    change of the weights call :meth:`reset`. One answer at a time; :meth:`stop` may come from any thread. An answer
    that was cut short by it, by Ctrl-C or by an error leaves a session that can go on."""

    def __init__(self, model: Any, tokenizer: Any = None):
        self.model = model
        self.tokenizer = model.tokenizer if tokenizer is None else tokenizer
        self.kept = 0  # positions of the last prompt that were in the cache
        self._ids = _NONE  # what the cache was given, in order; it may have been interrupted before the end
        self._generation = -1  # the number of the core's generation that is this session's
        self._stop = threading.Event()
        self._busy = threading.Lock()

    @property
    def ids(self) -> list[int]:
        """What went through the model: the last prompt and what was made of it, but for the last token."""
        return self._ids.tolist()

    def reset(self) -> None:
        """Forget the text."""
        self._ids, self._generation = _NONE, -1

    def stop(self) -> None:
        """Have the answer that is under way end before its next token; nothing happens where there is none."""
        self._stop.set()

    def generate(
        self,
        ids: Sequence[int] | np.ndarray,
        max_new_tokens: int | None = None,
        *,
        seed: int = 0,
        stop: Any = None,
        eos: Any = None,
        stopped: Callable[[], bool] = lambda: False,
        **sampling: Any,
    ) -> Iterator[Piece]:
        """The tokens that follow ids (T,), the whole text so far, one by one as they come.

        max_new_tokens: None for as many as the context has room for. seed, stop, eos and sampling (temperature, top_k,
        top_p, min_p, repetition_penalty) are those of :meth:`loopos.Model.generate`; greedy tokens are the same as
        there. stopped: asked before each token and each block of the prompt, as :meth:`stop` is.

        ValueError when ids are none, or more than the model's context has room for; RuntimeError while another answer
        of this session is under way; NonFiniteError where a logit is not finite. They come at once, but the last."""
        config = self.model.config
        chosen = Sampling.checked(_WHERE, **sampling)
        stops = Stops.checked(_WHERE, stop, eos, vocab_size=config.vocab_size, tokenizer=self.tokenizer)
        uniform = UniformStream.checked(_WHERE, seed)
        prompt = _checked(ids, config)
        room = config.context_length - len(prompt)
        new = room if max_new_tokens is None else checks.integer(_WHERE, "max_new_tokens", max_new_tokens, low=0)
        if self._busy.locked():
            raise RuntimeError(f"{_WHERE}: an answer of this session is under way; finish it, or use another session")
        self._stop.clear()

        def check() -> None:
            if self._stop.is_set() or stopped():
                raise _Stopped

        full = "length" if max_new_tokens is not None and new <= room else "context"
        watch = Watch(stops, self.tokenizer)
        watch.prime(prompt[-_CONTEXT:])
        return self._pieces(prompt, min(new, room), full, chosen, uniform, watch, check)

    def _pieces(
        self,
        prompt: np.ndarray,
        new: int,
        full: str,
        sampling: Sampling,
        uniform: UniformStream,
        watch: Watch,
        check: Callable[[], None],
    ) -> Iterator[Piece]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(f"{_WHERE}: an answer of this session is under way; finish it, or use another session")
        try:
            whole = np.concatenate([prompt, np.zeros(new, np.int64)])  # each token is handed a view of it
            try:
                for end in range(len(prompt), len(whole)):
                    logits = self._logits(whole[:end], check, first=end == len(prompt))
                    check()
                    id = int(sampling.choose(logits, [whole[:end]], uniform.draw(1))[0])
                    whole[end] = id
                    told = watch.put(id)
                    if watch.ended or end == len(whole) - 1:
                        reason = "stop" if watch.ended else full
                        yield Piece(id, told if watch.ended else told + watch.flush(), reason)
                        return
                    yield Piece(id, told)
            except _Stopped:
                yield Piece(None, watch.flush().rstrip(BROKEN), "stopped")  # without the half of a character
            else:
                yield Piece(None, "", full)
        finally:
            self._busy.release()

    def _logits(self, text: np.ndarray, check: Callable[[], None], first: bool) -> np.ndarray:
        """Logits (1, V) after ``text`` (T,), of which only what the cache does not hold goes through the model."""
        core = self.model._core
        with self.model.lock:
            kept = self._rewound(core, text)
            if first:
                self.kept = kept
            self._ids = text  # before the core is given them: what it holds is always the beginning of these
            logits = feed(core, text[None, kept:], check)
            try:
                refuse_nonfinite(core, [text], logits)
            except NonFiniteError:
                self.reset()  # so is what the cache holds
                raise
        return logits

    def _rewound(self, core: Any, text: np.ndarray) -> int:
        """How many positions of ``text`` the cache holds, after it has forgotten what is not of it and been given room
        for all. At least one is left to be computed: logits are not kept."""
        generation, used, length = core.generation()
        context = self.model.config.context_length
        if generation != self._generation:
            self._generation = core.start_generation(1, min(context, -(-len(text) // BLOCK) * BLOCK))
            return 0
        same = min(used, len(self._ids), len(text) - 1)
        other = np.flatnonzero(self._ids[:same] != text[:same])
        same = int(other[0]) if len(other) else same
        core.rewind(same)
        if len(text) > length:  # twice as much, so that a long text is copied a few times in all
            core.extend_generation(min(context, max(2 * length, len(text))))
        return same


def _checked(ids: Any, config: Any) -> np.ndarray:
    array = np.asarray(checks.unmasked(_WHERE, "ids", ids))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"{_WHERE}: ids must be a sequence of integers, got {checks.shown(ids)}")
    if not 1 <= len(array) <= config.context_length:
        raise ValueError(
            f"{_WHERE}: ids must be 1 to {config.context_length} tokens (the model's context_length), got "
            f"{len(array)}; leave out the oldest part of the text"
        )
    bad = np.flatnonzero((array < 0) | (array >= config.vocab_size))
    if len(bad):
        at = int(bad[0])
        raise IndexError(f"{_WHERE}: ids must be from 0 to {config.vocab_size - 1}, got {array[at]} at position {at}")
    return array.astype(np.int64)
