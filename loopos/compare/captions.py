"""The task of captioning pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import loopos
from loopos.run.schedules import total_steps
from loopos.scoring.captions import score_captions
from loopos.training import default_settings
from loopos.vision import Captioner
from loopos.vision.standard import CaptionSetting

from .follow import Follow
from .rates import keywords
from .task import Quality
from .text import CHECKPOINTS, EVALUATIONS, WARMUP
from .trial import Trial

SCORED = 500  # pictures of part test that a trial captions at its end
BATCH = 32


@dataclass(frozen=True)
class CaptionTask:
    """setting: the data and the model. settings: keywords of loopos.train that all trials share."""

    setting: CaptionSetting = field(default_factory=CaptionSetting)
    settings: Mapping[str, Any] = field(default_factory=dict)

    kind = "captions"
    unit = "token"
    qualities = (Quality("exact match", higher_is_better=True, form=".1%"),)

    def to_dict(self) -> dict[str, Any]:
        return {"setting": self.setting.to_dict(), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> CaptionTask:
        return cls(CaptionSetting(**saved["setting"]), saved["settings"])

    def steps(self) -> int:
        shared = default_settings(**self._shared())  # a mistake in them is told before the first trial
        return total_steps(shared.max_steps, shared.epochs, self._batches(0).steps_per_epoch)

    def train(self, trial: Trial, folder: Path, follow: Follow) -> dict[str, float | None]:
        batches = self._batches(trial.seed)
        model = Captioner(self.setting.config(batches.max_tokens), seed=trial.seed)
        follow.begins_with(model.parameters())
        settings = self._shared() | keywords(trial.optimizer, trial.rate)
        settings |= {"max_steps": trial.steps, "epochs": None, "seed": trial.seed}
        warmup = self.settings.get("warmup_steps")
        settings["warmup_steps"] = min(WARMUP if warmup is None else warmup, trial.steps // 10)
        if not trial.sweep:
            settings["eval_every"] = math.ceil(trial.steps / EVALUATIONS)
            settings["save_every"] = math.ceil(trial.steps / CHECKPOINTS)
        about = {"output_dir": folder, "resume": "auto", "progress": False, "callbacks": [follow]}
        loopos.train(model, batches, eval_data=self.setting.held_out, **about, **settings)
        if trial.sweep:
            return {"exact match": None}
        return {"exact match": score_captions(model, self.setting.test, pictures=SCORED, batches=batches).exact}

    def _shared(self) -> dict[str, Any]:
        """What all trials have but for the warm-up, whose length is that of a trial."""
        return {"batch_size": BATCH} | {name: value for name, value in self.settings.items() if name != "warmup_steps"}

    def _batches(self, seed: int) -> Any:
        shared = self._shared()
        return self.setting.batches(shared["batch_size"], shared.get("grad_accum", 1), seed)
