"""What is a network of snapshots' own in loopos.train."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from loopos.covariance import ledger
from loopos.covariance.batches import as_complex, open_samples
from loopos.covariance.config import CovarianceConfig
from loopos.covariance.network import COMPLEX, CovarianceNetwork, as_vectors, numbers_backward
from loopos.covariance.pipeline import Covariances, pipeline
from loopos.data.batches import Batch
from loopos.data.sources import Sources
from loopos.distributed.alone import Alone

from .objectives import CrossEntropy
from .pictures import _OfPictures
from .settings import TrainSettings


class CovarianceLoss(CrossEntropy):
    """The loss of ``loopos.covariance.pipeline``, the mean over samples. A batch is (snapshots, sources, truth)."""

    plain = False
    apart = False  # the ledger of the last batch is held against that of the next update, in every process

    def __init__(self, settings: TrainSettings, model: CovarianceNetwork):
        super().__init__(settings)
        self._model, self._every = model, settings.log_every
        self._latest: dict[str, float] = {}
        self._evaluated: dict[str, float] = {}
        self._alarms: list[tuple[ledger.ScaleAlarm, str]] = []  # and what each is of
        self._told: set[tuple[str, str]] = set()
        self._step: int | None = None

    @property
    def config(self) -> CovarianceConfig:
        return self._model.config

    def units(self, batch: Batch, valid: int | None = None) -> int:
        return len(batch[1])

    def positions(self, batch: Batch) -> int:
        return int(np.prod(batch[0].shape[:2]))

    def inputs(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        rows = self._model.rows(as_complex(batch[0], COMPLEX[self._model.dtype]))
        return rows, batch[1], {"between": _Between(self, batch)}

    def keywords(self, ids: np.ndarray, targets: np.ndarray, given: Mapping[str, Any]) -> dict[str, Any]:
        between = given["between"]
        between.scale, between.step = given["scale"], given.get("step")
        return {}

    def begin(self) -> None:
        self._alarms = []

    def result(self, numbers: np.ndarray, batch: Batch, where: str) -> Covariances:
        """What the pipeline makes of a batch: in training and evaluation the same call. where: of the run, for what is
        refused."""
        dtype = COMPLEX[self._model.dtype]
        snapshots, truth = as_complex(batch[0], dtype), as_complex(batch[2], dtype)
        config = self.config
        beta = self._model.beta(snapshots.shape[1])
        try:
            return pipeline(config, snapshots, as_vectors(numbers, config), beta, truth, batch[1])
        except ValueError as error:  # of a scaling or a loss, which know neither run nor step
            error.args = (f"train: {where}: {error}",)
            raise

    def see(self, result: Covariances, step: int | None) -> None:
        """The ledger of a batch of an update."""
        self._step = step
        eigenvalues = step is not None and (step == 0 or (step + 1) % self._every == 0)
        self._latest = ledger.flat(ledger.scales(result, eigenvalues)) | {"beta": result.beta}
        found = [(alarm, "batch") for alarm in ledger.alarms(result)]
        found += [(alarm, "apart") for alarm in ledger.apart(self._latest, self._evaluated)]
        self._alarms += found
        self._tell(found, step)

    def _tell(self, found: list[tuple[ledger.ScaleAlarm, str]], step: int | None) -> None:
        for alarm, of in found:
            if (of, alarm.name) not in self._told:  # the log counts them all
                self._told.add((of, alarm.name))
                warnings.warn(f"train: step {(step or 0) + 1}: {alarm}", RuntimeWarning, stacklevel=3)

    def gather(self, ranks: Alone) -> None:
        """The ledger is that of the last shard, which the last process has; alarms are those of all."""
        parts = ranks.gather((self._latest, self._alarms, self._step))
        self._latest, _, step = parts[-1]
        self._alarms = [each for _, alarms, _ in parts for each in alarms]
        self._tell(self._alarms, step)

    def measured(self) -> dict[str, float]:
        return self._latest | {"scale_alarms": float(len(self._alarms))} | super().measured()

    def pass_over(self, core: Any, batch: Batch) -> None:
        self.result(core.forward(self.inputs(batch)[0]), batch, "evaluation")

    def score(self, core: Any, batch: Batch) -> tuple[float, int, dict[str, float]]:
        rows, _, _ = self.inputs(batch)
        result = self.result(core.forward(rows), batch, "evaluation")
        count = len(batch[1])
        seen = ledger.flat(ledger.scales(result, False))
        self._evaluated = seen
        return float(result.losses.sum()), count, {"samples": count} | {n: v * count for n, v in seen.items()}


class _Between:
    """The loss as the core calls it, once between forward and backward."""

    def __init__(self, objective: CovarianceLoss, batch: Batch):
        self._objective, self._batch = objective, batch
        self.scale, self.step = 1.0, None

    @np.errstate(invalid="ignore", over="ignore")  # the gate names where such a number was born
    def __call__(self, numbers: np.ndarray) -> tuple[float, np.ndarray, float]:
        if not np.isfinite(numbers).all():
            return math.nan, np.zeros_like(numbers), 0.0
        result = self._objective.result(numbers, self._batch, f"step {(self.step or 0) + 1}")
        self._objective.see(result, self.step)
        dvectors, dlogit = result.backward(self.scale)
        return float(result.losses.sum()), numbers_backward(dvectors, numbers, self._objective.config), dlogit


class OfSnapshots(_OfPictures):
    model, config = CovarianceNetwork, CovarianceConfig
    parts = ("snapshots", "sources", "truth")

    def check_batch(self, config: Any, *parts: Any, where: str) -> Batch:
        snapshots, sources, truth = parts
        if truth is None or not len(snapshots) == len(sources) == len(truth):
            raise ValueError(f"{where}: expected as many truths and numbers of sources as samples")
        return snapshots, sources, truth

    def length(self, config: Any) -> int:
        return 1

    def open(
        self,
        model: Any,
        data: Any,
        eval_data: Any,
        tokenizer: Any,
        settings: TrainSettings,
        progress: bool,
        ranks: Any = None,
    ) -> tuple[Sources, Any]:
        self._check(settings)
        config = getattr(model, "config", model)
        shape = {name: getattr(settings, name) for name in ("batch_size", "grad_accum", "seed")}
        return open_samples(config, data, eval_data, **shape), config

    def objective(self, model: Any, teacher: Any, settings: TrainSettings, source: Any) -> CrossEntropy:
        return CovarianceLoss(settings, model)
