"""What a run has done to a model, in plain numbers: kept with the model and in its checkpoints, written as its card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from loopos.build_info import __version__
from loopos.data.batches import TokenStream

from .result import SAMPLE_TOKENS
from .resume import Identity

FINDINGS = 20  # sentences kept; all are counted


class Record:
    """Follows one run of ``model``. source: the training data; saved: :meth:`to_dict` of the checkpoint that the run
    goes on from."""

    def __init__(self, model: Any, identity: Identity, source: Any, saved: Any = None):
        saved = saved if isinstance(saved, Mapping) else {}
        self._history, self._source, self._config = [], source, model.config
        self._sampled = identity.settings.label_smoothing == 0 and isinstance(source, TokenStream)
        self._about = identity.to_dict()
        self._losses = dict(saved.get("losses") or {})
        self._tokens, self._verdict = saved.get("valid_tokens", 0), saved.get("verdict")
        self._findings, self._found = list(saved.get("findings") or ()), saved.get("findings_in_all", 0)
        self._step, self._parameters = saved.get("step", 0), model.config.num_parameters()
        self._before = saved["before"] if "before" in saved else _summary(model.record)
        self._computed = {"dtype": model.dtype, "precision": model.precision, "products": model.products}
        earlier = [*saved.get("products_before", ()), *([saved["products"]] if "products" in saved else ())]
        self._earlier = [each for each in dict.fromkeys(earlier) if each != model.products]

    def updated(self, step: int, valid_tokens: int) -> None:
        self._step, self._tokens = step, self._tokens + valid_tokens

    def logged(self, entry: Mapping[str, Any]) -> None:
        """A line of the history."""
        self._history.append(entry)
        for name in ("loss", "eval_loss"):
            if name in entry:
                point = {"step": entry["step"], "value": entry[name] if math.isfinite(entry[name]) else None}
                self._losses = {f"first_{name}": point} | self._losses | {f"last_{name}": point}

    def found(self, sentence: str) -> None:
        """What the monitor told."""
        self._found += 1
        self._findings = [*self._findings, sentence][:FINDINGS]

    @cached_property
    def _ladder(self) -> Any:
        from loopos.monitor.ladder import ladder

        return ladder(self._source.ids[:SAMPLE_TOKENS], self._config.vocab_size) if self._sampled else None

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON. "precision": as asked for, "products": what they were computed with, and before the latest
        resume, where that was something else, "products_before". "before": the record of what trained the model before
        this run, or None."""
        from loopos.monitor.verdict import of_history

        if self._history:
            verdict = of_history(self._history, self._ladder)
            self._verdict = {"kind": verdict.kind, "says": verdict.says}
        return {
            "loopos": __version__,
            "parameters": self._parameters,
            **self._computed,
            "products_before": self._earlier,
            "step": self._step,
            "valid_tokens": self._tokens,
            **{name: self._about[name] for name in ("settings", "data", "tokenizer")},
            "losses": self._losses,
            "verdict": self._verdict,
            "findings": self._findings,
            "findings_in_all": self._found,
            "before": self._before,
        }


def _summary(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    names = ("step", "valid_tokens", "data", "before")
    return None if record is None else {name: record[name] for name in names}


@contextmanager
def trained(model: Any, record: Record) -> Iterator[None]:
    """Meanwhile nothing of the model can be frozen or unfrozen: the optimizer has its list. It carries the record from
    now on."""
    model._record, before, model._training = record, model._training, True
    try:
        yield
    finally:
        model._training, model._record = before, record.to_dict()
