"""What parted two runs: their checkpoints compared, and the step that differs done again from both.

Everything is compared in the order in which an update uses it, and the first thing that differs is named. How deep that
goes is decided in :func:`first_difference`: inputs, loss, then the gradient of each parameter in the order in which the
backward pass finishes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loopos import files, optim
from loopos.bundle import Bundle
from loopos.checkpoint import Checkpoint, load_checkpoint
from loopos.checkpoint_folder import STATE
from loopos.config import ModelConfig
from loopos.data import open_sources
from loopos.errors import CheckpointError
from loopos.model import Model
from loopos.policy import Policy
from loopos.resume import restore
from loopos.schedules import learning_rate as rate_of
from loopos.schedules import total_steps
from loopos.settings import TrainSettings
from loopos.tokenizer import tokenizer_from_dict
from loopos.updates import Updater

from .replay import Repeater, record

DATA = "the data's "
IDLE = ("log_every", "eval_every", "save_every", "threads")  # settings that change no bit


def differing_settings(a: Path, b: Path) -> tuple[str, ...]:
    """A sentence for each setting that may change bits and is another one in the checkpoint ``b``."""
    states = [_state(path) for path in (a, b)]
    sentences = []
    for part, what in (("config", "the model's "), ("settings", ""), ("data", DATA)):
        x, y = (state.get(part) if isinstance(state.get(part), Mapping) else {} for state in states)
        names = [name for name in {**x, **y} if name not in IDLE and x.get(name) != y.get(name)]
        sentences += [f"{what}{name} is {x.get(name)} in A, {y.get(name)} in B" for name in names]
    for name, what in (("dtype", "dtype"), ("isa", "the instruction set")):
        x, y = (state.get(name) for state in states)
        sentences += [f"{what} is {x} in A, {y} in B"] if x != y else []
    return tuple(sentences)


def _state(path: Path) -> Mapping[str, Any]:
    try:
        state = files.load_json(path / STATE)["state"]
    except (OSError, CheckpointError, LookupError, TypeError):
        return {}
    return state if isinstance(state, Mapping) else {}


def done_again(a: Path, b: Path, step: int, data: Any, recorded: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Update ``step`` of both runs, from their checkpoints ``a`` and ``b`` and the ``data`` they learned (as
    :func:`loopos.train` takes them): which of the two ``recorded`` outcomes this process computes too, and the first
    thing in which the two updates differ here. CheckpointError when a checkpoint is damaged."""
    bundles = [update_after(load_checkpoint(path), step, data) for path in (a, b)]
    sentences = []
    for name, bundle, line in zip("AB", bundles, recorded, strict=True):
        here = {"loss_hex": bundle.outcome.loss, "grad_norm_hex": bundle.outcome.grad_norm}
        known = [key for key in here if isinstance(line.get(key), str)]
        if known:
            same = all(line[key] == here[key] for key in known)
            what = "gives the bits that it recorded" if same else "does not give the bits that it recorded"
            sentences.append(f"step {step} of {name}, done again here from its checkpoint, {what}")
    parted = first_difference(*bundles)
    sentences.append(
        f"done again here, both differ first in {parted}" if parted else "done again here, both are the same"
    )
    return tuple(sentences)


