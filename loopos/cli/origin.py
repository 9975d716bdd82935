"""What a run was trained on: kept in its folder as cli.json, so that eval can score what was held out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from loopos.data.reading import default_text
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.checkpoint_folder import folder_name, is_checkpoint
from loopos.run.callbacks import Callback

NAME = "cli.json"
DEFAULT = "default"  # no absolute path is spelt so


class Origin(NamedTuple):
    """text: an absolute path or "default"; held_out: the share of its end that was not learned; eval_data: the absolute
    path of the file scored instead, or None."""

    text: str
    held_out: float
    eval_data: str | None

    @staticmethod
    def of(text: str | None, held_out: float, eval_data: str | None) -> Origin:
        absolute = None if eval_data is None else os.path.abspath(eval_data)
        return Origin(DEFAULT if text is None else os.path.abspath(text), float(held_out), absolute)

    @staticmethod
    def read(folder: str) -> Origin | None:
        """That of a run folder or of one of its checkpoints; None when it was not trained by the command line."""
        run = Path(os.path.abspath(folder))
        path = (run.parent if is_checkpoint(run) else run) / NAME
        if not path.is_file():
            return None
        saved = durable.load_json(path)
        kinds = {"text": str, "held_out": float, "eval_data": str | None}
        if not isinstance(saved, dict) or any(not isinstance(saved.get(key), kind) for key, kind in kinds.items()):
            raise CheckpointError(path, f"expected {', '.join(kinds)}; pass the TEXT to score")
        return Origin(*(saved[key] for key in kinds))


class Companion(Callback):
    """Keeps the origin in the run folder, once train holds its lock; knows where the run stands when it ends, and what
    its latest evaluation told."""

    def __init__(self, origin: Origin):
        self.origin, self.folder, self.step = origin, None, 0
        self.evaluated: dict[str, Any] = {}  # what the latest evaluation told

    def on_train_begin(self, info: dict[str, Any]) -> None:
        if info["output_dir"] is not None:
            self.folder = Path(info["output_dir"])
            durable.write_json(self.folder / NAME, self.origin._asdict())

    def on_evaluate(self, info: dict[str, Any]) -> None:
        self.evaluated = info

    def on_train_end(self, info: dict[str, Any]) -> None:
        self.step = info["step"]

    def stop_message(self) -> str:
        """What to say after SIGTERM."""
        text = f"training was stopped by SIGTERM after update {self.step}"
        if self.folder is None or not (self.folder / folder_name(self.step)).is_dir():
            return f"{text}; no checkpoint of it was saved"
        return f"{text}. To go on: the same command with --output-dir {str(self.folder)!r} --resume auto"


def source(text: str) -> str | Path:
    """What load_ids takes, of an origin's text."""
    return default_text() if text == DEFAULT else Path(text)


def named(text: str) -> str:
    return "the help texts that every Python carries" if text == DEFAULT else text
