"""What a run keeps in its output_dir: checkpoints, metrics.jsonl and bits.jsonl, bundles of refused updates.

The loop asks one object for all of it and never whether there is an output_dir: :class:`NoFolder` answers for a run
that keeps nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from loopos import hf
from loopos.errors import NonFiniteError
from loopos.files import durable

from . import resume as resuming
from .bundle import Bundle, keep
from .checkpoint import Checkpoint, CheckpointStore
from .metrics import AUDIT, BITS, METRICS, MetricsLog, open_log
from .updates import Update

Write = Callable[[Callable[..., Path]], Path]  # writes a checkpoint by the method of the store that it is given


class NoFolder:
    """Of a run without output_dir: it keeps nothing, and nothing is ever missing."""

    keeps = False
    output_dir: Path | None = None  # as it was given
    path: Path | None = None  # absolute
    run_id: str | None = None

    def __enter__(self) -> NoFolder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def latest(self) -> Checkpoint | None:
        """The newest sound checkpoint."""
        return None

    def begin(
        self,
        checkpoint: Checkpoint | None,
        source: hf.Source | None = None,
        audit: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the logs of the run that begins, or that goes on from ``checkpoint``. Kept with the run: source, of the
        Hugging Face folder that the model came from; audit, of the examples that it learns."""

    def log(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl."""

    def log_bits(self, step: int, update: Update) -> None:
        """A line of bits.jsonl."""

    def has(self, step: int) -> bool:
        """Whether a checkpoint of ``step`` would add nothing."""
        return True

    def save(self, step: int, write: Write) -> Path:
        """The checkpoint of ``step``, which the folder has not."""
        raise RuntimeError("NoFolder.save: a run without output_dir has no place for a checkpoint")

    def save_best(self, write: Write) -> None:
        """A checkpoint as output_dir/best. Weights that are not finite are nobody's best."""

    def keep_bundle(self, make: Callable[[], Bundle], error: NonFiniteError) -> None:
        """Write what repeats a refused update, and add to ``error`` where it is, or why it could not be written."""

    def how_to_go_on(self) -> str:
        """What to say to a user whose run was stopped."""
        return "Nothing was saved: no output_dir was given"


class RunFolder(NoFolder):
    """The folder of a run, locked from ``__enter__`` to ``__exit__``."""

    keeps = True

    def __init__(self, output_dir: str | os.PathLike):
        self.output_dir = Path(output_dir)
        self._stack = ExitStack()
        self._saved_step: int | None = None  # of the newest checkpoint here that is of this run
        self._store: CheckpointStore
        self._metrics: MetricsLog
        self._bits: MetricsLog

    def __enter__(self) -> RunFolder:
        self._store = self._stack.enter_context(CheckpointStore(self.output_dir))
        self.path = self._store.folder
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def latest(self) -> Checkpoint | None:
        return self._store.load_latest()

    def begin(
        self,
        checkpoint: Checkpoint | None,
        source: hf.Source | None = None,
        audit: Mapping[str, Any] | None = None,
    ) -> None:
        if source is not None:
            source.keep(self.path)
        elif checkpoint is None:
            hf.Source.forget(self.path)
        if audit is not None:
            durable.write_json(self.path / AUDIT, audit)
        elif checkpoint is None:
            (self.path / AUDIT).unlink(missing_ok=True)
        step = 0 if checkpoint is None else checkpoint.step
        self.run_id = resuming.begin(self._store, checkpoint)
        self._metrics = self._stack.enter_context(open_log(self.path / METRICS, step))
        self._bits = self._stack.enter_context(open_log(self.path / BITS, step))
        if checkpoint is not None and checkpoint.path.parent == self.path:
            self._saved_step = step

    def log(self, record: Mapping[str, Any]) -> None:
        self._metrics.write(record)

    def log_bits(self, step: int, update: Update) -> None:
        self._bits.write_bits(step, float(update.loss), float(update.grad_norm))

    def has(self, step: int) -> bool:
        return self._saved_step == step

    def save(self, step: int, write: Write) -> Path:
        path = write(self._store.save)
        self._saved_step = step
        return path

    def save_best(self, write: Write) -> None:
        with suppress(NonFiniteError):
            write(self._store.save_best)

    def keep_bundle(self, make: Callable[[], Bundle], error: NonFiniteError) -> None:
        try:
            path = keep(self.path, make())
        except (OSError, MemoryError) as failure:
            error.add(f"No bundle to repeat the step from could be written: {failure}")
        else:
            error.add(f"To repeat this step: loopos replay {shlex.quote(str(path))}", path)

    def how_to_go_on(self) -> str:
        return f"To go on: the same call with output_dir={os.fspath(self.path)!r}, resume='auto'"


def folder_of(output_dir: str | os.PathLike | None) -> NoFolder:
    return NoFolder() if output_dir is None else RunFolder(output_dir)
