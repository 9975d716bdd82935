"""A fault, watched: what is told of it, beside the truth."""

from __future__ import annotations

import linecache
import math
from typing import Any

import loopos

from .faults import Case

LINEAR = {"linear", "addmm", "mm", "bmm", "baddbmm", "matmul"}


def told(case: Case) -> Any:
    """The birth; None when nothing was told."""
    program = case.program
    with loopos.watch(program.model, program.optimizer) as watch:
        try:
            watch.step(lambda: program.loss_fn(program.model, program.batch))
        except loopos.NonFiniteError as error:
            return error.birth
    return None


def plain_op(name: str) -> str:
    """ "aten.div_.Tensor" is "div"."""
    words = [word for word in name.split(".") if word != "aten"]
    return words[0].rstrip("_") if words else ""


def verdict(case: Case, birth: Any) -> dict[str, bool]:
    """op, element and cause: whether each is right."""
    truth = case.truth
    if birth is None:
        return {"told": False, "op": False, "element": False, "cause": False}
    op = plain_op(birth.op)
    wanted = LINEAR if truth.op == "linear" else {truth.op}
    right = op in wanted and birth.phase == truth.phase
    if truth.module is not None:
        right = right and (birth.module or "").endswith(truth.module)
    if truth.tensor is not None:
        right = right and birth.tensor == truth.tensor
    if truth.line is not None:
        file, _, number = (birth.source or "").rpartition(":")
        right = right and truth.line in linecache.getline(file, int(number or 0))
    element = truth.index is None or tuple(birth.index) == truth.index or _same_place(birth.index, truth.index)
    cause = birth.cause_class in truth.cause or birth.cause.partition(":")[0] in truth.cause
    return {"told": not math.isfinite(birth.value), "op": right, "element": right and element, "cause": cause}


def _same_place(one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    """Of an output with leading axes of 1, which a view leaves out."""
    return tuple(one)[-len(two) :] == two and not any(tuple(one)[: -len(two)]) if two else False
