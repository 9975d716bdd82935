"""The batch and the loss themselves: finite, of plausible scale, rows that agree, batches that differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from loopos.health.doctor.report import FAIL, OK, WARN, Check

from .subject import NotApplicable, Subject, listed
from .tree import tensors

HUGE = 1e8  # of a loss: sums over a batch of pictures stay below it
LARGE = 1e3  # rms of an input
NOT_ROWS = ("position", "mask", "length", "adj", "edge", "index", "cache")
INITIALISED = 3  # writes into a weight while a model is made: by the layer, by the model, and one to spare


def inputs(subject: Subject) -> Check:
    """Numbers of the batch are finite and not far from 1; what is meant to be masked may be -inf."""
    found = list(tensors(subject.batch))
    if not found:
        raise NotApplicable("the batch holds no tensors")
    bad, far = [], []
    for name, tensor in found:
        if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
            continue
        numbers = tensor.detach()
        infinite = numbers.isnan() if not numbers.is_floating_point() else numbers.isnan() | (numbers == math.inf)
        if infinite.any():
            at = tuple(int(i) for i in infinite.nonzero()[0])
            bad.append(f"{name or 'it'}{list(at)} = {numbers[at].item()}")
            continue
        finite = numbers[numbers.isfinite()]
        size = float(finite.abs().double().pow(2).mean().sqrt()) if finite.numel() else 0.0
        if size > LARGE or (
            finite.numel() > 16 and float(finite.real.min()) >= 0 and 255 >= float(finite.abs().max()) > 64
        ):
            far.append(f"{name or 'it'} has an rms of {size:.3g}")
    if bad:
        return Check("inputs", listed(bad), "finite numbers", FAIL, "clean the data: the batch itself is not finite")
    if far:
        advice = "scale the inputs to about 1 (pictures: divide by 255, subtract the mean)"
        return Check("inputs", listed(far), f"an rms below {LARGE:g}, pictures scaled", WARN, advice)
    return Check("inputs", f"{len(found)} tensors", "finite numbers", OK)


def rows_agree(subject: Subject) -> Check:
    """The tensors of a batch have one number of rows."""
    at = 0
    for module in subject.modules.values():
        at = 1 if getattr(module, "batch_first", True) is False else at
    sizes = {
        name: tensor.shape[at]
        for name, tensor in tensors(subject.batch)
        if tensor.ndim > at and not any(word in name for word in NOT_ROWS)
    }
    if len(sizes) < 2 or at:
        raise NotApplicable("fewer than two tensors with rows")
    said = listed([f"{name or 'it'} {size}" for name, size in sizes.items()], 6)
    if 1 in sizes.values() and max(sizes.values()) > 1:
        advice = "one tensor holds a single row for a batch of many: look at what collates or tokenizes it"
        return Check("rows agree", said, "one number of rows", FAIL, advice)
    return Check("rows agree", said, "one number of rows", OK)


def batches_differ(subject: Subject) -> Check:
    """No two batches of the loader are equal, and no row comes twice in most of a batch."""
    import torch

    if len(subject.batches) < 2:
        raise NotApplicable("pass batches= (the loader) to have it looked at")
    flat = [[tensor for _, tensor in tensors(batch) if tensor.is_floating_point()] for batch in subject.batches]
    flat = [
        parts or [tensor for _, tensor in tensors(batch)] for parts, batch in zip(flat, subject.batches, strict=True)
    ]
    equal = []
    for one in range(len(flat)):
        for two in range(one):
            same = [a.shape == b.shape and torch.equal(a, b) for a, b in zip(flat[one], flat[two], strict=False)]
            equal += [f"{two} and {one}"] if same and all(same) else []
    if equal:
        advice = (
            "workers draw the same random numbers: seed numpy and random from torch.initial_seed() in worker_init_fn, "
            "and differently for each worker"
        )
        return Check("batches differ", f"equal: {listed(equal)}", "none equal", FAIL, advice)
    return Check("batches differ", f"{len(flat)} batches, none equal", "none equal", OK)


def loss(subject: Subject) -> Iterator[Check]:
    """The loss is one finite number of tensors that fit, and computing it leaves the batch and the weights alone."""
    run = subject.first()
    if math.isfinite(run.loss) and abs(run.loss) > HUGE:
        advice = f"look for a division by a floor or an eps that is active: {_first_huge(subject)}"
        yield Check("loss", f"{run.loss:.6g}", f"a plausible number, at most {HUGE:g}", FAIL, advice)
        return
    finite = math.isfinite(run.loss)
    advice = "" if finite else "loopos.watch(model, optimizer).step(...) names the operation where it is born"
    yield Check("loss", f"{run.loss:.6g}", "a finite number", OK if finite else FAIL, advice)
    if finite and run.loss == 0:
        advice = "no label is scored, or the loss is filtered: look at labels and masks"
        yield Check("loss is not 0", "exactly 0", "above 0", FAIL, advice)
    if run.seen.spread:
        called, *shapes = run.seen.spread[0]
        advice = "broadcasting compares every row with every other: give both one shape (squeeze(-1), or unsqueeze(-1))"
        text = f"{called} of shapes {shapes[0]} and {shapes[1]}"
        yield Check("shapes in the loss", text, "one shape", FAIL, advice)
    before = dict(tensors(subject.batch))
    changed = [name for name, tensor in tensors(run.batch) if name in before and not _equal(tensor, before[name])]
    if changed:
        advice = "an in-place operation writes into the data: the same batch is another one the next time"
        yield Check("batch is left alone", f"{listed(changed)} changed", "nothing", WARN, advice)
    with subject.kept():
        weights = {key: p.detach().clone() for key, p in subject.parameters.items()}
        subject.model.train()
        subject.compute()
        written = [key for key, p in subject.parameters.items() if not _equal(p.detach(), weights[key])]
    if written:
        advice = "loss_fn or forward writes into parameters: nothing but the optimizer may (a step inside loss_fn?)"
        yield Check("weights are left alone", f"{listed(written)} changed", "nothing", WARN, advice)


def _first_huge(subject: Subject) -> str:
    """The first operation whose output passes HUGE, with its line."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from loopos.watch.places import source_line

    found: list[str] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            numeric = isinstance(result, torch.Tensor) and (result.is_floating_point() or result.is_complex())
            if numeric and not found and result.numel() and float(result.abs().max()) > HUGE:
                found.append(f"the first number beyond {HUGE:g} comes out of {function} at {source_line()}")
            return result

    with subject.kept(weights=False):
        subject.model.train()
        with Sizes():
            subject.compute()
    return found[0] if found else "it is in the data already"


