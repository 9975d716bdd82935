"""What a training gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loopos.data.batches import TokenStream
from loopos.model import Model

if TYPE_CHECKING:
    from loopos.monitor.monitor import Alarm
    from loopos.monitor.verdict import Verdict

    from .settings import TrainSettings

SAMPLE_TOKENS = 1_000_000  # of the data, kept for the verdict


@dataclass
class TrainResult:
    """What :func:`loopos.train` returns.

    model: the Model given, trained in place, or the one built from a ModelConfig.
    history: a dict of plain numbers for step 1, every log_every-th, the last, and every step that was evaluated or
        refused: step, loss, grad_norm, learning_rate, epoch, tokens_per_second, valid_tokens, eval_loss where there is
        one (NaN where no held-out target was scored), and counts of the whole run: nonfinite (updates refused for a
        number that is not finite), attempted = applied + skipped, and clipped. Only the steps of this call; all of a
        run's are in output_dir/metrics.jsonl.
    step: updates done, those of an earlier call included.
    output_dir: as a Path, or None.
    stopped: None when all updates are done; "callback" or "patience" when that ended the run before.
    findings: what the monitor found implausible in this call: step, name, value, expected, sentence of each.
    sample: the first tokens of the stream that was learned, of which the verdict's entropies are; None of a dataset.
    best: {"step", "eval_loss"} of the lowest held-out loss of the run; None when nothing was held out.
    classes: of task="classify", of the last evaluation: {"labels", "accuracy", "confusion"}; a row of the confusion
        matrix has the texts of one class, by what they were taken for. None of another task.
    """

    model: Model
    history: list[dict[str, Any]]
    step: int
    output_dir: Path | None
    stopped: str | None
    findings: list[Alarm] = field(default_factory=list)
    sample: np.ndarray | None = field(default=None, repr=False, compare=False)
    best: dict[str, Any] | None = None
    classes: dict[str, Any] | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the history shows learning: "learning", "flat", "diverging" or "insufficient evidence" (``.kind``)
        by the training losses; "overfitting" where the held-out loss rises meanwhile, "not evaluated" where it is not
        finite. In a sentence (``.says``), with the rung of the entropy ladder when the data are a stream of tokens."""
        from loopos.monitor.ladder import ladder  # here: a training needs none of it
        from loopos.monitor.verdict import of_history

        return of_history(
            self.history, None if self.sample is None else ladder(self.sample, self.model.config.vocab_size)
        )


def sample_of(source: Any, settings: TrainSettings) -> np.ndarray | None:
    """The first tokens of a stream, copied, so that a result does not keep the data alive; None of a dataset, and of a
    run whose losses are smoothed, or a teacher's too, which the entropies of tokens cannot be compared with."""
    plain = settings.label_smoothing == 0 and settings.teacher is None and settings.regularization_lambda == 0
    comparable = isinstance(source, TokenStream) and plain
    return source.ids[:SAMPLE_TOKENS].copy() if comparable else None
