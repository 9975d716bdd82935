"""What a training is to be, beside its model and first batch: both kinds of data, tokenizer and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopos.config import ModelConfig
from loopos.data.batches import TokenStream
from loopos.data.sources import Sources
from loopos.model import Model
from loopos.run.schedules import total_steps
from loopos.run.settings import TrainSettings


@dataclass(frozen=True)
class Plan:
    """given: the model as the doctor was given it; config: its ModelConfig, or None of a model that has none;
    sources: see open_sources; same: data and eval_data are one object."""

    given: Any
    config: Any
    sources: Sources
    settings: TrainSettings
    same: bool = False

    @property
    def new(self) -> bool:
        """The weights are drawn for this training."""
        return isinstance(self.given, ModelConfig)

    @property
    def stream(self) -> TokenStream | None:
        """The training data where they are one array of ids."""
        return self.sources.train if isinstance(self.sources.train, TokenStream) else None

    @property
    def total(self) -> int | None:
        """Updates of the run; None where nothing says how many."""
        try:
            return total_steps(self.settings.max_steps, self.settings.epochs, self.sources.train.steps_per_epoch)
        except ValueError:
            return None

    @property
    def loaded_from(self) -> str | None:
        """The folder whose model the given ModelConfig is of: then its weights, which are not used, were meant."""
        return getattr(self.given, "_loaded_from", None) if self.new else None

    @property
    def engine(self) -> bool:
        return isinstance(self.given, Model | ModelConfig)
