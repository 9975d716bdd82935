"""What a watched run leaves in its output_dir: metrics.jsonl, bits.jsonl and bundles, as our own runs write them.

Every ``EVERY`` steps, and whenever there is something to say, metrics.jsonl gets a line; bits.jsonl has one of every
step. The monitor of our own runs looks at loss, gradient norm and, in the steps that are logged, at how far each matrix
moved.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch

from loopos.errors import Birth
from loopos.files import durable
from loopos.monitor.monitor import Alarm, Monitor
from loopos.monitor.movement import Movement, UpdateRatios
from loopos.run.metrics import BITS, METRICS, MetricsLog, set_aside

EVERY = 10


class Log:
    """Of one watched run. findings: what the monitor told so far."""

    def __init__(self, model: torch.nn.Module, output_dir: str | os.PathLike | None):
        self.folder = None if output_dir is None else _folder(output_dir)
        self.findings: list[Alarm] = []
        self._monitor = Monitor()
        self._model, self._places = model, None
        self._ratios, self._movement = UpdateRatios({}), Movement({})
        self._rate, self._fell = 0.0, False  # of the step before; whether it was ever less than in the one before that
        self._waiting: list[Alarm] = []
        self._line: dict[str, Any] = {}  # of the last step, as long as it is not written
        self._measured: dict[str, float] = {}
        self._logs: tuple[MetricsLog, MetricsLog] | None = None
        if self.folder is not None:
            for name in (METRICS, BITS):  # of a run that had this folder before
                set_aside(self.folder / name)
            self._logs = MetricsLog(self.folder / METRICS), MetricsLog(self.folder / BITS)

    def before(self, step: int) -> None:
        """The weights are still those of before the update."""
        due = _due(step)
        if due or self._movement.looks(step):
            places = tuple(parameter.data_ptr() for parameter in self._model.parameters())
            if places != self._places:
                arrays, self._places = _arrays(self._model), places
                self._ratios = UpdateRatios(arrays)
                self._movement.look_at(arrays)
        self._movement.before(step, due)
        if due:
            self._ratios.remember()

    def after(self, step: int, numbers: dict[str, float], counts: dict[str, int], ahead: float = 1.0) -> None:
        """``step`` is done. numbers: loss and learning_rate, where known, and grad_norm; counts: attempted, applied,
        skipped, nonfinite; ahead: how many times this step's rate its scheduler's highest is."""
        if _due(step):
            self._measured = self._ratios.measure()
        rate = numbers.get("learning_rate", 0.0)
        self._fell = self._fell or rate < self._rate
        self._rate = rate
        self.tell(step, self._monitored(step, numbers))
        ahead = 1.0 if self._fell else ahead
        loss = numbers.get("loss", math.nan)
        self.tell(step, self._movement.after(step, self._ratios.moved, ahead, loss, self._monitor.course))
        self._keep(step, numbers, counts, force=_due(step))

    def refused(self, step: int, numbers: dict[str, float], counts: dict[str, int], birth: Birth) -> None:
        """``step`` changed nothing, or with "warn" what it should not have."""
        self._measured = {}
        self.tell(step, self._movement.held(step))
        self._keep(step, numbers, counts, force=True, birth=str(birth))

    def tell(self, step: int, found: list[Alarm]) -> None:
        """Of ``step``, and what others than the monitor found in it."""
        self.findings += found
        self._waiting += found
        if found and not self._line:
            self._line = {"step": step}

    def _monitored(self, step: int, numbers: dict[str, float]) -> list[Alarm]:
        loss, norm = numbers.get("loss"), numbers["grad_norm"]
        if not self._measured and loss is not None and self._monitor.settles(loss, norm):
            return []
        more = {"update_ratio": self._measured} if self._measured else {}
        return self._monitor.observe(step, **numbers, **more)

    def _keep(self, step: int, numbers: dict[str, float], counts: dict[str, int], force: bool, **more: Any) -> None:
        if self._logs is None:
            self._measured, self._waiting = {}, []
            return
        if "loss" in numbers:
            self._logs[1].write_bits(step, numbers["loss"], numbers["grad_norm"])
        self._line = {"step": step, **numbers, **counts, **more}
        if force or self._waiting:
            self._write()

    def _write(self) -> None:
        if self._logs is None or not self._line:
            return
        ratios = {"update_ratio": self._measured} if self._measured else {}
        found = [vars(alarm) for alarm in self._waiting]
        self._logs[0].write(self._line | ratios | ({"findings": found} if found else {}))
        self._line, self._measured, self._waiting = {}, {}, []

    def close(self) -> None:
        """Write the last step, if it was not, and close the files."""
        self._write()
        for log in self._logs or ():
            log.close()
        self._logs = None


def _due(step: int) -> bool:
    return step == 1 or step % EVERY == 0


def _folder(output_dir: str | os.PathLike) -> Path:
    """Of this rank: those above 0 have one of their own in it."""
    folder = Path(output_dir)
    if rank := rank_here():
        folder = folder / f"rank-{rank}"
    durable.make_folder(folder)
    return folder


def rank_here() -> int:
    """0 where there is no process group."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if there else 0


def _arrays(model: torch.nn.Module) -> dict[str, Any]:
    """The weights that numpy can look at where they are: dense, real, on a CPU, float32 or float64."""
    found = {}
    for name, parameter in model.named_parameters():
        plain = parameter.device.type == "cpu" and parameter.layout is torch.strided and parameter.is_contiguous()
        if plain and parameter.requires_grad and parameter.dtype in (torch.float32, torch.float64):
            found[name] = parameter.detach().numpy()
    return found


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The largest of its groups, as a number."""
    rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
    return max(rates, default=math.nan)


def ahead_of(optimizer: torch.optim.Optimizer) -> float:
    """How many times its rate now the highest is that a scheduler of PyTorch says it comes from or goes to; 1 where
    there is none. A rate that is set by hand has none."""
    found = [
        max(float(group.get("initial_lr", 0.0)), float(group.get("max_lr", 0.0))) / float(group["lr"])
        for group in optimizer.param_groups
        if float(group.get("lr", 0.0)) > 0
    ]
    return max(1.0, min(found, default=1.0))
