"""What is sent back: whole answers and pieces of a stream, in the shapes of the OpenAI API."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from loopos.generation.session import Piece

REASONS = {"stop": "stop", "length": "length", "context": "length"}  # of a piece: the word that clients know


@dataclass(frozen=True)
class Style:
    """One of the two shapes. prefix: of ids."""

    model: str
    chat: bool
    prefix: str
    whole: str
    part: str


def completion_style(model: str) -> Style:
    return Style(model, False, "cmpl-", "text_completion", "text_completion")


def chat_style(model: str) -> Style:
    return Style(model, True, "chatcmpl-", "chat.completion", "chat.completion.chunk")


class Answer:
    """The choices of one request as they grow."""

    def __init__(self, style: Style, choices: int, prompt_tokens: int):
        self.style, self.prompt_tokens = style, prompt_tokens
        self.id, self.created = style.prefix + secrets.token_hex(12), int(time.time())
        self.texts = [""] * choices
        self.reasons: list[str | None] = [None] * choices
        self.tokens = 0

    def add(self, choice: int, piece: Piece) -> None:
        self.texts[choice] += piece.text
        self.tokens += piece.id is not None
        self.reasons[choice] = REASONS.get(piece.finish_reason, self.reasons[choice])

    def whole(self) -> dict[str, Any]:
        choices = []
        for i, (text, reason) in enumerate(zip(self.texts, self.reasons, strict=True)):
            content = {"message": {"role": "assistant", "content": text}} if self.style.chat else {"text": text}
            choices.append({"index": i, **content, "finish_reason": reason, "logprobs": None})
        return self._object(self.style.whole, choices) | {"usage": self.usage()}

    def opening(self) -> list[dict[str, Any]]:
        """Before the first piece of a stream: in a chat, who speaks."""
        if not self.style.chat:
            return []
        return [self._part(i, {"delta": {"role": "assistant", "content": ""}}, None) for i in range(len(self.texts))]

    def piece(self, choice: int, piece: Piece) -> dict[str, Any]:
        delta = {"content": piece.text} if piece.text else {}
        content = {"delta": delta} if self.style.chat else {"text": piece.text}
        return self._part(choice, content, REASONS.get(piece.finish_reason))

    def closing(self) -> dict[str, Any]:
        return self._object(self.style.part, []) | {"usage": self.usage()}

    def usage(self) -> dict[str, int]:
        prompt, new = self.prompt_tokens, self.tokens
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}

    def _part(self, choice: int, content: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return self._object(self.style.part, [{"index": choice, **content, "finish_reason": reason, "logprobs": None}])

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.style.model,
            "choices": choices,
        }
