"""The settings of a training run, checked before anything happens."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

from loopos import checks, precision
from loopos.optim.base import MOMENTS
from loopos.optim.rules import RULES

from .distill import Distill
from .schedules import check_schedule

OPTIMIZERS = tuple(RULES)
POLICIES = ("halt", "skip", "rewind")
TASKS = ("lm", "dpo", "classify")
MAX_SEED = 2**64 - 1
MAX_THREADS = 1024
EVAL_TOKENS = 131_072  # scored by one evaluation unless asked otherwise: a mean over them is within about 0.01 nats


class SettingError(TypeError, ValueError):
    """A setting of the wrong type: TypeError by Python's custom, ValueError like every bad hyper-parameter of train."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What train was asked for, as plain numbers; see :func:`loopos.train` for the meaning of each.

    Anything out of range: ValueError; of another type (a bool or a string for a number): SettingError, which is a
    ValueError too. seq_len is checked against the model's context where the data are opened."""

    max_steps: int | None
    epochs: int | None
    batch_size: int
    seq_len: int | None
    grad_accum: int
    optimizer: str
    learning_rate: float
    lr_schedule: str
    warmup_steps: int
    min_lr: float
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    max_grad_norm: float | None
    on_nonfinite: str
    seed: int
    threads: int | None
    log_every: int
    eval_every: int | None
    save_every: int | None
    eval_tokens: int | None = EVAL_TOKENS
    keep_best: bool = False
    patience: int | None = None
    muon_lr: float | None = None  # settings of runs before it came have none
    label_smoothing: float = 0.0
    mask_prompt: bool = True
    pack: bool = True
    task: str = "lm"
    label_column: str = "label"
    dpo_beta: float = 0.1
    teacher: str | None = None  # "self", or "model" for another one
    distill: Distill | None = None
    regularization_lambda: float = 0.0
    moments: str = "float32"  # how they are kept
    precision: str | None = "float32"  # of a run that has begun its own; None: the model's
    shards: int | None = 1  # that an update's batch is cut into; None: as many as the checkpoint, or the kind of run

    def __post_init__(self) -> None:
        try:
            self._check()
        except TypeError as error:
            raise SettingError(str(error)) from None

    def _check(self) -> None:
        for name in ("batch_size", "grad_accum", "log_every"):
            self._set(name, checks.count("train", name, getattr(self, name)))
        for name in ("keep_best", "mask_prompt", "pack"):
            self._set(name, checks.boolean("train", name, getattr(self, name)))
        for name in (
            "max_steps",
            "epochs",
            "seq_len",
            "threads",
            "eval_every",
            "save_every",
            "eval_tokens",
            "patience",
            "shards",
        ):
            if getattr(self, name) is not None:
                high = MAX_THREADS if name == "threads" else checks.MAX_COUNT
                self._set(name, checks.count("train", name, getattr(self, name), high=high))
        if self.precision is not None:
            self._set("precision", precision.checked("train", self.precision))
        self._set("optimizer", checks.choice("train", "optimizer", self.optimizer, OPTIMIZERS))
        self._set("moments", checks.choice("train", "moments", self.moments, MOMENTS))
        if self.moments != "float32" and self.optimizer == "muon":
            raise ValueError(
                f"train: moments={self.moments!r} is of optimizers that go number by number, and 'muon' takes whole "
                "matrices; take optimizer='adamw', 'adam' or 'lion', or moments='float32'"
            )
        self._set("on_nonfinite", checks.choice("train", "on_nonfinite", self.on_nonfinite, POLICIES))
        self._set("seed", checks.integer("train", "seed", self.seed, low=0, high=MAX_SEED))
        self._set("weight_decay", checks.real("train", "weight_decay", self.weight_decay, low=0))
        self._set("label_smoothing", checks.real("train", "label_smoothing", self.label_smoothing, low=0, high=1))
        self._set("task", checks.choice("train", "task", self.task, TASKS))
        self._set("dpo_beta", checks.real("train", "dpo_beta", self.dpo_beta, above=0))
        self._set(
            "regularization_lambda", checks.real("train", "regularization_lambda", self.regularization_lambda, low=0)
        )
        if self.task == "dpo" and self.label_smoothing:
            raise ValueError(
                "train: label_smoothing must be 0 with task='dpo', whose loss is made of log-probabilities, got "
                f"{self.label_smoothing}"
            )
        if not isinstance(self.label_column, str) or not self.label_column:
            raise TypeError(f"train: label_column must be the name of a column, got {checks.shown(self.label_column)}")
        if self.teacher is not None and self.task == "lm" and self.distill is None:
            self._set("distill", Distill())
        if self.distill is not None:
            self._set("distill", Distill.of(self.distill))
            if self.task != "lm":
                raise ValueError(f"train: distill goes with task='lm' and does nothing with task={self.task!r}")
            if self.label_smoothing and not self.distill.cross_entropy:
                raise ValueError(
                    f"train: label_smoothing {self.label_smoothing} is of a cross-entropy, and with a teacher there is "
                    "none; loopos.Distill(cross_entropy=...) has one beside the teacher's loss"
                )
        self._set("eps", checks.real("train", "eps", self.eps, above=0))
        self._set("betas", _two_betas(self.betas))
        if self.max_grad_norm is not None:
            if self.max_grad_norm == 0 and not isinstance(self.max_grad_norm, bool):
                raise ValueError(
                    "train: max_grad_norm must be a finite number greater than 0, got 0, which would scale every "
                    "gradient to nothing; None turns clipping off"
                )
            self._set("max_grad_norm", checks.real("train", "max_grad_norm", self.max_grad_norm, above=0))
        schedule = check_schedule(
            learning_rate=self.learning_rate,
            lr_schedule=self.lr_schedule,
            warmup_steps=self.warmup_steps,
            min_lr=self.min_lr,
        )
        for name, value in zip(("learning_rate", "lr_schedule", "warmup_steps", "min_lr"), schedule, strict=True):
            self._set(name, value)
        if self.muon_lr is not None:
            self._set("muon_lr", checks.real("train", "muon_lr", self.muon_lr, low=0))
            if self.learning_rate == 0:
                raise ValueError(
                    "train: muon_lr follows the schedule in proportion to learning_rate, which is 0; give a "
                    f"learning_rate above 0, or muon_lr None, got muon_lr {self.muon_lr}"
                )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    def check_together(self, *, eval_data: Any, output_dir: Any, total: int | None = None) -> None:
        """ValueError for keep_best and patience without what they rest on; a UserWarning for settings that can have no
        effect, or none that is meant, beside the other arguments. total: updates of the run."""
        for name, asked in (("keep_best", self.keep_best), ("patience", self.patience is not None)):
            if asked and eval_data is None:
                raise ValueError(f"train: {name} goes by the held-out loss and needs eval_data, got none")
        if self.keep_best and output_dir is None:
            raise ValueError("train: keep_best writes output_dir/best and needs output_dir, got none")
        if self.patience is not None and self.eval_every is None:
            raise ValueError("train: patience counts evaluations and needs eval_every, got None")
        if self.muon_lr is not None and self.optimizer != "muon":
            text = f"train: muon_lr={self.muon_lr} does nothing with optimizer={self.optimizer!r}; it is for 'muon'"
            warnings.warn(text, UserWarning, stacklevel=3)
        if self.moments != "float32" and self.optimizer == "sgd":
            text = f"train: moments={self.moments!r} does nothing with optimizer='sgd', which keeps none here"
            warnings.warn(text, UserWarning, stacklevel=3)
        for name, needs, given in (("eval_every", "eval_data", eval_data), ("save_every", "output_dir", output_dir)):
            if getattr(self, name) is not None and given is None:
                kept = "; nothing of this run will be kept" if needs == "output_dir" else ""
                text = f"train: {name}={getattr(self, name)} does nothing without {needs}{kept}"
                warnings.warn(text, UserWarning, stacklevel=3)

        if total is not None and self.warmup_steps > total:
            warnings.warn(
                f"train: warmup_steps={self.warmup_steps} is longer than the run of {total} updates: the learning rate "
                f"ends at {total / self.warmup_steps:.2g} of {self.learning_rate:g}",
                UserWarning,
                stacklevel=3,
            )

    def reading(self) -> dict[str, Any]:
        """What :func:`loopos.data.open_sources` is to be given besides the data and the model's sizes."""
        names = ("seq_len", "batch_size", "grad_accum", "seed", "eval_tokens", "mask_prompt", "pack")
        names += ("task", "label_column")
        return {name: getattr(self, name) for name in names}

    @property
    def _decayed_at(self) -> tuple[str, float]:
        """The highest rate that weights decay at, and whose it is."""
        if self.optimizer == "muon" and (self.muon_lr or 0.0) > self.learning_rate:
            return "muon_lr", self.muon_lr
        return "learning_rate", self.learning_rate

    @property
    def shrinks(self) -> float:
        """What an update at the peak rate multiplies a weight by, apart from its gradient: 1 - learning_rate
        weight_decay, where decay is not part of a gradient that is scaled (Adam's)."""
        return 1.0 if self.optimizer == "adam" else 1 - self._decayed_at[1] * self.weight_decay

    def decay_in_words(self) -> str:
        """How :attr:`shrinks` comes about: "1 - learning_rate 0.1 x weight_decay 50 = -4"."""
        name, rate = self._decayed_at
        return f"1 - {name} {rate:g} x weight_decay {self.weight_decay:g} = {self.shrinks:.4g}"

    def update_rule(self) -> dict[str, Any]:
        """What :func:`loopos.optim.training.for_training` is to be given besides the model."""
        ratio = 1.0 if self.muon_lr is None else self.muon_lr / self.learning_rate
        shape = {"betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay, "matrix_rate": ratio}
        return {"rule": self.optimizer, "moments": self.moments, **shape}

    def to_dict(self) -> dict[str, Any]:
        """Every setting, safe for JSON."""
        return asdict(self) | {"betas": list(self.betas)}


def _two_betas(value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list):
        raise TypeError(f"train: betas must be two numbers from 0 to below 1, got {checks.shown(value)}")
    if len(value) != 2:
        raise ValueError(f"train: betas must be two numbers from 0 to below 1, got {len(value)} of them")
    first, second = (checks.real("train", f"betas[{i}]", beta, low=0, below=1) for i, beta in enumerate(value))
    return first, second
