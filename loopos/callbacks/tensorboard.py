"""TensorBoard, by the package tensorboardX (extra [track])."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from .tracker import Tracker


class TensorBoard(Tracker):
    """Writes the history of a run, its settings and what the monitor finds to event files in ``folder``:
    ``tensorboard --logdir folder`` draws them.

    A run that is resumed goes on in the same folder. What the files have of steps beyond the checkpoint is marked as
    void (TensorBoard's purge step), so that each step is drawn once. ImportError without tensorboardX."""

    name = "TensorBoard"

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        self.folder = os.fspath(folder)
        if not self.folder:
            raise ValueError("TensorBoard: folder must be the name of a folder, got an empty one")
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard needs the package tensorboardX: pip install 'loopos[track]'") from None
        self._open, self._writer = SummaryWriter, None

    def begin(self, config: dict[str, Any], step: int, output_dir: Any) -> None:
        part = f".{time.time_ns() % 10**9:09d}"  # the name has whole seconds, and a file of the same name would be lost
        self._writer = self._open(self.folder, purge_step=step + 1, filename_suffix=part)
        self._writer.add_text("config", f"```json\n{json.dumps(config, indent=2)}\n```", step)

    def numbers(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def finding(self, sentence: str, step: int) -> None:
        self._writer.add_text("findings", sentence, step)

    def saved(self) -> None:
        self._writer.flush()

    def end(self) -> None:
        self._writer.close()
