"""What ``loopos train --streaming`` reads: a folder of text files, a batch at a time."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.data.text_folder import TextFolder
from loopos.data.tokenizer import resolve

from . import options


def tokenizer(asked: Any) -> Any:
    """The tokenizer itself, of what reader.reader found or the options name. ValueError for "chars", whose vocabulary
    is that of a whole text."""
    if isinstance(asked, str) and asked == "chars":
        raise ValueError("train: tokenizer 'chars' reads all of a text for its vocabulary, and streaming does not")
    return resolve(asked)


def folder(path: str | None, reads: Any, settings: dict[str, Any], config: ModelConfig) -> TextFolder:
    """As the settings of train have it."""
    if path is None:
        raise ValueError("train: streaming reads a folder of text files; name it in the place of TEXT")
    return TextFolder(
        path,
        reads,
        seq_len=settings.get("seq_len") or config.context_length,
        batch_size=settings["batch_size"],
        grad_accum=settings.get("grad_accum", 1),
        seed=settings.get("seed", options.SEED),
    )
