"""The model that a folder holds, with its tokenizer, for commands that answer."""

from __future__ import annotations

from typing import Any

from loopos.generation.engine import Engine

from . import folders


def writing(command: str, given: dict[str, Any]) -> Engine:
    """Of ``given["folder"]``. ValueError when it has no tokenizer."""
    folder = given["folder"]
    model = folders.language_model(command, given).model
    if model.tokenizer is None:
        raise ValueError(f"{command}: {folder} holds no tokenizer, so nobody can talk to it in words")
    return Engine(model)


def chatting(command: str, given: dict[str, Any]) -> Engine:
    """The same, and it has a chat template."""
    engine = writing(command, given)
    if not engine.chats:
        raise ValueError(
            f"{command}: the tokenizer of {given['folder']} has no chat template: it continues texts "
            "(loopos generate), it does not chat"
        )
    return engine
