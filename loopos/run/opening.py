"""The data of a run: opened as its settings say, told before the first update."""

from __future__ import annotations

from typing import Any

from loopos.data.sources import Sources, open_sources

from .messages import to_stderr
from .settings import TrainSettings


def open_data(
    model: Any, data: Any, eval_data: Any, tokenizer: Any, settings: TrainSettings, progress: bool, ranks: Any = None
) -> Sources:
    """The data arguments of train, for a Model or a ModelConfig. progress: bars for large files, and of examples the
    label audit, on standard error. ranks: the processes that open them at the same time."""
    config = getattr(model, "config", model)
    sources = open_sources(
        data,
        eval_data,
        tokenizer=tokenizer,
        own=lambda: getattr(model, "tokenizer", None),
        vocab_size=config.vocab_size,
        context_length=config.context_length,
        progress=progress,
        labels=config.labels,
        ranks=ranks,
        **settings.reading(),
    )
    audit = getattr(sources.train, "audit", None)
    if progress and audit is not None:
        to_stderr(audit)
    return sources
