"""The patient: a model, its data and its settings, with what the checks need of them, and all of it put back.

A check may do with the model what it likes: after each one every weight has the bits it had before. Checks that are
about code and not about these weights (is the learning rate used?) are made on a small sibling, a model of the same
class and family with a few thousand weights.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from loopos import ops
from loopos.data.batches import IGNORE
from loopos.model import Model
from loopos.optim.training import for_run
from loopos.run.gate import layer_of
from loopos.trainable import trainable_of
from loopos.training import train

from .task import Task

BATCH_FLOPS = (1.5e11, 1e10)  # one forward and backward of the batch looked at: full round, quick round
IN_PLACE = 20_000_000  # weights; of a larger model the quick round neither copies gradients nor makes moments
NEXT_TOKENS = {"task": "lm", "teacher": None, "distill": None, "regularization_lambda": 0.0}  # of what has no task
WARM = 0.1  # noise on the sibling's weights, so that attention is not uniform and no bias is zero


class NotApplicable(Exception):
    """A check cannot be made on this patient; the reason is the message."""


class Batches:
    """Data of given batches, in turn: what loopos.train calls a dataset. batches: one list of micro-batches a step."""

    def __init__(self, batches: list[list[tuple[np.ndarray, np.ndarray]]]):
        self._batches = batches

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        return self._batches[step % len(self._batches)][micro]


def steps_by_hand(model: Any, data: Any, **settings: Any) -> None:
    """Trains what is no loopos.Model, or one whose loss_and_grads is not the core's: gradients of ``loss_and_grads``,
    clipping and optimizer of LoopOS, a constant rate. The settings are those of loopos.train."""
    rate, matrix_rate = settings["learning_rate"], settings.get("muon_lr")
    shape = {name: settings[name] for name in ("betas", "eps", "weight_decay")}
    shape["matrix_rate"] = 1.0 if matrix_rate is None else matrix_rate / rate
    optimizer = for_run(settings["optimizer"], trainable_of(model), rate, **shape)
    for step in range(settings["max_steps"]):
        parts = [data.batch(step, micro) for micro in range(settings["grad_accum"])]
        counts = [int(np.count_nonzero(targets != IGNORE)) for _, targets, *_ in parts]
        total: dict[str, np.ndarray] = {}
        for (ids, targets, *documents), count in zip(parts, counts, strict=True):
            own = {"documents": documents[0]} if documents else {}
            _, gradients = model.loss_and_grads(ids, targets, **own)
            for name, gradient in gradients.items():
                total[name] = total.get(name, 0) + gradient * gradient.dtype.type(count / max(1, sum(counts)))
        if settings["max_grad_norm"] is not None:
            ops.clip_grad_norm_(total, settings["max_grad_norm"])
        optimizer.step(total)


def _is_plain(model: Any) -> bool:
    """Whether loopos.train goes through this model's own forward and backward: it calls the core."""
    methods = ("forward", "loss", "loss_and_grads")
    return isinstance(model, Model) and not any(
        name in vars(model) or getattr(type(model), name) is not getattr(Model, name) for name in methods
    )


