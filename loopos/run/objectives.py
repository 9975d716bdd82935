"""What a training minimises: next-token cross-entropy, a teacher's answers, preferences, or classes.

An objective tells the core of each micro-batch what its loss is, and how an update's loss is counted. Sources: for
preferences Rafailov et al. 2023 (DPO); for distillation ``loopos.losses``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from loopos import checks
from loopos.config import ModelConfig
from loopos.data.batches import IGNORE, Batch
from loopos.distributed.alone import Alone

from .settings import TrainSettings

SELF = "self"
ANOTHER = "model"  # what the settings of a run say of a teacher that is another Model
NOT_AGAIN = (
    "its teacher or reference is another Model, whose weights are in no file of the run, so its updates cannot be done "
    "again; with teacher='self' one model is both"
)


class CrossEntropy:
    """Next-token cross-entropy, the mean over the targets that count. It is the base of the others too."""

    plain = True  # the loss is a cross-entropy, which ln of the number of outputs is a measure of
    rows_together = 1  # of a batch, in one shard
    apart = True  # what is held out can be scored batch by batch, in any process
    teacher: Any = None  # another Model that is asked

    def __init__(self, settings: TrainSettings):
        self.regularization = settings.regularization_lambda
        self._penalty = 0.0  # what it added to the loss of the last update

    def units(self, batch: Batch, valid: int | None = None) -> int:
        """How many things of a micro-batch the update's loss is the mean over. valid: its targets that count, where
        somebody has counted them."""
        return int(np.count_nonzero(batch[1] != IGNORE)) if valid is None else valid

    def positions(self, batch: Batch) -> int:
        """How many go through the model."""
        return batch[0].size

    def inputs(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """What a pass through the core is given of a batch: the first, the targets, and by name."""
        return plain_inputs(batch)

    def begin(self) -> None:
        """A new update."""

    def keywords(self, ids: np.ndarray, targets: np.ndarray, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the core is told of a micro-batch beside ``given``."""
        return {}

    def regularize(self, core: Any) -> float:
        """Adds the gradient of lambda times the sum of the squared trainable weights to the gradients; returns it."""
        if not self.regularization:
            return 0.0
        total, gradients = 0.0, core.gradients()
        for name, weight in core.parameters(True).items():
            gradients[name] += weight.dtype.type(2 * self.regularization) * weight
            total += float(np.sum(np.square(weight, dtype=np.float64)))
        self._penalty = self.regularization * total
        return self._penalty

    def gather(self, ranks: Alone) -> None:
        """What the micro-batches of all processes measured, in the order of one that has them all."""

    def measured(self) -> dict[str, float]:
        """Of the update that is done, for its line in the history."""
        return {"regularization": self._penalty} if self.regularization else {}

    def begin_scoring(self) -> None:
        """A new evaluation."""

    def scored(self) -> dict[str, Any] | None:
        """What is told of the last evaluation beside its means."""
        return None

    def pass_over(self, core: Any, batch: Batch) -> None:
        """What an evaluation does with a held-out batch, to be timed: the losses, and nothing that is kept."""
        first, targets, more = self.inputs(batch)
        core.loss(first, targets, IGNORE, **more)

    def score(self, core: Any, batch: Batch) -> tuple[float, int, dict[str, float]]:
        """(sum of the losses, how many, sums of what is measured beside) of a held-out batch."""
        first, targets, more = self.inputs(batch)
        return *core.loss(first, targets, IGNORE, **more), {}


class _Reference:
    """The model that the one in training is compared with: another one, or the same without its adapter."""

    def __init__(
        self, model: Any, teacher: Any, why: str, *, positions: int, hidden: bool = False, layers: bool = False
    ):
        """positions: of the longest row. hidden: hidden states are compared; else what the heads give. layers: those of
        each block. ValueError for a teacher that cannot answer, or whose answers are about something else."""
        self._model = model
        if teacher == SELF:
            if getattr(model, "adapter", None) is None:
                raise ValueError(
                    f"train: {why} the model without its adapter, and it has none; give adapter=, or another Model as "
                    "teacher"
                )
            self.core = None
        else:
            if teacher.dtype != model.dtype:
                raise ValueError(f"train: teacher must be {model.dtype}, as the model is, got {teacher.dtype}")
            if teacher._core is model._core:
                raise ValueError(f"train: {why} the model itself; teacher='self' is the model without its adapter")
            _check_fit(model.config, teacher.config, positions, hidden, layers)
            self.core = teacher._core

    @contextmanager
    def ready(self) -> Iterator[Any]:
        """Its core, as long as this lasts."""
        if self.core is not None:
            yield self.core
            return
        core = self._model._core
        core.adapter_enabled(False)
        try:
            yield core
        finally:
            core.adapter_enabled(True)


