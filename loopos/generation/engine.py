"""A model with its tokenizer: texts and messages in, an answer out, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from loopos.text import prompt_ids

from .session import Piece, Session


class Engine:
    """What chat and the server ask of a model. One answer at a time; what the cache holds of the last one is kept.

    eos: ids that end an answer: see :attr:`loopos.Model.stop_ids`."""

    def __init__(self, model: Any):
        """ValueError when it has no tokenizer."""
        self.model, self.tokenizer = model, model.tokenizer
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer, so it cannot be given a text")
        self.eos = model.stop_ids
        self._session = Session(model)

    @property
    def context_length(self) -> int:
        return int(self.model.config.context_length)

    @property
    def vocab_size(self) -> int:
        return int(self.model.config.vocab_size)

    @property
    def chats(self) -> bool:
        """Whether its tokenizer has a chat template."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    def text_ids(self, text: str) -> list[int]:
        """The ids of a text that is to be continued, with what the tokenizer puts before one (a bos token, say)."""
        return prompt_ids(self.tokenizer, text)

    def chat_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The ids of a conversation, up to where the answer begins. ValueError when there is no chat template, or the
        template refuses the messages."""
        if not self.chats:
            raise ValueError("the tokenizer of this model has no chat template: it continues texts, it does not chat")
        return list(self.tokenizer.encode(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)))

    def answer(
        self,
        ids: Sequence[int],
        *,
        max_new_tokens: int,
        seed: int = 0,
        stop: Sequence[str] = (),
        stopped: Callable[[], bool] = lambda: False,
        **sampling: Any,
    ) -> Iterator[Piece]:
        """As :meth:`Session.generate`, with the ids that end an answer."""
        return self._session.generate(
            ids, max_new_tokens, seed=seed, stop=list(stop) or None, eos=self.eos or None, stopped=stopped, **sampling
        )
