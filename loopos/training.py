"""loopos.train: what it is given is checked and opened, then ``loopos.run.loop.Run`` runs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Any

from . import checks
from .births.growth import Growth
from .distributed.opening import open_ranks
from .model import Model
from .monitor.watch import Watch
from .optim.sharded import ShardedOptimizer
from .optim.training import for_training
from .run import resume as resuming
from .run.adapting import base_of
from .run.alike import alike, before_data, in_shards, refuse_sharding, tell_idle
from .run.callbacks import Hooks
from .run.computed import compute_in, in_precision
from .run.evaluation import Evaluation
from .run.folder import folder_of
from .run.interrupts import Interrupts
from .run.kinds import kind_of
from .run.loop import Run
from .run.objectives import ANOTHER, check_teacher
from .run.policy import Policy
from .run.record import Record, trained
from .run.result import TrainResult, sample_of
from .run.schedules import total_steps
from .run.settings import EVAL_TOKENS, TrainSettings
from .run.tally import Tally
from .threads import threads as using_threads


def train(
    model: Any,
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
    task: str = "lm",
    label_column: str = "label",
    dpo_beta: float = 0.1,
    teacher: Any = None,
    distill: Any = None,
    regularization_lambda: float = 0.0,
    on_nonfinite: str = "halt",
    seed: int = 1337,
    threads: int | None = None,
    moments: str = "float32",
    precision: str | None = None,
    adapter: Any = None,
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
    distributed: Any = None,
    shards: int | None = None,
) -> TrainResult:
    """Train ``model`` on ``data``.

    model            a Model, trained in place, or a ModelConfig, from which one is built with ``seed``; or a Captioner,
                     or an ImageEncoder with classes, of loopos.vision, or its configuration (docs/captioning.md): data
                     are then a set of pictures, a part of one, CaptionBatches, or for classes (images, labels)
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
    task             "lm": the next token. "dpo": pairs {"prompt", "chosen", "rejected"}, by direct preference
                     optimisation with dpo_beta; the reference is ``teacher``, or the model without its adapter; a batch
                     has batch_size pairs. "classify": {"text", label_column}, a class for each text; a model without a
                     head of classes is given one for the labels of the data. pack and mask_prompt do nothing then
    teacher          a Model, or "self", which is the model without its adapter: the student learns its answers, at each
                     position whose target counts, as ``distill`` says: a loopos.Distill, or the name of its loss ("kl",
                     "mse", "normalized_mse", "cosine"); None: "kl"
    regularization_lambda   times the sum of the squares of all trainable weights is added to the loss, and its gradient
                     to theirs, before clipping
    on_nonfinite     a loss or gradient that is not finite: "halt" raises; "skip", "rewind": see run/policy.py
    threads          for this call; None leaves the number as it is
    moments          how adamw, adam and lion keep them: "float32", as the weights are; "bfloat16", half the memory; or
                     "8bit", a quarter. Fewer bits are rounded by chance that step and place fix
    precision        of the products of float32 arithmetic: "float32", "bf16x3" or "bf16" (Model.precision), which the
                     model then has; None: the Model's own, or that of the checkpoint, or LOOPOS_PRECISION
    adapter          a loopos.LoRA or a loopos.Modulated: its matrices are trained, the model is frozen
                     (Model.add_adapter with ``seed``); None: what the model has. Checkpoints then hold the adapter and
                     a SHA-256 of its base, not the base
    callbacks        see loopos.Callback. They, logging, evaluating, saving and threads never change a weight's bits
    output_dir       where checkpoints (after every save_every-th update and at the end), metrics.jsonl, bits.jsonl and,
                     when a number that is not finite ends the run, a bundle for loopos.replay are written
    resume           "auto": from the newest good checkpoint in output_dir, if any; or a folder: an output_dir or one
                     checkpoint
    progress         False prints nothing
    distributed      None: one process. "auto": all that mpiexec started, each of which calls train with the same
                     arguments (docs/distributed.md); batch_size is the whole batch, over all of them. Or a
                     loopos.Distributed. The first rank prints, calls callbacks, logs and writes
    shards           each micro-batch is cut into so many, whose gradients are added in a fixed order: runs with as many
                     shards have the same bits for any number of processes. None: those of the checkpoint, or 1, or
                     with distributed 8, or batch_size where that is less

    A micro-batch whose targets are all -100 adds nothing. An update without one valid target has loss 0.0 and
    valid_tokens 0 and is not applied (the optimizer does not count it); if no update of the call had any, a UserWarning
    says so.

    Raises before the first update: ValueError and TypeError for an argument, IndexError for an id out of range,
    MemoryError when one update is more than the memory left, FileNotFoundError, OSError when output_dir cannot be
    written or another live process uses it, CheckpointError when a checkpoint to resume is damaged. While training:
    NonFiniteError with the birth of the number, OSError when a checkpoint cannot be written, KeyboardInterrupt. The
    model then holds the state after its last complete update.
    """
    given = dict(locals()) | {"teacher": ANOTHER if isinstance(teacher, Model) else teacher}
    settings = TrainSettings(**{each.name: given[each.name] for each in fields(TrainSettings)})
    kind = kind_of(model)
    in_precision(settings, model)  # refused before data are read
    check_teacher(teacher, settings, Model)
    hooks = Hooks(callbacks, progress=checks.boolean("train", "progress", progress))
    ranks = open_ranks(distributed)
    if not ranks.first:
        hooks, progress = Hooks(()), False
    resuming.check_argument(resume, output_dir)
    with ranks.agreed():
        if ranks.size > 1:
            ranks.same(before_data(model, settings, tokenizer, data, eval_data))
        adapter = kind.adapter(model, adapter)
        sources, config = kind.open(model, data, eval_data, tokenizer, settings, progress, ranks)
        total = total_steps(max_steps, epochs, sources.train.steps_per_epoch)
        kind.refuse_oversized(model, sources.train, settings)
        settings.check_together(eval_data=sources.eval, output_dir=output_dir, total=total)
        with ExitStack() as stack, ExitStack() as undo:
            stack.enter_context(using_threads(ranks.threads(settings.threads)))
            folder = stack.enter_context(folder_of(output_dir if ranks.first else None))
            checkpoint = ranks.share(lambda: resuming.find(resume, folder.latest))
            settings = in_precision(settings, model, checkpoint)
            settings = in_shards(settings, distributed is not None, ranks.size, checkpoint)
            tell_idle(settings, sources.train, ranks.size)
            length, read = seq_len or kind.length(config), (sources.train.fingerprint(), sources.tokenizer)
            identity = resuming.Identity(config, settings, length, *read, adapter)
            if checkpoint is not None:
                identity.check(checkpoint)
            if isinstance(model, kind.config):
                dtype = "float32" if checkpoint is None else checkpoint.state["dtype"]
                model = kind.model(config, seed=settings.seed, dtype=dtype, precision=settings.precision)
            compute_in(model, settings.precision, undo)
            kind.prepare(model, config, adapter, settings, undo)
            objective = kind.objective(model, teacher, settings, sources.train)
            kind.refuse_unfitting(model, sources.train, settings, teacher, ranks)
            if ranks.shards_optimizer:
                refuse_sharding(settings)
                updating: Any = ShardedOptimizer(ranks, model=model, **settings.update_rule())
            else:
                updating = for_training(model=model, **settings.update_rule())
            base = base_of(model, folder.keeps or checkpoint is not None)
            saved = None if checkpoint is None else resuming.restore(checkpoint, model, updating, base)
            if ranks.size > 1:
                ranks.same(alike(model, identity, sources))
            step = 0 if checkpoint is None else checkpoint.step
            policy = Policy(settings.on_nonfinite, total, model, updating, step=step, saved=saved)
            interrupts = stack.enter_context(Interrupts(sigterm=folder.keeps or ranks.size > 1, ranks=ranks))
            tally = Tally() if checkpoint is None else Tally.resumed(checkpoint.state, step)
            seen = {} if checkpoint is None else checkpoint.state
            watch = Watch(model, settings.log_every, seen.get("watch"), plain=objective.plain)
            growth = Growth.of(model.parameters(), seen.get("growth"))
            evaluation = Evaluation(sources.eval, settings.patience, seen.get("evaluation"), objective, ranks)
            record = Record(model, identity, sources.train, seen.get("record"))
            observers = folder, tally, watch, growth, evaluation, record, objective, base, ranks
            run = Run(model, updating, policy, sources, settings, identity, hooks, interrupts, total, step, *observers)
            if checkpoint is not None and ranks.first:
                model.inherit(checkpoint.path.parent)
            kind.reads_with(model, sources.tokenizer)
            audit = getattr(sources.train, "audit", None)
            folder.begin(checkpoint, model.source, None if audit is None else audit.to_dict())
            undo.pop_all()
            stack.enter_context(trained(model, record))
            stopped = run.run()
            observed = watch.findings, sample_of(sources.train, settings), evaluation.best, objective.scored()
            return TrainResult(model, run.history, run.step, folder.output_dir, stopped, *observed)


def default_settings(**changed: Any) -> TrainSettings:
    """The settings of a :func:`train` that is given ``changed`` and nothing else; the same errors."""
    known = inspect.signature(train).parameters
    return TrainSettings(**{each.name: known[each.name].default for each in fields(TrainSettings)} | changed)