def _check_fit(ours: ModelConfig, theirs: ModelConfig, positions: int, hidden: bool, layers: bool) -> None:
    compared = "d_model" if hidden else "outputs"
    needed = {"vocab_size": ours.vocab_size, "context_length": positions}
    short = [f"{name} of at least {least}" for name, least in needed.items() if getattr(theirs, name) < least]
    if getattr(ours, compared) != getattr(theirs, compared):
        what = "d_model" if hidden else "number of labels" if theirs.labels else "vocab_size"
        short.append(f"{what} {getattr(ours, compared)}, as the model has")
    if layers and ours.n_layer != theirs.n_layer:
        short.append(f"n_layer {ours.n_layer}, as the model has (got {theirs.n_layer})")
    if short:
        got = f"vocab_size {theirs.vocab_size}, context_length {theirs.context_length}, d_model {theirs.d_model}"
        raise ValueError(f"train: teacher must have {' and '.join(short)}, got a Model with {got}")


class Distillation(CrossEntropy):
    """A teacher's answers, at each position whose target counts. One more forward; what the teacher's final norm gives
    (or each block) gives is kept of a micro-batch, its logits never but for a tile."""

    plain = False
    apart = False

    def __init__(self, settings: TrainSettings, model: Any, teacher: Any, positions: int):
        super().__init__(settings)
        self._settings = settings.distill.to_dict()
        self._known: list[float] = []  # the teacher's losses of held-out batches, which are the same each time
        self._batch = 0
        self.teacher = None if teacher == SELF else teacher
        hidden = settings.distill.loss != "kl"
        self._all = settings.distill.layers == "all"
        what = {"positions": positions, "hidden": hidden, "layers": self._all}
        self._reference = _Reference(model, teacher, "teacher='self' is", **what)

    def keywords(self, ids: np.ndarray, targets: np.ndarray, given: Mapping[str, Any]) -> dict[str, Any]:
        with self._reference.ready() as core:
            states = core.hidden_states if self._all else core.hidden
            hidden = states(ids, given.get("documents"))
        return {"teaching": self._settings | {"hidden": hidden, "teacher": self._reference.core}}

    def begin_scoring(self) -> None:
        self._batch = 0

    def score(self, core: Any, batch: Batch) -> tuple[float, int, dict[str, float]]:
        """Of the targets alone, beside the teacher's."""
        total, count, _ = super().score(core, batch)
        if self._batch == len(self._known):
            with self._reference.ready() as teacher:
                self._known.append(super().score(teacher, batch)[0])
        self._batch += 1
        return total, count, {"targets": count, "teacher_loss": self._known[self._batch - 1]}


