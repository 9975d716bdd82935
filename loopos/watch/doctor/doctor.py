"""loopos.watch.doctor: does this PyTorch program train what its author thinks it trains?

Every check measures something on the program itself, says what was expected, and gives a verdict. Afterwards weights,
gradients, buffers, modes, optimizers, schedulers and generators are as before, bit for bit.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from loopos.health.doctor.report import FAIL, SKIPPED, Check, DoctorReport

from . import (
    check_batch,
    check_loop,
    check_losses,
    check_mixing,
    check_modes,
    check_optimizer,
    check_precision,
    check_targets,
)
from .subject import NotApplicable, Subject

_Examination = Callable[[Subject], "Check | Iterator[Check]"]
EXAMINATIONS: list[tuple[str, _Examination]] = [  # in the order of what each rests on
    ("inputs", check_batch.inputs),
    ("rows agree", check_batch.rows_agree),
    ("batches differ", check_batch.batches_differ),
    ("optimizer holds the model", check_optimizer.holds),
    ("frozen", check_optimizer.frozen),
    ("weights tied", check_optimizer.tied),
    ("rate", check_optimizer.rate),
    ("loss", check_batch.loss),
    ("arguments of the loss", check_losses.arguments),
    ("sign of the loss", check_losses.sign),
    ("gradients reach", check_optimizer.reach),
    ("symmetry", check_optimizer.symmetry),
    ("loss repeats", check_modes.repeats),
    ("evaluation is still", check_modes.still),
    ("dropout is live", check_modes.dropout),
    ("train and evaluation", check_modes.one_path),
    ("switching modes", check_modes.switching),
    ("state dict", check_modes.state_dict),
    ("labels", check_targets.labels),
    ("next token", check_targets.next_token),
    ("initial loss", check_targets.initial_loss),
    ("causality", check_mixing.causality),
    ("batch invariance", check_mixing.batch_invariance),
    ("precision", check_precision.precision),
    ("updates", check_optimizer.updates),
    ("update without gradients", check_optimizer.survives),
    ("generation", check_mixing.generation),
    ("construction", check_batch.construction),
    ("loop", check_loop.loop),
]


def doctor(
    model: Any,
    optimizer: Any,
    batch: Any,
    loss_fn: Callable[[Any, Any], Any],
    *,
    scheduler: Any = None,
    step: Callable[[], Any] | None = None,
    batches: Iterable[Any] | None = None,
    build: Callable[[], Any] | None = None,
) -> DoctorReport:
    """Check a PyTorch program before, or in the middle of, its training; a report with one line a check.

    model      a torch.nn.Module
    optimizer  the torch optimizer that trains it, or a list of them
    batch      one batch, of any structure of tensors
    loss_fn    ``loss_fn(model, batch)`` gives the loss: a scalar tensor, or something with ``.loss``, or a tuple that
               begins with it. It does not call backward
    scheduler  the scheduler of the rate, or a list of them
    step       one step of the program's own loop, ``step()``: it is called a few times, so that zero_grad, the order of
               scheduler and optimizer, clipping and the mode can be looked at
    batches    a few batches as the loader gives them (four are taken): a loader whose workers draw the same numbers
    build      makes the model, as the program does: how often each weight is initialised is counted

    A verdict is "ok", "warn", "fail", or "skipped" with the reason; ``report.ok`` is that none failed. Whatever the
    program raises is a failed check. TypeError for a model, optimizer or loss_fn that is none."""
    import torch

    began = time.perf_counter()
    optimizers = _many(optimizer)
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"doctor: model must be a torch.nn.Module, got {type(model).__name__}")
    if not optimizers or not all(hasattr(each, "param_groups") for each in optimizers):
        raise TypeError(f"doctor: optimizer must be a torch optimizer or a list of them, got {optimizer!r}")
    if not callable(loss_fn):
        raise TypeError(f"doctor: loss_fn must be called as loss_fn(model, batch), got {type(loss_fn).__name__}")
    optimizers = [getattr(each, "optimizer", each) for each in optimizers]  # accelerate's and others' wrappers
    taken = [one for one, _ in zip(batches, range(4), strict=False)] if batches is not None else []
    subject = Subject(model, optimizers, batch, loss_fn, _many(scheduler), step, taken, build)
    found: list[Check] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with subject.kept():
            for name, examination in EXAMINATIONS:
                found += _examined(name, examination, subject)
    return DoctorReport(tuple(found), time.perf_counter() - began)


def _many(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]


def _examined(name: str, examination: _Examination, subject: Subject) -> list[Check]:
    found: list[Check] = []
    try:
        result = examination(subject)
        found += [result] if isinstance(result, Check) else list(result)
    except NotApplicable as reason:
        found.append(Check(name, str(reason), "", SKIPPED))
    except MemoryError as error:
        found.append(Check(name, f"not enough memory: {error}", "", SKIPPED))
    except Exception as error:  # of the program looked at; the other checks go on
        text = str(error).strip().partition("\n")[0]
        advice = "the program raises this: look at its traceback with loss_fn(model, batch) called by hand"
        found.append(Check(name, f"{type(error).__name__}: {text}", "no exception", FAIL, advice))
    return found