def update_after(checkpoint: Checkpoint, step: int, data: Any) -> Bundle:
    """The bundle of update ``step`` (from 1) of the run that ``checkpoint`` is of; those between are done first."""
    state = checkpoint.state
    try:
        config, given = ModelConfig.from_dict(state["config"]), dict(state["settings"])
        settings, saved = TrainSettings(**given), state["tokenizer"]
        model = Model(config, dtype=state["dtype"])
    except (ValueError, TypeError, LookupError) as error:
        raise CheckpointError(checkpoint.path, f"state.json is not of a run of loopos.train: {error}") from error
    known = isinstance(saved, dict) and saved.get("kind") in ("bytes", "chars")
    source = open_sources(
        data,
        tokenizer=tokenizer_from_dict(saved) if known else None,
        vocab_size=config.vocab_size,
        context_length=config.context_length,
        seq_len=settings.seq_len,
        batch_size=settings.batch_size,
        grad_accum=settings.grad_accum,
        seed=settings.seed,
    ).train
    if source.fingerprint() != state["data"]:
        raise ValueError(f"diff: the data given are not those that {checkpoint.path.parent} was trained on")
    shape = {"betas": settings.betas, "eps": settings.eps, "weight_decay": settings.weight_decay}
    optimizer = optim._for_training(settings.optimizer, model, **shape)
    policy_of = restore(checkpoint, model, optimizer)
    total = total_steps(settings.max_steps, settings.epochs, source.steps_per_epoch)
    policy = Policy(settings.on_nonfinite, total, model, optimizer, step=checkpoint.step, saved=policy_of)
    once = Updater(model, optimizer, source, settings, lambda: None)

    def rate(t: int) -> float:
        schedule = {"schedule": settings.lr_schedule, "warmup_steps": settings.warmup_steps, "min_lr": settings.min_lr}
        return rate_of(t, total, lr=settings.learning_rate, **schedule) * policy.rate_factor

    for t in range(checkpoint.step, step - 1):
        update = once(t, rate(t))
        if update.birth is not None:
            policy.refused(update.birth)
        elif update.applied:
            policy.accepted(t + 1)
    batches = [source.batch(step - 1, micro) for micro in range(settings.grad_accum)]
    return record(model, optimizer, settings, batches, step=step, learning_rate=rate(step - 1))


def first_difference(a: Bundle, b: Bundle) -> str | None:
    """The first thing in which two updates differ, in the order in which they use it; None when all is the same."""
    if a.config != b.config or a.dtype != b.dtype:
        return "the model's configuration"
    if len(a.batches) != len(b.batches):
        return "the number of micro-batches"
    for micro, (x, y) in enumerate(zip(a.batches, b.batches, strict=True)):
        for what, left, right in zip(("ids", "targets"), x, y, strict=True):
            if left.shape != right.shape:
                return f"the shape of {what} of micro-batch {micro}: {left.shape} in A, {right.shape} in B"
            if (place := _apart({what: left}, {what: right})) is not None:
                return f"the batch: micro-batch {micro}, {place}"
    for what, left, right in (("weight", a.weights, b.weights), ("moment", a.moments, b.moments)):
        if (place := _apart(left, right)) is not None:
            return f"a {what} before the step: {place}"
    if a.outcome.loss != b.outcome.loss:
        return f"the loss: {a.outcome.loss} in A, {b.outcome.loss} in B (same batch, same weights: the dropout)"
    if (place := _apart(*(_gradients(bundle) for bundle in (a, b)))) is not None:
        return f"a gradient: {place}"
    if a.learning_rate != b.learning_rate:
        return f"the learning rate: {a.learning_rate!r} in A, {b.learning_rate!r} in B"
    return None


def _gradients(bundle: Bundle) -> dict[str, np.ndarray]:
    """Of the whole update, the last parameter first, as backward goes."""
    repeater = Repeater(bundle)
    repeater.update()
    return dict(reversed(repeater.model._core.gradients().items()))


def _apart(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> str | None:
    """The first element whose bits differ; None when there is none. Names only one side has are the first of all."""
    if strange := sorted(set(a) ^ set(b)):
        return f"{strange[0]}, which only {'A' if strange[0] in a else 'B'} has"
    for name, x in a.items():
        y = b[name]
        bits = np.dtype(f"u{x.dtype.itemsize}")
        if x.dtype == y.dtype and x.shape == y.shape:
            different = np.ascontiguousarray(x).view(bits) != np.ascontiguousarray(y).view(bits)
            if different.any():
                index = tuple(int(i) for i in np.unravel_index(int(np.argmax(different)), different.shape))
                place = f"{name}{list(index)}"
                return f"{place} = {x[index].item()!r} in A, {y[index].item()!r} in B"
        else:
            return f"{name}: {x.dtype} {x.shape} in A, {y.dtype} {y.shape} in B"
    return None