class Preferences(CrossEntropy):
    """Direct preference optimisation: rows 2i and 2i + 1 are the chosen and the rejected answer of a pair, and

        loss = -log sigmoid(beta ((log p(chosen) - log r(chosen)) - (log p(rejected) - log r(rejected))))

    with p the model, r the reference, log-probabilities summed over an answer; the mean over pairs. Measured: the mean
    of the margin beta (...), and the share of pairs in which it is above 0."""

    plain = False
    rows_together = 2

    def __init__(self, settings: TrainSettings, model: Any, teacher: Any, positions: int = 1):
        super().__init__(settings)
        self._beta = settings.dpo_beta
        self._parts: list[Mapping[str, float]] = []  # of each micro-batch
        self._latest: Mapping[str, float] | None = None  # of the micro-batch that is being computed
        teacher, why = SELF if teacher is None else teacher, "the reference of task='dpo' is"
        self.teacher = None if teacher == SELF else teacher
        self._reference = _Reference(model, teacher, why, positions=positions)

    def units(self, batch: Batch, valid: int | None = None) -> int:
        return len(batch[0]) // 2

    def begin(self) -> None:
        self._parts = []

    def _compared(self, losses: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """The margins (P,), and the sums of what is measured."""
        rewards = self._beta * (reference - losses.sum(axis=1))
        chosen, rejected = rewards[0::2], rewards[1::2]
        margins = chosen - rejected
        sums = {
            "pairs": len(margins),
            "reward_margin": float(margins.sum()),
            "reward_accuracy": float((margins > 0).sum()),
            "reward_chosen": float(chosen.sum()),
            "reward_rejected": float(rejected.sum()),
        }
        return margins, sums

    def keywords(self, ids: np.ndarray, targets: np.ndarray, given: Mapping[str, Any]) -> dict[str, Any]:
        with self._reference.ready() as core:
            reference = core.losses(ids, targets).sum(axis=1)
        scale = given["scale"]

        @np.errstate(invalid="ignore", over="ignore")  # the gate names where such a number was born
        def loss(losses: np.ndarray) -> tuple[float, np.ndarray]:
            margins, self._latest = self._compared(losses, reference)
            pull = self._beta * scale * np.exp(-np.logaddexp(0, margins))  # sigmoid(-margin)
            weights = np.repeat(pull, 2) * np.tile([1.0, -1.0], len(margins))
            return float(np.logaddexp(0, -margins).sum()), np.broadcast_to(weights[:, None], losses.shape).copy()

        self._add_latest()
        return {"between": ("losses", loss)}

    def _add_latest(self) -> None:
        """What the micro-batch before measured; a repetition for a trace measures it again, and counts once."""
        self._parts += [] if self._latest is None else [self._latest]
        self._latest = None

    def gather(self, ranks: Alone) -> None:
        self._add_latest()
        self._parts = [each for parts in ranks.gather(self._parts) for each in parts]

    def measured(self) -> dict[str, float]:
        self._add_latest()
        sums: dict[str, float] = {}
        for part in self._parts:
            for name, value in part.items():
                sums[name] = sums.get(name, 0.0) + value
        return means(sums) | super().measured()

    def score(self, core: Any, batch: Batch) -> tuple[float, int, dict[str, float]]:
        ids, targets = batch[:2]
        with self._reference.ready() as other:
            reference = other.losses(ids, targets).sum(axis=1)
        margins, sums = self._compared(core.losses(ids, targets), reference)
        return float(np.logaddexp(0, -margins).sum()), len(margins), sums


class Classes(CrossEntropy):
    """Cross-entropy of a class at the last token of each text. Measured of what is held out: the share of texts that
    are given their class, and the confusion matrix."""

    apart = False

    def __init__(self, settings: TrainSettings, labels: Sequence[str]):
        super().__init__(settings)
        self.labels = tuple(labels)
        self.begin_scoring()

    def score(self, core: Any, batch: Batch) -> tuple[float, int, dict[str, float]]:
        ids, targets = batch[:2]
        total, count = core.loss(ids, targets, IGNORE)
        rows, at = np.nonzero(targets != IGNORE)
        said, truth = core.forward(ids)[rows, at].argmax(axis=-1), targets[rows, at]
        sums: dict[str, float] = {"texts": len(truth), "accuracy": float((said == truth).sum())}
        np.add.at(self.confusion, (truth, said), 1)
        return total, count, sums

    def begin_scoring(self) -> None:
        self.confusion = np.zeros((len(self.labels), len(self.labels)), np.int64)

    def scored(self) -> dict[str, Any]:
        """{"labels", "accuracy", "confusion": of each true class how often it was taken for which} of what was held
        out, safe for JSON."""
        right = int(np.trace(self.confusion)) / max(1, int(self.confusion.sum()))
        return {"labels": list(self.labels), "accuracy": right, "confusion": self.confusion.tolist()}


def plain_inputs(batch: Batch) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Of a batch of text: ids, targets and the documents."""
    ids, targets, *documents = batch
    return ids, targets, {"documents": documents[0]} if documents else {}


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Of sums whose first says of how many they are."""
    (_, count), *rest = sums.items() or (("none", 0),)
    if not count:
        return {}
    return {name: value / count for name, value in rest}


def objective_of(model: Any, teacher: Any, settings: TrainSettings, positions: int = 1) -> CrossEntropy:
    """What ``settings`` ask for, of a model that is ready to be trained. teacher: as train was given it. positions: of
    the longest row of the data, where that is known. ValueError for a teacher that does not fit."""
    if settings.task == "dpo":
        return Preferences(settings, model, teacher, positions)
    if settings.task == "classify":
        return Classes(settings, model.config.labels)
    return CrossEntropy(settings) if teacher is None else Distillation(settings, model, teacher, positions)


def check_teacher(teacher: Any, settings: TrainSettings, known: type) -> None:
    """TypeError for what is no teacher, ValueError for one without use."""
    if teacher is None:
        if settings.distill is not None:
            raise ValueError("train: distill says how to learn of a teacher and needs teacher=, got none")
        return
    if not isinstance(teacher, known) and teacher != SELF:
        raise TypeError(f"train: teacher must be 'self' or a Model, got {checks.shown(teacher)}")
    if settings.task == "classify":
        raise ValueError("train: teacher is for distillation and task='dpo', got task='classify'")
