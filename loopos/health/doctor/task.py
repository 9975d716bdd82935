"""What a run minimises where that is not the cross-entropy of its targets: a teacher's answers, or preferences.

Checks that ask for a loss, for gradients or for updates of the model itself are given these. Checks of code, which are
made on a small sibling, stay with next tokens: a sibling has neither teacher nor reference.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np

from loopos.births.birth import find_birth
from loopos.data.batches import Batch
from loopos.errors import NonFiniteError
from loopos.model import Model
from loopos.optim.training import for_training
from loopos.run.objectives import objective_of
from loopos.run.settings import TrainSettings
from loopos.run.updates import Updater

Gradients = dict[str, np.ndarray]
_SETTINGS = {each.name for each in fields(TrainSettings)}


class Task:
    """model: a loopos.Model; teacher: as loopos.train takes it; settings: of the run; positions: of the longest row."""

    def __init__(self, model: Model, teacher: Any, settings: TrainSettings, positions: int = 1):
        self.settings = replace(settings, grad_accum=1, label_smoothing=0.0)
        self.objective = objective_of(model, teacher, self.settings, positions)
        self.teacher = teacher if isinstance(teacher, Model) else None
        self.model = model

    @property
    def rows(self) -> int:
        """That belong together in a batch."""
        return 2 if self.settings.task == "dpo" else 1

    def compute(self, batch: Batch, copied: bool = True) -> tuple[float, Gradients]:
        """(the loss without what regularisation adds, its gradients), without dropout. copied: or the core's own
        buffers, valid until its next backward pass."""
        core, (ids, targets) = self.model._core, batch[:2]
        with self.model.lock:
            units = max(1, self.objective.units(batch))
            told: dict[str, Any] = {"scale": 1 / units}
            self.objective.begin()
            told |= self.objective.keywords(ids, targets, told)
            total, _, healthy = core.accumulate(ids, targets, **told)
            loss, norm = total / units, core.grad_norm()
            if not (healthy and math.isfinite(loss) and math.isfinite(norm)):
                raised = {0: core.raised()}
                birth = find_birth(core, [(ids, targets, told)], loss=loss, norm=norm, step=None, raised=raised)
                if birth is not None:
                    raise NonFiniteError(birth)
            gradients = core.gradients()
            return loss, {name: each.copy() for name, each in gradients.items()} if copied else gradients

    def score(self, batch: Batch) -> tuple[float, dict[str, float]]:
        """(the mean loss of a held-out batch, means of what is measured beside it), as an evaluation of the run."""
        total, count, sums = self.objective.score(self.model._core, batch)
        return total / max(1, count), {name: value / max(1, count) for name, value in sums.items()}

    def steps(self, source: Any, count: int, **changed: Any) -> None:
        """Updates of the model, as loopos.train makes them, at a constant rate."""
        settings = replace(self.settings, **{name: value for name, value in changed.items() if name in _SETTINGS})
        optimizer = for_training(model=self.model, **settings.update_rule())
        once = Updater(self.model, optimizer, source, settings, lambda: None, objective=self.objective)
        for step in range(count):
            update = once(step, settings.learning_rate)
            if update.birth is not None:
                raise NonFiniteError(update.birth)
