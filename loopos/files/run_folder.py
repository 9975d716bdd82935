"""The checkpoints in the folder of a run, found and read; what writes them is ``loopos.run.checkpoint``.

The newest is the one with the highest step in its name (dates lie when clocks jump); those set aside are last.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from pathlib import Path
from typing import NamedTuple

from loopos.errors import CheckpointError

from . import durable
from .checkpoint_folder import MANIFEST, NAME, STATE, Checkpoint, folder_name, is_checkpoint, read_folder, runs_of


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read one checkpoint folder, or the newest sound checkpoint of an output_dir. Takes no lock and writes nothing.

    Raises FileNotFoundError when there is no such folder or no checkpoint in it, NotADirectoryError for a file,
    CheckpointError when the checkpoint named, or every one of an output_dir, is damaged.
    """
    path = Path(os.path.abspath(path))
    with durable.explained("open the checkpoint folder", path):
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "expected the folder of a checkpoint or of a run, got a file")
    if is_checkpoint(path):
        return read_folder(path)
    newest = newest_valid(path)
    if newest is None:
        raise FileNotFoundError(errno.ENOENT, "there is no checkpoint in this folder", str(path))
    return newest


def holds_checkpoint(folder: str | os.PathLike) -> bool:
    """Whether a folder is one checkpoint, sound or not, or the folder of a run that has one."""
    folder = Path(folder)
    if not folder.is_dir():
        return False
    named = NAME.fullmatch(Path(os.path.abspath(folder)).name)
    return bool(named) or any((folder / name).exists() for name in (MANIFEST, STATE)) or bool(list_checkpoints(folder))


class Found(NamedTuple):
    current: bool  # False: set aside
    step: int
    path: Path


def list_names(folder: Path) -> list[str]:
    with durable.explained("list the run folder", folder):
        return os.listdir(folder)


def list_checkpoints(folder: Path) -> list[Found]:
    """What counts as a checkpoint, best first."""
    found = []
    for name in list_names(folder):
        match = NAME.fullmatch(name)
        if match and folder_name(int(match[1])) == name.split(".")[0]:  # no second spelling of a number
            found.append(Found(match[2] is None, int(match[1]), folder / name))
    return sorted(found, reverse=True)


def newest_valid(folder: Path) -> Checkpoint | None:
    failures: list[CheckpointError] = []
    runs: set[str] = set()  # of the newest; empty when it names none
    for found in list_checkpoints(folder):
        if runs and not runs & runs_of(found.path):
            continue
        runs = runs or runs_of(found.path)
        try:
            checkpoint = read_folder(found.path)
        except CheckpointError as error:
            failures.append(error)
            continue
        for failure in failures:
            text = f"a damaged checkpoint is passed over for {checkpoint.path.name}: {failure}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        return checkpoint
    if failures:
        listed = "; ".join(str(failure) for failure in failures)
        raise CheckpointError(folder, f"none of the {len(failures)} checkpoints is sound: {listed}") from failures[0]
    return None