class Patient:
    """model: a Model, or an object with ``parameters()`` (live views by name), ``loss(ids, targets)`` and
    ``loss_and_grads(ids, targets)``; ``forward``, ``generate``, ``config``, ``dtype`` and ``activations(ids)`` (list of
    arrays: the stream before the first block and after each) are used where they are there. source: has batch(step,
    micro). settings: of loopos.train. trainer: called as loopos.train is."""

    def __init__(
        self,
        model: Any,
        source: Any,
        settings: Mapping[str, Any],
        trainer: Callable | None,
        quick: bool,
        task: Task | None = None,
    ):
        """task: what is minimised where it is not the cross-entropy of the targets."""
        self.model, self.source, self.quick, self.task = model, source, quick, task
        self.regularization = settings.get("regularization_lambda", 0.0)
        self.settings = dict(settings) | NEXT_TOKENS
        self.config = getattr(model, "config", None)
        self.names = list(trainable_of(model))
        self.size = sum(view.size for view in model.parameters().values())
        self.plain = _is_plain(model)
        self.trainer = trainer or (train if self.plain else steps_by_hand)
        self.own_trainer = trainer is not None
        self.rng = np.random.default_rng(0)

    # The batch

    @cached_property
    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The first batch of the run, cut down to what the round may cost: fewer rows, then shorter ones. Rows without
        a valid target are left out where others have one. Documents are not told apart: what is checked here holds with
        them and without."""
        ids, targets = (np.asarray(part) for part in self.source.batch(0, 0)[:2])
        together = 1 if self.task is None else self.task.rows
        learnable = (targets != IGNORE).any(1).reshape(-1, together).all(1)
        rows = np.flatnonzero(np.repeat(learnable, together))
        if len(rows):
            ids, targets = ids[rows], targets[rows]
        return self.cut(ids, targets, max(16, int(BATCH_FLOPS[self.quick] / (6 * max(1, self.size)))))

    def cut(self, ids: np.ndarray, targets: np.ndarray, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """At most about ``tokens`` positions, from the first row's first valid target on if need be."""
        if ids.size <= tokens:
            return ids, targets
        time = min(ids.shape[1], max(2, min(tokens, 256)))
        rows = max(1, min(len(ids), tokens // time))
        rows += -rows % (1 if self.task is None else self.task.rows)
        first = int(np.argmax((targets[:rows] != IGNORE).any(0)))
        start = min(first, ids.shape[1] - time) if first >= time else 0
        piece = np.s_[:rows, start : start + time]
        return np.ascontiguousarray(ids[piece]), np.ascontiguousarray(targets[piece])

    @property
    def vocab(self) -> int:
        if getattr(self.config, "vocab_size", None) is not None:
            return int(self.config.vocab_size)
        raise NotApplicable("the model has no config.vocab_size")

    @cached_property
    def logits(self) -> np.ndarray:
        """Of the batch, (B, T, V), float64."""
        return self.forward(self.batch[0]).astype(np.float64)

    def forward(self, ids: np.ndarray) -> np.ndarray:
        if not hasattr(self.model, "forward"):
            raise NotApplicable("the model has no forward")
        return self.model.forward(ids)

    @cached_property
    def loss_and_grads(self) -> tuple[float, dict[str, np.ndarray]]:
        """On the batch. In a quick look at a large model the gradients are the core's own buffers, valid until its
        next backward pass: copies of them would take longer than all the rest."""
        ids, targets = self.batch
        if self.task is not None:
            return self.task.compute(self.batch, copied=not (self.quick and self.size > IN_PLACE))
        if self.quick and self.plain and self.size > IN_PLACE:
            core, count = self.model._core, max(1, int(np.count_nonzero(targets != IGNORE)))
            total, _, healthy = core.accumulate(ids, targets, scale=1 / count)
            if healthy:
                return total / count, core.gradients()
        return self.model.loss_and_grads(ids, targets)

    @property
    def at_rest(self) -> bool:
        """The loss is 0 and so is every gradient: a student that is its teacher."""
        loss, gradients = self.loss_and_grads
        return self.task is not None and loss == 0 and not any(gradient.any() for gradient in gradients.values())

    def loss(self) -> float:
        """Of the batch, with the weights as they are now."""
        return self.model.loss(*self.batch) if self.task is None else self.task.compute(self.batch, copied=False)[0]

    # The weights

    @contextmanager
    def restored(self, model: Any = None) -> Iterator[dict[str, np.ndarray]]:
        """Inside, the weights may change; afterwards every bit is back. Gives the copies of before: under an adapter,
        whose base is large and which loopos.train never moves, of the adapter alone."""
        model = self.model if model is None else model
        with getattr(model, "lock", None) or nullcontext():
            frozen = getattr(model, "adapter", None) is not None and not self.own_trainer
            views = trainable_of(model) if frozen else model.parameters()
            saved = {name: view.copy() for name, view in views.items()}
            try:
                yield saved
            finally:
                for name, view in views.items():
                    view[...] = saved[name]

    def _matrix_rate(self, settings: Mapping[str, Any]) -> float | None:
        """muon_lr beside these settings: as large, next to their learning_rate, as the run's next to its own."""
        asked, rate = self.settings.get("muon_lr"), settings["learning_rate"]
        if asked is None or rate == 0 or settings["optimizer"] != "muon":
            return None
        return asked / self.settings["learning_rate"] * rate

    def take_steps(self, model: Any, data: Any, count: int, **changed: Any) -> Any:
        """Train ``model`` in place for some updates at a constant rate; what the trainer returns."""
        settings = self.settings | {"lr_schedule": "constant", "warmup_steps": 0, "min_lr": 0.0, "grad_accum": 1}
        settings |= {"max_steps": count, "epochs": None, "on_nonfinite": "halt", "progress": False} | changed
        if model is self.model and self.task is not None:
            return self.task.steps(data, count, **settings | {n: getattr(self.task.settings, n) for n in NEXT_TOKENS})
        for name in ("muon_lr", "mask_prompt", "pack"):  # another's trainer need not know them
            settings.pop(name, None)
        if settings.get("moments") == "float32":
            del settings["moments"]
        if (matrix_rate := self._matrix_rate(settings)) is not None:
            settings["muon_lr"] = matrix_rate
        return self.trainer(model, data, **settings)

    # The sibling

    @cached_property
    def sibling_config(self) -> Any:
        """The model's config, with everything that is only a size made small; and no size so small that it hides what
        is looked for, as a context of one token would."""
        if not hasattr(self.config, "d_model"):
            raise NotApplicable("the model has no config to build a small sibling from")
        c = self.config
        grouped = 2 if c.n_kv_head < c.n_head else 1
        width = 6 if c.head_dim else 8 if c.n_head > 1 else 16  # of a head
        return replace(
            c,
            vocab_size=29,
            context_length=12,
            n_layer=min(c.n_layer, 2),
            n_head=2 if c.n_head > 1 else 1,
            n_kv_head=2 // grouped if c.n_head > 1 else 1,
            d_model=16,
            d_ff=24,
            labels=(),  # a head of classes is no matter of the code looked at
            head_dim=6 if c.head_dim else 0,
            sliding_window=4 if c.sliding_window else 0,
            rotary_dim=max(2, c.rotary_dim * width // c.head_width // 2 * 2) if c.rotary_dim else 0,
            attention_scale=c.attention_scale * math.sqrt(c.head_width / width),  # relative to the usual one
            **layers_like(c, min(c.n_layer, 2)),
        )

    def sibling(self, dtype: str = "float64", warm: bool = True, **changed: Any) -> Any:
        """A new small model of the same class and family; always the same weights. warm: noise on top of them."""
        config = replace(self.sibling_config, **changed)
        try:
            model = type(self.model)(config, seed=0, dtype=dtype)
        except TypeError as error:
            raise NotApplicable(
                f"no small sibling can be built as {type(self.model).__name__}(config, seed=, dtype=): {error}"
            ) from None
        rng = np.random.default_rng(1)
        for view in model.parameters().values():
            view += (WARM * warm * rng.standard_normal(view.shape)).astype(view.dtype)
        return model

    def sibling_batch(self, rows: int = 3, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Random ids and targets for the sibling, the second target of each row ignored."""
        config, rng = self.sibling_config, np.random.default_rng(seed)
        ids, targets = rng.integers(0, config.vocab_size, (2, rows, config.context_length))
        targets[:, 1:2] = IGNORE
        return ids, targets


def layers_like(config: Any, count: int) -> dict[str, Any]:
    """The fields of ``config`` that say something of each layer, for ``count`` layers of the kinds that it has."""
    kinds = [(config.layer_type(i), config.has_rope(i)) for i in range(config.n_layer)]
    chosen = sorted(kinds.index(kind) for kind in dict.fromkeys(kinds))  # the first of each kind
    chosen = (chosen * count)[:count]
    if "sliding" not in [kinds[i][0] for i in chosen] and config.local_rope_theta:
        chosen[-1] = next(i for i, kind in enumerate(kinds) if kind[0] == "sliding")
    each = {name: getattr(config, name) for name in ("layer_types", "rope_layers")}
    return {name: tuple(values[i] for i in chosen) if values else () for name, values in each.items()}


@contextmanager
def randomness_kept() -> Iterator[None]:
    """The states of Python's and numpy's global generators, which a foreign trainer may use, are put back."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (kept, not used)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def parts_of(config: Any, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """``array`` by the jobs of its rows: the fused projections of LoopOS hold q, k and v, or gate and up."""
    if name.endswith((".qkv_proj.weight", ".qkv_proj.bias")) and hasattr(config, "n_kv_head"):
        width, kv = (heads * config.head_width for heads in (config.n_head, config.n_kv_head))
        if len(array) == width + 2 * kv:
            return {"q": array[:width], "k": array[width : width + kv], "v": array[width + kv :]}
    if name.endswith((".gate_up_proj.weight", ".gate_up_proj.bias")) and len(array) % 2 == 0:
        half = len(array) // 2
        return {"gate": array[:half], "up": array[half:]}
    return {"": array}


def one_channel(config: Any) -> str:
    """Why a model of one channel feels nothing of what comes before a norm; "" for every other."""
    if getattr(config, "d_model", None) != 1:
        return ""
    return "a norm over 1 channel gives the same whatever comes in, so nothing before it is felt"


def one_entry(config: Any) -> str:
    """Why a vocabulary of one entry leaves nothing to learn; "" for every other."""
    if getattr(config, "vocab_size", None) != 1:
        return ""
    return "the only entry of a vocabulary of 1 has probability 1, so the loss is 0 whatever the weights"


def blocks_of(names: list[str]) -> dict[int, list[str]]:
    """The parameters' names by block, in order."""
    found: dict[int, list[str]] = {}
    for name in names:
        layer = layer_of(name)
        if layer is not None:
            found.setdefault(layer, []).append(name)
    return dict(sorted(found.items()))


def rms(array: np.ndarray) -> float:
    """Root of the mean square, in float64; 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0


def listed(names: list[str], most: int = 4) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
