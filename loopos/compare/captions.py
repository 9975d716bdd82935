"""The task of captioning pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import loopos
from loopos.run.schedules import total_steps
from loopos.scoring.captions import score_captions
from loopos.training import default_settings
from loopos.vision import CaptionBatches, Captioner
from loopos.vision.standard import DIGITS, CaptionSetting

from .follow import Follow
from .settings import of_trial, shared
from .task import Quality
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

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """BLEU counts rows of four words, which captions of digits have not; it is None without sacrebleu."""
        exact = Quality("exact match", higher_is_better=True, form=".1%")
        bleu = Quality("BLEU", higher_is_better=True, form=".1f")
        return (exact,) if self.setting.data == DIGITS else (exact, bleu)

    def to_dict(self) -> dict[str, Any]:
        return {"setting": self.setting.to_dict(), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> CaptionTask:
        return cls(CaptionSetting(**saved["setting"]), saved["settings"])

    def steps(self) -> int:
        common = default_settings(**shared(self._settings))  # a mistake in them is told before the first trial
        batches = self._batches(0)
        self.setting.config(batches.max_tokens)
        return total_steps(common.max_steps, common.epochs, batches.steps_per_epoch)

    def train(self, trial: Trial, folder: Path, follow: Follow) -> dict[str, float | None]:
        batches = self._batches(trial.seed)
        model = Captioner(self.setting.config(batches.max_tokens), seed=trial.seed)
        follow.begins_with(model.parameters())
        about = {"output_dir": folder, "resume": "auto", "progress": False, "callbacks": [follow]}
        loopos.train(model, batches, eval_data=self.setting.held_out, **about, **of_trial(trial, self._settings))
        if trial.sweep:
            return {quality.name: None for quality in self.qualities}
        counted = len(self.qualities) > 1 and find_spec("sacrebleu") is not None
        found = score_captions(model, self.setting.test, pictures=SCORED, batches=batches, bleu=counted)
        return dict(zip((quality.name for quality in self.qualities), (found.exact, found.bleu), strict=False))

    @property
    def _settings(self) -> dict[str, Any]:
        return {"batch_size": BATCH} | dict(self.settings)

    def _batches(self, seed: int) -> CaptionBatches:
        settings = self._settings
        return self.setting.batches(settings["batch_size"], settings.get("grad_accum", 1), seed)
