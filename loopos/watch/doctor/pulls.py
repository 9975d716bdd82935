"""Where a loss pulls the model's outputs: its gradient there knows nothing of what is added about the weights.

The gradients of a cross-entropy and of an error are known in closed form. One that is the exact opposite of such a
gradient is that of a loss with its sign turned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .check_targets import IGNORE
from .tree import tensors

OPPOSITE = 1e-3  # of the sum of two directions that cancel
FEWEST = 4  # rows, or 8 numbers: fewer are opposite by chance, or by a reward below 0
MOST = 512  # rows that are looked at


def pulled_from(run: Any) -> str | None:
    """What the loss leads away from, in words: "a cross-entropy with [1]". None where it is not known, or where another
    output is led to where it should be. run: a Run with its ``pulls``."""
    found = None
    for name, output in tensors(run.outputs):
        pull = run.pulls.get(name)
        if pull is None or not output.is_floating_point() or pull.is_complex() or not bool(pull.any()):
            continue
        for where, target in tensors(run.batch):
            if target.is_complex():
                continue
            for said, ours, known in _directions(output.detach(), pull.detach(), target):
                ours, known = ours.double(), known.double()
                scale = ours.norm(), known.norm()
                if not all(bool(each > 0) and bool(each.isfinite()) for each in scale):
                    continue
                if bool((ours / scale[0] - known / scale[1]).norm() < OPPOSITE):
                    return None
                if bool((ours / scale[0] + known / scale[1]).norm() < OPPOSITE):
                    found = found or f"{said} with {where or 'the targets'}"
    return found


def _directions(output: Any, pull: Any, target: Any) -> Iterator[tuple[str, Any, Any]]:
    """(words, the loss's gradient, that of a known loss) of the rows that are looked at."""
    if not target.is_floating_point() and str(target.dtype) != "torch.bool":
        yield from _of_classes(output, pull, target)
    if target.numel() == output.numel() and output.numel() >= 2 * FEWEST:
        numbers, ours, wanted = (each.reshape(-1)[: MOST * 8].double() for each in (output, pull, target))
        if bool(wanted.unique().numel() > 1):
            yield "a squared error", ours, numbers - wanted
            if bool(wanted.min() >= 0) and bool(wanted.max() <= 1):
                yield "a binary cross-entropy", ours, numbers.sigmoid() - wanted


def _of_classes(output: Any, pull: Any, target: Any) -> Iterator[tuple[str, Any, Any]]:
    from torch.nn.functional import one_hot

    if output.ndim < 2 or output.shape[-1] < 2 or target.shape != output.shape[:-1]:
        return
    classes = output.shape[-1]
    labels = target.reshape(-1).long()
    at = (labels != IGNORE).nonzero().reshape(-1)[:MOST]
    labels = labels[at]
    if len(at) < FEWEST or int(labels.min()) < 0 or int(labels.max()) >= classes or labels.unique().numel() < 2:
        return
    rows, ours = (each.reshape(-1, classes)[at].double() for each in (output, pull))
    marked = one_hot(labels, classes).double()
    yield "a cross-entropy", ours, rows.softmax(1) - marked
    if float(rows.logsumexp(1).abs().max()) < OPPOSITE:  # log-probabilities
        yield "a cross-entropy", ours, -marked
    if bool(rows.min() > 0) and float((rows.sum(1) - 1).abs().max()) < OPPOSITE:
        yield "a cross-entropy", ours, -marked / rows
