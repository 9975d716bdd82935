"""An adapter in the checkpoint of a run: what it is, its matrices, and which base it stands on."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.files.checkpoint_folder import Checkpoint

from .base import Base
from .kinds import KINDS, kind_of

ADAPTER, BASE = "adapter", "base"  # keys of a checkpoint's state


def described(spec: Any) -> dict[str, Any]:
    """Safe for JSON."""
    return {"kind": kind_of(spec).name, **spec.to_dict()}


def spec_of(about: Any) -> Any:
    """What :func:`described` gave. TypeError, ValueError, LookupError for anything else."""
    values = dict(about)
    kind = values.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"an adapter of kind {shown(kind)}; this LoopOS knows {', '.join(KINDS)}")
    return KINDS[kind].spec.from_dict(values)


def parts_again(spec: Any, parts: Any) -> list[Any]:
    """``spec``'s parts, of which each was written down as ``_asdict`` gives it."""
    return [kind_of(spec).part(**part) for part in parts]


class Kept(NamedTuple):
    """arrays: by the names of parameters. labels: of the head of classes that was trained with it."""

    spec: Any
    base: Base
    arrays: Mapping[str, np.ndarray]
    path: Path
    labels: tuple[str, ...] = ()

    def place(self, checkpoint: Path, named: Any) -> Path:
        """The folder of the base: the one that was ``named``, or the one that the run recorded. FileNotFoundError when
        there is none."""
        if named is not None:
            return Path(named)
        if self.base.folder is not None and os.path.isdir(self.base.folder):
            return Path(self.base.folder)
        was = (
            "came from no folder" if self.base.folder is None else f"was in {self.base.folder}, which is not there now"
        )
        raise FileNotFoundError(
            errno.ENOENT,
            f"the checkpoint holds an adapter, and its base {was}: name the base's folder, Model.from_pretrained(run, "
            "base=FOLDER) or --base FOLDER on the command line",
            str(checkpoint),
        )

    def check(self, base: Base, function: str) -> None:
        """ValueError where ``base`` is known to be another one than that which the adapter was trained on."""
        if self.base.same_numbers(base) is False:
            place = "the model" if base.folder is None else base.folder
            raise ValueError(
                f"{function}: {place} is not the base that the adapter in {self.path} was trained on: their SHA-256 "
                f"differ, {base.sha256[:12]} here and {self.base.sha256[:12]} there; open the base as it was then"
            )


def kept(checkpoint: Checkpoint) -> Kept | None:
    """That of a checkpoint; None where the run trained a whole model. CheckpointError when it cannot be read."""
    about = checkpoint.state.get(ADAPTER)
    if about is None:
        return None
    try:
        spec, base = spec_of(about), Base.from_dict(checkpoint.state.get(BASE))
        labels = tuple(dict(checkpoint.state.get("config", {})).get("labels", ()))
    except (TypeError, ValueError, LookupError) as error:
        raise CheckpointError(checkpoint.path, f"state.json does not describe its adapter: {error}") from None
    return Kept(spec, base, checkpoint.weights, checkpoint.path, labels)