def _equal(one: Any, two: Any) -> bool:
    if one.shape != two.shape:
        return False
    return bool(((one == two) | ((one != one) & (two != two))).all())


def construction(subject: Subject) -> Check:
    """How often each weight is initialised while the model is made."""
    if subject.build is None:
        raise NotApplicable("pass build= to have the making of the model looked at")
    from torch.utils._python_dispatch import TorchDispatchMode

    writes: dict[int, int] = {}
    kept: list[Any] = []  # so that no address is used twice

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if function.__name__.partition(".")[0] in ("normal_", "uniform_", "fill_", "zero_", "copy_"):
                kept.append(args[0].untyped_storage())
                key = args[0].untyped_storage().data_ptr()
                writes[key] = writes.get(key, 0) + 1
            return result

    with Count():
        model = subject.build()
    counts = {name: writes.get(p.untyped_storage().data_ptr(), 0) for name, p in model.named_parameters()}
    worst = max(counts, key=counts.__getitem__, default=None)
    if worst is not None and counts[worst] > INITIALISED:
        many = sum(count > INITIALISED for count in counts.values())
        advice = (
            "initialisation walks over the same modules again and again: each call of it should write its own weights"
        )
        text = f"{worst} is written {counts[worst]} times, and {many - 1} more above {INITIALISED}"
        return Check("construction", text, f"at most {INITIALISED} times", WARN, advice)
    return Check("construction", f"at most {max(counts.values(), default=0)} times", f"at most {INITIALISED}", OK)
