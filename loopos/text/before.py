"""What a tokenizer's own rule puts before a text."""

from __future__ import annotations

from typing import Any


def before_text(tokenizer: Any) -> list[int]:
    """The ids that the rule of a :class:`Tokenizer` puts before a text, a bos token for most; [] of a tokenizer of
    another kind. What it would put behind a text is not among them: a prompt goes on."""
    if not hasattr(tokenizer, "backend"):
        return []
    plain, whole = list(tokenizer.encode("a")), list(tokenizer.encode("a", add_special_tokens=True))
    return next((whole[:at] for at in range(len(whole)) if whole[at : at + len(plain)] == plain), [])


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text that is to be continued, with what the tokenizer puts before one."""
    return [*before_text(tokenizer), *map(int, tokenizer.encode(text))]
