"""The task of loopos.train: the next token, of a text, token ids or examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import loopos
from loopos import checks
from loopos.data.examples.data import ExampleData
from loopos.data.reading import default_text, load, train_eval_split
from loopos.data.sources import open_sources
from loopos.run.schedules import total_steps
from loopos.training import default_settings

from .follow import Follow, followed
from .settings import of_trial, shared
from .task import Quality
from .trial import Trial

MOST = 700.0  # nats; exp of more overflows


class Opened(NamedTuple):
    data: np.ndarray | ExampleData
    eval_data: Any
    tokenizer: Any


@dataclass(frozen=True)
class TextTask:
    """data: what loopos.train takes, as a path; None: the help texts of Python. held_out: the share of its end that is
    scored and not learned, unless eval_data or a folder of examples has what to score. subset: learn only so many
    examples, or windows of seq_len tokens, of the beginning. init: begin with the weights of this folder, in every
    trial; else ``model`` are the settings of ModelConfig, whose weights the seed of a trial makes. settings: keywords
    of loopos.train that all trials share."""

    data: str | None = None
    held_out: float = 0.1
    eval_data: str | None = None
    tokenizer: str | None = None
    subset: int | None = None
    init: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    kind = "text"
    unit = "token"
    qualities = (Quality("perplexity", higher_is_better=False),)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> TextTask:
        return cls(**saved)

    def steps(self) -> int:
        common = default_settings(**shared(self.settings))  # a mistake in them is told before the first trial
        model, opened = self._opened(0)
        if opened.eval_data is None and not getattr(opened.data, "valid", ()):
            raise ValueError(
                "compare: optimizers are judged by a held-out loss, and nothing is held out; give held_out above 0, or "
                "eval_data"
            )
        sizes = {"vocab_size": model.config.vocab_size, "context_length": model.config.context_length}
        sources = open_sources(opened.data, opened.eval_data, tokenizer=opened.tokenizer, **sizes, **common.reading())
        return total_steps(common.max_steps, common.epochs, sources.train.steps_per_epoch)

    def train(self, trial: Trial, folder: Path, follow: Follow) -> dict[str, float | None]:
        model, opened = self._opened(trial.seed)
        follow.begins_with(model.parameters())
        about = {"tokenizer": opened.tokenizer, "output_dir": folder, "resume": "auto", "progress": False}
        loopos.train(
            model,
            opened.data,
            eval_data=opened.eval_data,
            callbacks=[follow],
            **about,
            **of_trial(trial, self.settings),
        )
        loss = followed(folder)["eval_loss"]
        return {"perplexity": None if loss is None or loss > MOST else math.exp(loss)}

    def _opened(self, seed: int) -> tuple[loopos.Model, Opened]:
        starting = None if self.init is None else loopos.Model.from_pretrained(self.init)
        reading = self.tokenizer if starting is None or self.tokenizer is not None else starting.tokenizer
        data, tokenizer = load(default_text() if self.data is None else Path(self.data), reading)
        model = starting or loopos.Model(self._config(tokenizer), seed=seed)
        eval_data = None
        if self.eval_data is not None:
            eval_data, _ = load(Path(self.eval_data), tokenizer)
        elif self.held_out and not (isinstance(data, ExampleData) and data.valid):
            data, eval_data = train_eval_split(data, self.held_out)
        length = self.settings.get("seq_len") or model.config.context_length
        return model, Opened(data if self.subset is None else first(data, self.subset, length), eval_data, tokenizer)

    def _config(self, tokenizer: Any) -> loopos.ModelConfig:
        if tokenizer is None and self.model.get("vocab_size") is None:
            raise ValueError("compare: vocab_size must be given when the data are token ids")
        return loopos.ModelConfig(**{"vocab_size": getattr(tokenizer, "vocab_size", None)} | dict(self.model))


def first(data: np.ndarray | ExampleData, subset: int, seq_len: int) -> np.ndarray | ExampleData:
    """The first ``subset`` examples, or windows of ``seq_len`` tokens and the one token that the last is followed
    by. All, where there are no more."""
    subset = checks.count("compare", "subset", subset)
    if not isinstance(data, ExampleData):
        return data[: subset * seq_len + 1]
    total = sum(1 for _ in data._replace(part=(0.0, 1.0)).numbered())
    begin, end = data.part
    return data._replace(part=(begin, min(end, begin + subset / max(1, total))))
