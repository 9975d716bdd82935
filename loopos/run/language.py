"""What is a language model's own in loopos.train: its data, what is put on it, what it minimises."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from loopos import precision, storage
from loopos.config import ModelConfig
from loopos.data.batches import Batch, DatasetSource, check_batch
from loopos.data.sources import Sources
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer
from loopos.data.vocabulary import warn_of_another
from loopos.model import Model
from loopos.precision import small
from loopos.text import Tokenizer

from .adapting import adapter_of, give_classes, put_on
from .forecast import refuse_unfitting
from .objectives import CrossEntropy, objective_of
from .opening import open_data
from .settings import TrainSettings
from .updates import refuse_oversized


class Language:
    """model, config: what train takes. The other kinds of ``loopos.run.kinds`` have the same methods."""

    model: Any = Model
    config: Any = ModelConfig
    parts: tuple[str, ...] = ("ids", "targets", "documents")  # of a batch; the last may be missing

    def length(self, config: Any) -> int:
        """Tokens of the longest row."""
        return config.context_length

    def adapter(self, model: Any, asked: Any) -> Any:
        """What the run trains beside a frozen base, or None. TypeError and ValueError for what cannot be."""
        adapter = adapter_of(model, asked)
        if adapter is None:
            precision.refuse_training("train", model)
        return adapter

    def open(
        self,
        model: Any,
        data: Any,
        eval_data: Any,
        tokenizer: Any,
        settings: TrainSettings,
        progress: bool,
        ranks: Any = None,
    ) -> tuple[Sources, Any]:
        """The data arguments of train, checked, and the configuration of the model that learns them. ranks: the
        processes that open them at the same time."""
        sources = open_data(model, data, eval_data, tokenizer, settings, progress, ranks)
        config = getattr(model, "config", model)
        if config.labels and settings.task != "classify" and not isinstance(sources.train, DatasetSource):
            raise ValueError(
                f"train: this model gives scores of {config.num_labels} classes and no next token; task='classify' "
                "trains it"
            )
        if labels := getattr(sources.train, "labels", ()):
            config = replace(config, labels=labels)
        if isinstance(model, Model) and sources.tokenizer is not None:
            warn_of_another(model.tokenizer if tokenizer is None else tokenizer, sources.tokenizer, config.vocab_size)
        return sources, config

    def refuse_oversized(self, model: Any, source: Any, settings: TrainSettings) -> None:
        """MemoryError for batches that cannot fit, before a model is built."""
        if not isinstance(source, DatasetSource):  # whose batches have the size it gives them
            refuse_oversized(model, settings.batch_size, source.seq_len, settings.grad_accum)

    def prepare(self, model: Any, config: Any, adapter: Any, settings: TrainSettings, undo: ExitStack) -> None:
        """Puts on the model what the run trains; ``undo`` takes it off."""
        give_classes(model, config.labels, settings.seed, undo)
        put_on(model, adapter, settings.seed, undo)

    def refuse_unfitting(
        self, model: Any, source: Any, settings: TrainSettings, teacher: Any, ranks: Any = None
    ) -> None:
        """MemoryError when the run of a model that is ready does not fit."""
        if not isinstance(source, DatasetSource):
            refuse_unfitting(model, settings, source.seq_len, teacher, ranks)

    def objective(self, model: Any, teacher: Any, settings: TrainSettings, source: Any) -> CrossEntropy:
        """What the run minimises."""
        return objective_of(model, teacher, settings, getattr(source, "seq_len", 1))

    def reads_with(self, model: Any, tokenizer: Any) -> None:
        """The model keeps what turns its data into ids, where a file can carry it."""
        if isinstance(tokenizer, Tokenizer | ByteTokenizer | CharTokenizer):
            model.reads_with(tokenizer)

    # Of a bundle, which keeps one update

    def stored(self, model: Any) -> dict[str, Any]:
        """What a base that is stored small is kept as."""
        return {"storage": small(model.weights), "stored": storage.state(model._core)}

    def built(self, config: Any, dtype: str, kept_as: str | None, stored: Mapping[str, Any]) -> Any:
        """A model with what is stored small; the weights are still to be loaded."""
        model = Model(config, dtype=dtype, weights=kept_as)
        storage.put_back(model._core, stored)
        return model

    def with_dropout(self, config: Any, dropout: float) -> Any:
        return replace(config, dropout=dropout)

    def check_batch(self, config: Any, *parts: Any, where: str) -> Batch:
        """The batch of these ``parts``, where None is a missing one. Errors as of loopos.data.batches.check_batch."""
        ids, targets, documents = parts
        return check_batch(ids, targets, config.vocab_size, config.context_length, where, documents=documents)
