"""The run folder: checkpoints that are whole, verified and on the disk, or do not count.

::

    .lock                            one live process at a time (runlock.py)
    step-00000010/                   a checkpoint (checkpoint_folder.py)
    best/                            another, of the lowest held-out loss (keep_best)
    step-00000010.old.<pid>.<rand>/  one set aside, still whole: replaced, or of a history that the run has left
    step-00000010.tmp.<pid>.<rand>/  being written, and
    step-00000010.trash.<...>/       being deleted: removed by the next process that takes the lock

Writing: aside, each file synced, the manifest last, the folder synced, renamed, the parent synced; only then are older
ones removed, each by a rename first. So a name that counts never stands for half a checkpoint, whenever the power goes.
Reading: the newest is the one with the highest step in its name (dates lie when clocks jump); those set aside are last.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopos.files import durable
from loopos.files.checkpoint_folder import (
    OPTIMIZER,
    RUN,
    Checkpoint,
    folder_name,
    refuse_nonfinite,
    runs_of,
    split_arrays,
    write_folder,
)
from loopos.files.run_folder import list_checkpoints, list_names, load_checkpoint, newest_valid

from .runlock import RunLock

__all__ = ["RUN", "Checkpoint", "CheckpointStore", "load_checkpoint", "split_arrays"]

BEST = "best"
_LITTER = re.compile(
    r"(?:step-[0-9]{8,}|best|(?:metrics|bits)\.jsonl|(?:cli|doctor)\.json)\.(?:tmp|trash)\.[0-9]+\.[0-9a-f]+"
)


class CheckpointStore:
    """The run folder ``output_dir``, owned by this process until :meth:`close` or the end of a ``with`` block.

    keep: how many checkpoints stay, at least 2.

    Whatever can be known to fail is tried here: OSError when the folder cannot be made or written, or when another live
    process owns it. What a killed process left behind is cleared away.
    """

    def __init__(self, output_dir: str | os.PathLike, *, keep: int = 3):
        if not isinstance(keep, int) or isinstance(keep, bool) or keep < 2:
            raise ValueError(f"CheckpointStore: keep must be an integer of at least 2, got {keep!r}")
        self.folder = Path(os.path.abspath(output_dir))
        self.keep = keep
        durable.make_folder(self.folder)
        self._lock = RunLock(self.folder / ".lock")
        try:
            self._clear_litter()
            self._probe()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder back. Closing twice is harmless."""
        self._lock.release()

    def save(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of ``step`` (updates done) and return its folder once it is on the disk.

        arrays: names that begin with "optimizer." go to optimizer.safetensors, all others to model.safetensors.
        state: what strict JSON can hold (see ``durable.dump_json``); it comes back equal, tuples as lists.
            Checkpoints of one run have the same string under "run".

        A checkpoint of the same step is replaced, later ones are set aside: they belong to a history that this run
        has left. Then the ``keep`` best remain. That an old one could not be removed is a RuntimeWarning.

        Raises NonFiniteError before anything is written when an array holds NaN or inf; OSError with errno and path
        when writing fails, the earlier checkpoints being as they were.
        """
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise ValueError(f"CheckpointStore.save: step must be a non-negative integer, got {step!r}")
        final = self.folder / folder_name(step)
        self._write(final, step, arrays, state)
        self._retire(step)
        return final

    def save_best(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> Path:
        """The same as ``best`` in place of the one before it; no resume looks there unless it is named."""
        final = self.folder / BEST
        self._write(final, step, arrays, state)
        for path in self._replaced_bests():
            durable.remove(path)
        return final

    def set_best_aside(self) -> None:
        """Another run begins: its folder is not to hold the best of the one before under this name."""
        best = self.folder / BEST
        if best.is_dir():
            kept = self.folder / f"{BEST}.before"
            kept = durable.beside(best, "before") if os.path.lexists(kept) else kept
            with durable.explained("move aside what another run left", best):
                os.rename(best, kept)

    def _write(self, final: Path, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        if not self._lock.held:
            why = "the store was closed, or this process is a fork of the one that opened it"
            raise RuntimeError(f"CheckpointStore.save: {self.folder} is not held: {why}")
        refuse_nonfinite(step, arrays)
        aside = durable.beside(final, "tmp")
        try:
            write_folder(aside, step, arrays, state)
            self._put(aside, final)
        except BaseException:
            with contextlib.suppress(OSError):
                durable.remove(aside)
            raise

    def _replaced_bests(self) -> list[Path]:
        return [self.folder / name for name in list_names(self.folder) if name.startswith(f"{BEST}.old.")]

    def runs(self) -> set[str | None]:
        """The ids of the runs that have checkpoints here; None among them for one that names no run."""
        return {run for found in list_checkpoints(self.folder) for run in runs_of(found.path) or {None}}

    def load_latest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies; None when there is none at all.

        A damaged one is a RuntimeWarning that names the file and what is wrong with it, and the one before is tried,
        of the same run: one of another run that used the folder earlier is never taken for it.
        When all are damaged: CheckpointError.
        """
        return newest_valid(self.folder)

    @staticmethod
    def load(path: str | os.PathLike) -> Checkpoint:
        """:func:`load_checkpoint`."""
        return load_checkpoint(path)

    def _clear_litter(self) -> None:
        for path in self._replaced_bests():  # killed between two renames: it is the best there is, or was replaced
            with contextlib.suppress(OSError):
                if (self.folder / BEST).is_dir():
                    durable.remove(path)
                else:
                    os.rename(path, self.folder / BEST)
        for name in list_names(self.folder):
            if _LITTER.fullmatch(name):
                try:
                    durable.remove(self.folder / name)
                except OSError as error:  # it takes space but never counts: no reason not to train
                    warnings.warn(f"what a killed process left stays: {error}", RuntimeWarning, stacklevel=4)

    def _probe(self) -> None:
        """Write as a checkpoint will be written, names of full length included."""
        aside = durable.beside(self.folder / folder_name(0), "tmp")
        try:
            with durable.explained("write in the run folder", aside):
                os.mkdir(aside)
            durable.create(aside / OPTIMIZER, bytes(4096))
        finally:
            with contextlib.suppress(OSError):
                durable.remove(aside)

    def _put(self, aside: Path, final: Path) -> None:
        """Give a finished folder its name. What has the name already first gets one under which it still counts."""
        replaced = durable.beside(final, "old") if os.path.lexists(final) else None
        with durable.explained("put the finished checkpoint in its place", final):
            try:
                if replaced is not None:
                    os.rename(final, replaced)
                    durable.sync_folder(self.folder)
                os.rename(aside, final)
            except BaseException:
                if replaced is not None:
                    with contextlib.suppress(OSError):
                        os.rename(replaced, final)
                raise
        durable.sync_folder(self.folder)

    def _retire(self, step: int) -> None:
        """Set later steps aside, then remove all but the best ``keep``."""
        try:
            with durable.explained("remove an old checkpoint", self.folder):
                left = [found.path for found in list_checkpoints(self.folder) if found.current and found.step > step]
                for path in left:
                    os.rename(path, durable.beside(path, "old"))
                trash = []
                for found in list_checkpoints(self.folder)[self.keep :]:
                    trash.append(durable.beside(self.folder / folder_name(found.step), "trash"))
                    os.rename(found.path, trash[-1])
                if left or trash:
                    durable.sync_folder(self.folder)  # or a power cut could undo a rename, but not what follows
                for path in trash:
                    durable.remove(path)
        except OSError as error:
            warnings.warn(f"the checkpoint of step {step} is safe, but {error}", RuntimeWarning, stacklevel=3)
