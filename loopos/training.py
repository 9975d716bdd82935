"""loopos.train: the loop. Start reading at :meth:`_Run.loop`; one update is ``loopos.run.updates.Updater``."""

from __future__ import annotations

import inspect
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import checks, storage
from .births.growth import Growth
from .config import ModelConfig
from .data.batches import IGNORE, DatasetSource
from .data.sources import Sources
from .data.tokenizer import ByteTokenizer, CharTokenizer
from .data.vocabulary import warn_of_another
from .errors import Birth, NonFiniteError
from .model import Model
from .monitor.watch import Watch
from .optim.training import for_training
from .run import resume as resuming
from .run.bundle import Bundle
from .run.callbacks import Hooks
from .run.evaluation import Evaluation
from .run.folder import NoFolder, folder_of
from .run.forecast import refuse_unfitting
from .run.interrupts import Interrupted, Interrupts
from .run.opening import open_data
from .run.origins import origin_of, origins_of
from .run.policy import Policy
from .run.record import Record, trained
from .run.result import TrainResult, sample_of
from .run.schedules import learning_rate as rate_of
from .run.schedules import total_steps
from .run.settings import EVAL_TOKENS, TrainSettings
from .run.tally import Tally
from .run.updates import Update, Updater, refuse_oversized
from .text import Tokenizer
from .threads import threads as using_threads


