"""A run of loopos.train done again, one update after the other, from one of its checkpoints or from its seed."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

from loopos import hf
from loopos.adapters.kept import kept
from loopos.config import ModelConfig
from loopos.data.sources import open_sources
from loopos.errors import CheckpointError, NonFiniteError
from loopos.model import Model
from loopos.optim.training import for_training
from loopos.run.bundle import Bundle
from loopos.run.checkpoint import Checkpoint
from loopos.run.kinds import objective_again
from loopos.run.policy import Policy
from loopos.run.resume import restore
from loopos.run.schedules import learning_rate as rate_of
from loopos.run.schedules import total_steps
from loopos.run.settings import TrainSettings
from loopos.run.updates import Update, Updater
from loopos.saved import tokenizer_of


class Rerun:
    """Stands where the run stood: ``step`` updates are done.

    data: what the run learned, as :func:`loopos.train` takes it. from_seed: begin with the weights of the model's
    configuration and the run's seed, and with what else the checkpoint says of the run; else with the checkpoint's.
    Whether the run did begin with those weights is for its recorded bits to say: a Model that was handed to train may
    have had others. later: another checkpoint of the run, whose settings are taken: they may have been changed when the
    run was resumed in between.

    CheckpointError when the checkpoint is not of loopos.train, ValueError when the data are not those of the run."""

    def __init__(self, checkpoint: Checkpoint, data: Any, *, from_seed: bool = False, later: Checkpoint | None = None):
        state = (later or checkpoint).state
        try:
            config, self.settings = ModelConfig.from_dict(state["config"]), TrainSettings(**dict(state["settings"]))
            tokenizer, dtype, fingerprint = state["tokenizer"], state["dtype"], state["data"]
            if kept(checkpoint) is None:
                self.model = Model(config, seed=self.settings.seed, dtype=dtype, precision=self.settings.precision)
            else:
                self.model = Model.from_pretrained(checkpoint.path, precision=self.settings.precision)
                if from_seed:
                    spec = self.model.adapter
                    self.model.remove_adapter()
                    self.model.add_adapter(spec, seed=self.settings.seed)
            self.model._freeze_alone(state.get("frozen", ()))
        except (ValueError, TypeError, LookupError) as error:
            raise CheckpointError(checkpoint.path, f"state.json is not of a run of loopos.train: {error}") from error
        settings = self.settings
        try:
            objective = objective_again(self.model, settings)
        except ValueError as error:
            raise ValueError(f"diff: the run of {checkpoint.path.parent}: {error}") from None
        self._source = open_sources(
            data,
            tokenizer=tokenizer_of(tokenizer, hf.Source.kept(checkpoint.path.parent)),
            vocab_size=config.vocab_size,
            context_length=config.context_length,
            labels=config.labels,
            **settings.reading(),
        ).train
        if self._source.fingerprint() != fingerprint:
            raise ValueError(f"diff: the data given are not those that {checkpoint.path.parent} was trained on")
        self.optimizer = for_training(model=self.model, **settings.update_rule())
        saved = None if from_seed else restore(checkpoint, self.model, self.optimizer)
        self.step = 0 if from_seed else checkpoint.step
        self._total = total_steps(settings.max_steps, settings.epochs, self._source.steps_per_epoch)
        self._policy = Policy(
            settings.on_nonfinite, self._total, self.model, self.optimizer, step=self.step, saved=saved
        )
        once = self.model, self.optimizer, self._source, settings
        self._updater = Updater(*once, lambda: None, objective=objective)

    def bundle(self) -> Bundle:
        """All that the next update is made of, in copies; its outcome is not known yet."""
        batches = tuple(self._source.batch(self.step, micro) for micro in range(self.settings.grad_accum))
        blank = Update(0.0, 0.0, 0, 0, batches=batches)
        place = {"step": self.step + 1, "learning_rate": self._rate()}
        bundle = Bundle.of(self.model, self.optimizer, self.settings, blank, **place)
        return dataclasses.replace(bundle, weights=self.model.state_dict())

    def advance(self) -> Update:
        """Do the next update, and what the run's policy does after it."""
        update = self._updater(self.step, self._rate())
        self.step += 1
        if update.birth is not None:
            with suppress(NonFiniteError):  # where the run ended, there is no more to do again
                self._policy.refused(update.birth)
        elif update.applied:
            self._policy.accepted(self.step)
        return update

    def _rate(self) -> float:
        settings = self.settings
        schedule = {"schedule": settings.lr_schedule, "warmup_steps": settings.warmup_steps, "min_lr": settings.min_lr}
        rate = rate_of(self.step, self._total, lr=settings.learning_rate, **schedule)
        return rate * self._policy.rate_factor
