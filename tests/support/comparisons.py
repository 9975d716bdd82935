"""Small comparisons, and made-up outcomes of trials."""

from __future__ import annotations

from typing import Any

from loopos.compare import TextTask
from loopos.compare.trial import FINISHED, Outcome

MODEL = {"context_length": 16, "n_layer": 1, "n_head": 2, "d_model": 16}


def small_task(path: Any, **changed: Any) -> TextTask:
    settings = {"max_steps": 12, "batch_size": 2, "weight_decay": 0.0} | changed
    return TextTask(str(path), tokenizer="bytes", model=MODEL, settings=settings)


def finished(last: float, **changed: Any) -> Outcome:
    curves = {"loss": [[10, 2.0]], "grad_norm": [[10, 1.0]], "eval_loss": [[5, 1.0, 3.0], [10, 2.0, last]]}
    numbers = {"loss": last, "eval_loss": last, "seconds": 2.0, "peak_bytes": 10**6, "curves": curves}
    return Outcome(**{"status": FINISHED, "steps": 10, "start": "ab", "batches": "cd"} | numbers | changed)