def train(
    model: Model | ModelConfig,
    data: Any,
    *,
    eval_data: Any = None,
    tokenizer: Any = None,
    max_steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 12,
    seq_len: int | None = None,
    grad_accum: int = 1,
    optimizer: str = "adamw",
    learning_rate: float = 3e-4,
    muon_lr: float | None = None,
    lr_schedule: str = "cosine",
    warmup_steps: int = 0,
    min_lr: float = 0.0,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    max_grad_norm: float | None = 1.0,
    label_smoothing: float = 0.0,
    mask_prompt: bool = True,
    pack: bool = True,
    on_nonfinite: str = "halt",
    seed: int = 1337,
    threads: int | None = None,
    callbacks: Sequence[Any] = (),
    log_every: int = 10,
    eval_every: int | None = None,
    save_every: int | None = None,
    eval_tokens: int | None = EVAL_TOKENS,
    keep_best: bool = False,
    patience: int | None = None,
    output_dir: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train ``model`` on ``data``.

    model            a Model, trained in place, or a ModelConfig, from which one is built with ``seed``
    data, eval_data  a path, a text, bytes, a 1-D array of ids, an object with ``batch(step, micro) -> (ids, targets)``,
                     or examples: a .jsonl, .csv or .parquet file, a folder with train.jsonl, whose valid.jsonl is then
                     eval_data, or a list of {"prompt", "completion"}, {"messages"} or {"text"}; eval_data is scored
                     after every eval_every-th update (if given) and at the end
    eval_tokens      about how many tokens of it one evaluation scores, in windows spread evenly over it, the same ones
                     each time; None: all
    keep_best        after an evaluation that is better than all before, output_dir/best becomes a checkpoint of this
                     step; the returned model has the last weights all the same
    patience         the run stops after so many evaluations of eval_every in a row that are no better than the best
    tokenizer        for text: None (the model's own, see Model.tokenizer, else bytes), "bytes", "chars", the path of a
                     tokenizer.json, or an object with encode, decode and vocab_size
    max_steps        updates in all, those before a resume included; with epochs too, whichever ends first; with
                     neither: one epoch
    batch_size       sequences of one micro-batch, each of seq_len (None: context_length) tokens; grad_accum of them
                     make an update, whose gradient is that of the mean loss over all their valid tokens
    optimizer        "adamw", "adam" (L2), "sgd" (plain), "lion" or "muon": the matrices inside the blocks follow Muon,
                     all else AdamW. weight_decay acts on tensors of two or more dimensions; betas are those of all but
                     sgd, eps is Adam's and AdamW's
    muon_lr          the peak for the matrices that follow Muon, on the same schedule; None: learning_rate
    learning_rate    the peak; lr_schedule "cosine" or "linear" falls to min_lr, "constant" stays; warmup_steps climb
    max_grad_norm    gradients of a larger norm are scaled down to it; None: never
    label_smoothing  share of each target that is spread evenly over the vocabulary (Szegedy et al. 2016), in the
                     training loss alone: eval_loss is without it
    mask_prompt      of examples: only completions and the assistant's turns are learned; False: prompts as well
    pack             of examples: several share a row of seq_len, and do not see each other; False: one a row, filled up
    on_nonfinite     a loss or gradient that is not finite: "halt" raises; "skip", "rewind": see run/policy.py
    threads          for this call; None leaves the number as it is
    callbacks        see loopos.Callback. They, logging, evaluating, saving and threads never change a weight's bits
    output_dir       where checkpoints (after every save_every-th update and at the end), metrics.jsonl, bits.jsonl and,
                     when a number that is not finite ends the run, a bundle for loopos.replay are written
    resume           "auto": from the newest good checkpoint in output_dir, if any; or a folder: an output_dir or one
                     checkpoint
    progress         False prints nothing

    A micro-batch whose targets are all -100 adds nothing. An update without one valid target has loss 0.0 and
    valid_tokens 0 and is not applied (the optimizer does not count it); if no update of the call had any, a UserWarning
    says so.

    Raises before the first update: ValueError and TypeError for an argument, IndexError for an id out of range,
    MemoryError when one update is more than the memory left, FileNotFoundError, OSError when output_dir cannot be
    written or another live process uses it, CheckpointError when a checkpoint to resume is damaged. While training:
    NonFiniteError with the birth of the number, OSError when a checkpoint cannot be written, KeyboardInterrupt. The
    model then holds the state after its last complete update.
    """
    given = dict(locals())
    settings = TrainSettings(**{each.name: given[each.name] for each in fields(TrainSettings)})
    if not isinstance(model, Model | ModelConfig):
        raise TypeError(f"train: model must be a Model or a ModelConfig, got {checks.shown(model)}")
    hooks = Hooks(callbacks, progress=checks.boolean("train", "progress", progress))
    resuming.check_argument(resume, output_dir)
    config = model if isinstance(model, ModelConfig) else model.config
    storage.refuse_training("train", model)
    sources = open_data(model, data, eval_data, tokenizer, settings, progress)
    if isinstance(model, Model) and sources.tokenizer is not None:
        warn_of_another(model.tokenizer if tokenizer is None else tokenizer, sources.tokenizer, config.vocab_size)
    total = total_steps(max_steps, epochs, sources.train.steps_per_epoch)
    if not isinstance(sources.train, DatasetSource):  # whose batches have the size it gives them
        refuse_oversized(model, settings.batch_size, sources.train.seq_len, settings.grad_accum)
    settings.check_together(eval_data=sources.eval, output_dir=output_dir, total=total)
    identity = resuming.Identity(
        config, settings, seq_len or config.context_length, sources.train.fingerprint(), sources.tokenizer
    )
    with ExitStack() as stack:
        stack.enter_context(using_threads(settings.threads))
        folder = stack.enter_context(folder_of(output_dir))
        checkpoint = resuming.find(resume, folder.latest)
        if checkpoint is not None:
            identity.check(checkpoint)
        if isinstance(model, ModelConfig):
            dtype = "float32" if checkpoint is None else checkpoint.state["dtype"]
            model = Model(config, seed=settings.seed, dtype=dtype)
        if not isinstance(sources.train, DatasetSource):
            refuse_unfitting(model, settings, sources.train.seq_len)
        updating = for_training(model=model, **settings.update_rule())
        saved = None if checkpoint is None else resuming.restore(checkpoint, model, updating)
        step = 0 if checkpoint is None else checkpoint.step
        policy = Policy(settings.on_nonfinite, total, model, updating, step=step, saved=saved)
        interrupts = stack.enter_context(Interrupts(sigterm=folder.keeps))
        tally = Tally() if checkpoint is None else Tally.resumed(checkpoint.state, step)
        seen = {} if checkpoint is None else checkpoint.state
        watch = Watch(model, settings.log_every, seen.get("watch"))
        growth = Growth.of(model.parameters(), seen.get("growth"))
        evaluation = Evaluation(sources.eval, settings.patience, seen.get("evaluation"))
        record = Record(model, identity, sources.train, seen.get("record"))
        observers = folder, tally, watch, growth, evaluation, record
        run = _Run(model, updating, policy, sources, settings, identity, hooks, interrupts, total, step, *observers)
        if checkpoint is not None:
            model.inherit(checkpoint.path.parent)
        if isinstance(sources.tokenizer, Tokenizer | ByteTokenizer | CharTokenizer):
            model.reads_with(sources.tokenizer)
        folder.begin(checkpoint, model.source)
        stack.enter_context(trained(model, record))
        stopped = run.run()
        observed = watch.findings, sample_of(sources.train, settings), evaluation.best
        return TrainResult(model, run.history, run.step, folder.output_dir, stopped, *observed)


def default_settings(**changed: Any) -> TrainSettings:
    """The settings of a :func:`train` that is given ``changed`` and nothing else; the same errors."""
    known = inspect.signature(train).parameters
    return TrainSettings(**{each.name: known[each.name].default for each in fields(TrainSettings)} | changed)


@dataclass
class _Run:
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
    history: list[dict[str, Any]] = field(default_factory=list)
    refused: tuple[Update, float, float] | None = None  # the latest, its learning rate, and the seconds it took
    valid_tokens: int = 0  # of this call
    _seconds: float = 0.0  # spent in updates, and the tokens of those, since the last entry of the history
    _tokens: int = 0

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
        update_once = Updater(self.model, self.optimizer, source, settings, check, self.growth)
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
            alarms = self.watch.after(self.step, update, rate)
            self.folder.log_bits(self.step, update)
            self.record.updated(self.step, update.valid_tokens)

            entry = self.entry(update, rate, time.perf_counter() - began)
            stopping = self.call("on_step_end", **entry)
            last = stopping or self.step == self.total or self.interrupts.pending is not None
            if self.evaluation and self.due(settings.eval_every, last and not self.interrupts.pending):
                entry["eval_loss"], scored = self.evaluate()
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
                self.save(last)
            self.interrupts.check()
            if stopping and self.step < self.total:
                return "callback"
        return None

    def evaluate(self) -> tuple[float, int]:
        """The held-out loss, and over how many targets. One that eval_every asks for, or of the run's end, may be the
        best: an evaluation at a callback's stop would not have been made without it, and counts for nothing."""
        scored = self.evaluation.score(self.model, self.interrupts.check)
        self.call("on_evaluate", **scored)
        counts = self.due(self.settings.eval_every, self.step == self.total)
        if counts and self.evaluation.judge(self.step, scored["eval_loss"]) and self.settings.keep_best:
            self.folder.save_best(self.write)
        return scored["eval_loss"], scored["eval_tokens"]

    def run(self) -> str | None:
        """The loop between on_train_begin and on_train_end, with what an early end asks for."""
        first, stopped = self.step, "error"
        try:
            audit = getattr(self.sources.train, "audit", None)
            begun = {"output_dir": self.folder.path, "settings": self.settings.to_dict(), "audit": audit}
            self.call("on_train_begin", max_steps=self.total, **begun)
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
        self.folder.log(entry | described | self.watch.notes())

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
        origins = origins_of(self.sources.train, self.step, self.settings.grad_accum)
        if origin := origin_of(origins, error.birth):
            error.add(origin)
        place = {"step": self.step + 1, "learning_rate": rate, "run": self.folder.run_id, "growth": self.growth}
        place["origins"] = origins
        with self.model.lock:  # the arrays are the living weights until they are written
            self.folder.keep_bundle(
                lambda: Bundle.of(self.model, self.optimizer, self.settings, update, **place), error
            )

    def save(self, final: bool) -> None:
        """Write a checkpoint, unless the newest is already of this step."""
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
        return resuming.save(save, self.step, self.identity, run, *state, counted)

    def stop_message(self, signal_name: str) -> str:
        """Save what there is, and say where the run stands and how it goes on."""
        name = "Ctrl-C" if signal_name == "SIGINT" else signal_name
        text = f"training was stopped by {name} after update {self.step} of {self.total}; the model is as it left it. "
        try:
            self.save(final=True)
        except (OSError, NonFiniteError) as error:
            return text + f"No checkpoint of it could be written: {error}"
        return text + self.folder.how_to_go_on()
