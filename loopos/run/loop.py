"""A run, from its first update to its last. Start reading at :meth:`Run.loop`; one update is
``loopos.run.updates.Updater``."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopos.adapters.base import Base
from loopos.births.growth import Growth
from loopos.data.batches import IGNORE
from loopos.data.sources import Sources
from loopos.distributed.alone import Alone
from loopos.errors import Birth, NonFiniteError
from loopos.model import Model
from loopos.monitor.watch import Watch

from . import resume as resuming
from .alike import weights_of
from .bundle import Bundle
from .callbacks import Hooks
from .evaluation import Evaluation
from .folder import NoFolder
from .forecast import Forecast, of_run
from .interrupts import Interrupted, Interrupts
from .metrics import as_logged
from .objectives import ANOTHER, NOT_AGAIN, CrossEntropy
from .origins import origin_of, origins_of
from .policy import Policy
from .record import Record
from .schedules import ahead
from .schedules import learning_rate as rate_of
from .settings import TrainSettings
from .tally import Tally
from .updates import Update, Updater

OF_CALLBACKS = ("eval_tokens", "eval_share", "eval_seconds")  # of an evaluation; not in the history


@dataclass
class Run:
    """One call of train, checked and set up."""

    model: Model
    optimizer: Any
    policy: Policy
    sources: Sources
    settings: TrainSettings
    identity: resuming.Identity
    hooks: Hooks
    interrupts: Interrupts
    total: int  # updates of the whole run
    step: int  # updates done
    folder: NoFolder
    tally: Tally
    watch: Watch
    growth: Growth
    evaluation: Evaluation
    record: Record
    objective: CrossEntropy
    base: Base | None = None  # of a model with an adapter
    ranks: Alone = field(default_factory=Alone)
    history: list[dict[str, Any]] = field(default_factory=list)
    refused: tuple[Update, float, float] | None = None  # the latest, its learning rate, and the seconds it took
    valid_tokens: int = 0  # of this call
    _seconds: float = 0.0  # spent in updates, and the tokens of those, since the last entry of the history
    _tokens: int = 0
    _told: bool = False

    def loop(self) -> str | None:
        """All updates from ``step`` to ``total``. Returns what ended it before, "callback" or "patience", or None."""
        settings = self.settings
        schedule = {
            "lr": settings.learning_rate,
            "schedule": settings.lr_schedule,
            "warmup_steps": settings.warmup_steps,
            "min_lr": settings.min_lr,
        }
        source, check = self.sources.train, self.interrupts.check
        of_run = self.growth, self.objective, self.ranks
        update_once = Updater(self.model, self.optimizer, source, settings, check, *of_run)
        for t in range(self.step, self.total):
            if self.evaluation.exhausted:
                return "patience"
            began = time.perf_counter()
            rate = rate_of(t, self.total, **schedule) * self.policy.rate_factor
            self.watch.before(t + 1)
            update = update_once(t, rate)  # forward, backward, gate, clip, optimizer
            if update.birth is not None:
                self.refused = update, rate, time.perf_counter() - began
                self.policy.refused(update.birth)
            elif update.applied:
                self.policy.accepted(t + 1)
            self.step = t + 1
            self.tally.count(update)
            alarms = self.watch.after(self.step, update, rate, ahead(t, self.total, settings.warmup_steps))
            self.folder.log_bits(self.step, update)
            self.record.updated(self.step, update.valid_tokens)

            entry = self.entry(update, rate, time.perf_counter() - began)
            stopping = self.interrupts.agree(self.call("on_step_end", batches=update.batches, **entry))
            last = stopping or self.step == self.total or self.interrupts.pending is not None
            if self.evaluation and self.due(settings.eval_every, last and not self.interrupts.pending):
                evaluated, scored = self.evaluate()
                entry |= evaluated
                if self.due(settings.eval_every, False) and scored:
                    alarms += self.watch.evaluated(self.step, entry["eval_loss"])
                last = last or self.evaluation.exhausted
            for finding in alarms:
                self.record.found(str(finding))
                self.call("on_alarm", **vars(finding))
            notable = update.birth is not None or "eval_loss" in entry or self.step == 1
            if self.due(settings.log_every, last or notable):
                self.log(entry, update.birth)
            if self.due(settings.save_every, last):
                if self.ranks.size > 1:  # else a checkpoint would hide that they drifted apart
                    self.ranks.same(weights_of(self.model, f"weights after update {self.step}"))
                self.save(last)
            self.interrupts.check()
            if stopping and self.step < self.total:
                return "callback"
        return None

    def forecast(self, now: int | None = None, held: int | None = None) -> Forecast:
        """What the updates to come will take; now, held: as of :func:`loopos.run.forecast.memory_of`."""
        place = self.folder.path, self.step, self.total
        return of_run(self.model, self.settings, self.sources, *place, now, held, self.objective, self.ranks)

    def evaluate(self) -> tuple[dict[str, float], int]:
        """What stands in the history of the held-out loss, and over how many targets it is. One that eval_every asks
        for, or of the run's end, may be the best: an evaluation at a callback's stop would not have been made without
        it, and counts for nothing."""
        scored = self.evaluation.score(self.model, self.interrupts.check)
        self.call("on_evaluate", **scored)
        counts = self.due(self.settings.eval_every, self.step == self.total)
        if counts and self.evaluation.judge(self.step, scored["eval_loss"]) and self.settings.keep_best:
            self.optimizer.gather()
            self.folder.save_best(self.write)
        told = {name: value for name, value in scored.items() if name not in OF_CALLBACKS}
        return told, scored["eval_tokens"]

    def run(self) -> str | None:
        """The loop between on_train_begin and on_train_end, with what an early end asks for."""
        first, stopped = self.step, "error"
        try:
            audit = getattr(self.sources.train, "audit", None)
            begun = {"output_dir": self.folder.path, "settings": self.settings.to_dict(), "audit": audit}
            self.call("on_train_begin", max_steps=self.total, forecast=self.forecast, **begun)
            stopped = self.loop()
            self.save(final=True)
        except Interrupted:
            stopped = self.interrupts.pending.name
            message = self.stop_message(stopped)
            raise SystemExit(143) if stopped == "SIGTERM" else KeyboardInterrupt(message) from None
        except (KeyboardInterrupt, NonFiniteError) as error:
            if not self.interrupts.forced:  # what was learned before is worth keeping
                with suppress(OSError, NonFiniteError):
                    self.save(final=True)
                if isinstance(error, NonFiniteError):
                    self.keep_refused(error)
            raise
        finally:
            self.call("on_train_end", history=self.history, stopped=stopped)
        if self.step > first and self.valid_tokens == 0:
            warnings.warn(
                f"train: every target of {self.step - first} updates was {IGNORE}, so nothing was learned; "
                "targets of 0..vocab_size-1 are what is scored",
                stacklevel=3,
            )
        return stopped

    def entry(self, update: Update, rate: float, seconds: float, step: int | None = None) -> dict[str, Any]:
        """The numbers of ``step`` (None: the one just done), as they stand in the history."""
        step = self.step if step is None else step
        self.valid_tokens += update.valid_tokens
        self._seconds, self._tokens = self._seconds + seconds, self._tokens + update.tokens
        per_epoch = self.sources.train.steps_per_epoch
        return {
            "step": step,
            "loss": float(update.loss),
            "grad_norm": float(update.grad_norm),
            "learning_rate": float(rate),
            "epoch": step / per_epoch if per_epoch else 0.0,  # data without len() have no epochs
            "tokens_per_second": self._tokens / self._seconds if self._seconds > 0 else 0.0,
            "valid_tokens": update.valid_tokens,
            "nonfinite": self.policy.refused_in_all,
            **self.tally.to_dict(),
            **update.measured,
        }

    def due(self, every: int | None, anyway: bool) -> bool:
        return anyway or (every is not None and self.step % every == 0)

    def call(self, hook: str, **info: Any) -> bool:
        return self.hooks.call(hook, {"step": self.step, "model": self.model} | info)

    def log(self, entry: dict[str, Any], birth: Birth | None) -> None:
        self.history.append(entry)
        self.record.logged(entry)
        self._seconds, self._tokens = 0.0, 0
        self.log_metrics(entry, birth)
        self.call("on_log", **entry)

    def log_metrics(self, entry: dict[str, Any], birth: Birth | None) -> None:
        """A line of metrics.jsonl: the entry, with "birth" of a refused update, and what the watch has to say."""
        described = {} if birth is None else {"birth": str(birth)}
        self.folder.log(as_logged(entry | described) | self.watch.notes() | self._computed())

    def _computed(self) -> dict[str, str]:
        """For the first line of metrics.jsonl that this call writes: the precision of its products, and what they are
        computed with here."""
        told, self._told = self._told, True
        return {} if told else {"precision": self.model.precision, "products": self.model.products}

    def keep_refused(self, error: NonFiniteError) -> None:
        """Log the update that ended the run, which is not done and so in no history; write what repeats it, and say in
        ``error`` where that is. That it cannot be written is said there too, and hides nothing."""
        update, rate, seconds = self.refused or (None, 0.0, 0.0)
        if update is None or update.birth is not error.birth:
            return  # a weight that was not finite when a checkpoint was due is no update's doing
        self.tally.count(update)
        entry = self.entry(update, rate, seconds, self.step + 1) | {"nonfinite": self.policy.refused_in_all + 1}
        with suppress(OSError):
            self.log_metrics(entry, update.birth)
        with suppress(OSError):
            self.folder.log_bits(self.step + 1, update)
        self.optimizer.gather()
        if self.settings.teacher == ANOTHER:
            error.add(f"No bundle is written: {NOT_AGAIN}")
            return
        origins = origins_of(self.sources.train, self.step, self.settings.grad_accum)
        if origin := origin_of(origins, error.birth):
            error.add(origin)
        place = {"step": self.step + 1, "learning_rate": rate, "run": self.folder.run_id, "growth": self.growth}
        place["origins"] = origins
        if self.ranks.size > 1:  # it may have the rows of this process alone
            micros = range(self.settings.grad_accum)
            update = update._replace(batches=tuple(self.sources.train.batch(self.step, micro) for micro in micros))
        with self.model.lock:  # the arrays are the living weights until they are written
            self.folder.keep_bundle(
                lambda: Bundle.of(self.model, self.optimizer, self.settings, update, **place), error
            )

    def save(self, final: bool) -> None:
        """Write a checkpoint, unless the newest is already of this step."""
        if self.ranks.shards_optimizer:
            if self.ranks.share(lambda: self.folder.has(self.step)):
                return
            self.optimizer.gather()
        if self.folder.has(self.step):
            return
        if notes := self.watch.notes():  # since the last line: no checkpoint is ahead of what the log tells
            self.folder.log({"step": self.step} | notes)
        try:
            path = self.folder.save(self.step, self.write)
        except NonFiniteError:
            if final:
                raise
            return  # someone wrote into the weights between two updates: the next one's gate names the place
        self.call("on_save", path=path)

    def write(self, save: Callable[..., Path]) -> Path:
        """A checkpoint of this step, by a method of the store."""
        counted = {
            "tally": self.tally.to_dict(),
            "watch": self.watch.state(),
            "growth": self.growth.state(),
            "evaluation": self.evaluation.state(),
            "record": self.record.to_dict(),
        }
        run, state = self.folder.run_id, (self.model, self.optimizer, self.policy)
        return resuming.save(save, self.step, self.identity, run, *state, counted, self.base)

    def stop_message(self, signal_name: str) -> str:
        """Save what there is, and say where the run stands and how it goes on."""
        name = "Ctrl-C" if signal_name == "SIGINT" else signal_name
        text = f"training was stopped by {name} after update {self.step} of {self.total}; the model is as it left it. "
        try:
            self.save(final=True)
        except (OSError, NonFiniteError) as error:
            return text + f"No checkpoint of it could be written: {error}"
        return text + self.folder.how_to_go_on()
