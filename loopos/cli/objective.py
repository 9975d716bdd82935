"""What is minimised, as the options of train ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopos.run.distill import Distill
from loopos.run.objectives import SELF

from . import folders
from .options import OBJECTIVE


def take(asked: dict[str, Any], dtype: str | None, precision: str | None = None) -> dict[str, Any]:
    """Out of the options of train, the keys of OBJECTIVE, as keywords of loopos.train; a teacher that is a folder is
    opened, in ``dtype`` and ``precision`` where they are asked for. ValueError for how to learn of a teacher without
    one."""
    given = {name: asked.pop(name) for name in OBJECTIVE if name in asked}
    given = {name: value for name, value in given.items() if value is not None}
    teacher, reference = given.pop("distill", None), given.pop("reference", None)
    if teacher is None and given:
        raise ValueError(f"train: {', '.join(given)} without distill: whose answers are learned must be given")
    if teacher is not None and reference is not None:
        raise ValueError("train: distill and reference are two tasks; expected one of them")
    named = teacher if reference is None else reference
    if named is None:
        return {}
    own = {"dtype": dtype or "float32", "precision": precision}
    found = {"teacher": SELF if named == SELF else folders.load(named, **own).model}
    if reference is None:
        found["distill"] = Distill(**{name.removeprefix("distill_"): value for name, value in given.items()})
    return found


def table(classes: Mapping[str, Any]) -> str:
    """The accuracy of a classifier and its confusion matrix: of each class a line, by what its texts were taken for."""
    labels, rows = classes["labels"], classes["confusion"]
    width = max(len(str(cell)) for cell in (*labels, *(count for row in rows for count in row)))
    lines = [f"accuracy {classes['accuracy']:.4f}; each class, by what its texts were taken for:"]
    lines.append(" ".join(f"{cell:>{width}}" for cell in ("", *labels)))
    lines += [" ".join(f"{cell:>{width}}" for cell in (label, *row)) for label, row in zip(labels, rows, strict=True)]
    return "\n".join(lines)
