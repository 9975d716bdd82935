"""Weights & Biases, by its package wandb, offline unless asked otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopos import checks
from loopos.files import durable

from .tracker import Tracker

MODES = ("offline", "online", "disabled")
STATE = "wandb.json"  # in the folder of a run: its id there, and the last step that was logged


class WandB(Tracker):
    """Logs the history of a run, its settings and what the monitor finds to Weights & Biases.

    mode: "offline" writes to the folder wandb in output_dir (or here) and sends nothing; ``wandb sync`` sends it later,
    "online" sends it at once, "disabled" does nothing. A run that is resumed in its output_dir keeps its id there, and
    a step that was logged before it was cut off is not logged again: it has the same numbers. ImportError without
    wandb."""

    name = "WandB"

    def __init__(self, project: str, mode: str = "offline"):
        super().__init__()
        if not isinstance(project, str) or not project:
            raise ValueError(f"WandB: project must be a name, got {checks.shown(project)}")
        self.project, self.mode = project, checks.choice("WandB", "mode", mode, MODES)
        try:
            import wandb
        except ImportError:
            raise ImportError("WandB needs the package wandb: pip install wandb") from None
        self._wandb, self._run, self._path, self._logged = wandb, None, None, 0
        self._findings: list[str] = []

    def begin(self, config: dict[str, Any], step: int, output_dir: Any) -> None:
        self._path = None if output_dir is None else Path(output_dir) / STATE
        known = self._state() if step > 0 else {}
        self._logged, self._findings = known.get("step", 0), []
        self._run = self._wandb.init(
            project=self.project,
            mode=self.mode,
            id=known.get("id"),
            resume="allow" if known else None,
            dir=None if output_dir is None else str(output_dir),
            config=config,
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def _state(self) -> dict[str, Any]:
        if self._path is None or not self._path.is_file():
            return {}
        saved = durable.load_json(self._path)
        right = isinstance(saved, dict) and isinstance(saved.get("id"), str) and isinstance(saved.get("step"), int)
        return saved if right else {}

    def numbers(self, numbers: dict[str, float], step: int) -> None:
        if step <= self._logged:
            return
        self._run.log(numbers, step=step)
        self._logged = step
        if self._path is not None:
            durable.write_json(self._path, {"id": self._run.id, "step": step})

    def finding(self, sentence: str, step: int) -> None:
        self._findings.append(f"step {step}: {sentence}")
        self._run.summary["findings"] = list(self._findings)

    def end(self) -> None:
        self._run.finish()
