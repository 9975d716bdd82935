"""One update done again from its bundle: by the code that did it first, so that every bit can be compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from loopos import checks
from loopos.births.growth import Growth
from loopos.errors import Birth, CheckpointError
from loopos.optim.training import for_training
from loopos.precision import same_bits
from loopos.run.bundle import Batches, Bundle, Outcome, build, find_bundle, read_bundle
from loopos.run.kinds import objective_again
from loopos.run.leaves import micro_batches
from loopos.run.origins import origin_of
from loopos.run.settings import MAX_THREADS
from loopos.run.updates import Update, Updater
from loopos.threads import threads as using_threads


class TensorFacts(NamedTuple):
    """A line of a trace. kind: "weight", "moment" (both before the update) or "gradient" (of the whole update, before
    clipping). smallest, largest, rms: of the finite elements, None when there is none; zeros: share of all elements;
    nonfinite: how many."""

    kind: str
    tensor: str
    smallest: float | None
    largest: float | None
    rms: float | None
    zeros: float
    nonfinite: int

    @staticmethod
    def of(kind: str, tensor: str, array: np.ndarray) -> TensorFacts:
        finite = array[np.isfinite(array)].astype(np.float64)
        if finite.size == 0:
            return TensorFacts(kind, tensor, None, None, None, 0.0, array.size)
        low, high = float(finite.min()), float(finite.max())
        size = max(abs(low), abs(high)) or 1.0  # scaled, or the squares of a float64 could overflow
        rms = size * float(np.sqrt(np.mean(np.square(finite / size))))
        zeros = np.count_nonzero(array == 0) / array.size
        return TensorFacts(kind, tensor, low, high, rms, zeros, array.size - finite.size)

    def __str__(self) -> str:
        low, high = ("-" if value is None else f"{value:+.3e}" for value in (self.smallest, self.largest))
        rms = "-" if self.rms is None else f"{self.rms:.3e}"
        return (
            f"{self.kind:8} {self.tensor:36} min {low} max {high} rms {rms} "
            f"zeros {self.zeros:.1%} nonfinite {self.nonfinite}"
        )


@dataclass(frozen=True)
class ReplayResult:
    """What :func:`replay` found.

    reproduced: loss, gradient norm, valid tokens and birth are the same, bit for bit (all NaN count as one); also the
        truth of this object.
    step: of the run, from 1. loss, grad_norm, birth: of the repetition; birth is None for a healthy update.
    recorded: the Outcome of the run itself. differences: a sentence for each part that is not the same.
    build: a sentence for each part of build and instruction set that is not what the run had: bits may differ then.
    trace: with ``trace=True``, every weight, moment and gradient in the order of execution; else empty.
    origin: from which lines of the data the row of the birth came, in a sentence; "" where that is not known.
    """

    reproduced: bool
    step: int
    loss: float
    grad_norm: float
    birth: Birth | None
    recorded: Outcome
    differences: tuple[str, ...]
    build: tuple[str, ...]
    trace: tuple[TensorFacts, ...] = ()
    origin: str = ""

    def __bool__(self) -> bool:
        return self.reproduced

    def __str__(self) -> str:
        said = "reproduced bit for bit" if self.reproduced else "not reproduced"
        lines = [f"step {self.step}: {said}"]
        lines += [f"  loss {self.loss!r} ({self.loss.hex()}), grad_norm {self.grad_norm!r} ({self.grad_norm.hex()})"]
        lines += [f"  {self.birth or 'every number of it is finite'}"]
        lines += [f"  {self.origin}"] if self.origin else []
        lines += [f"  {text}" for text in self.differences]
        if self.build:
            what = "; ".join(self.build)
            lines.append(f"  this is not the build it was recorded with, so bits may differ: {what}")
        lines += [f"  {row}" for row in self.trace]
        return "\n".join(lines)


def replay(bundle: str | os.PathLike | Bundle, *, trace: bool = False, threads: int | None = None) -> ReplayResult:
    """Do the update of ``bundle`` again and compare it with what was recorded, bit for bit, on any number of threads.

    bundle: the file that a NonFiniteError of :func:`loopos.train` names, or the output_dir of the run (its newest one).
    trace: describe every weight, moment and gradient too. threads: for this call; None leaves the number as it is.

    Raises FileNotFoundError when there is no bundle, CheckpointError naming path and fault when it is damaged.
    """
    trace = checks.boolean("replay", "trace", trace)
    if threads is not None:
        threads = checks.count("replay", "threads", threads, high=MAX_THREADS)
    with using_threads(threads):
        opened = open_bundle(bundle)
        repeater = Repeater(opened, name=None if isinstance(bundle, Bundle) else find_bundle(bundle))
        before = repeater.facts("weight", "moment") if trace else ()
        update = repeater.update()
        facts = before + (repeater.facts("gradient") if trace else ())
    outcome = Outcome.of(update)
    differences = opened.outcome.differences(outcome)
    loss, norm = float(update.loss), float(update.grad_norm)
    found = update.birth, opened.outcome, differences, _apart(opened.build, repeater.model.products), facts
    return ReplayResult(not differences, opened.step, loss, norm, *found, origin_of(opened.origins, update.birth))


def open_bundle(bundle: str | os.PathLike | Bundle) -> Bundle:
    """The bundle in a file, or the one given."""
    return bundle if isinstance(bundle, Bundle) else read_bundle(bundle)


def _apart(recorded: Mapping[str, Any], products: str) -> tuple[str, ...]:
    here = build(products)
    recorded = {"products": here["products"], **recorded}  # of bundles that were written before there were several
    alike = {"threads", *(["products"] if same_bits(str(recorded["products"]), here["products"]) else ())}
    names = [name for name in here | recorded if name not in alike]
    pairs = [(name, recorded.get(name), here.get(name)) for name in names]
    return tuple(f"{name} {a} there, {b} here" for name, a, b in pairs if a != b)


class Repeater:
    """Does the update of a bundle again, as often as asked, each time from the bundle's weights and moments.

    dtype: of the repetition; float64 takes over float32 numbers exactly. dropout, precision: in place of the model's
    own."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        dtype: str | None = None,
        dropout: float | None = None,
        precision: str | None = None,
        name: Any = None,
    ):
        """name: what to call the bundle in a CheckpointError, which says that its arrays do not fit its config."""
        self.bundle, self.dtype = bundle, dtype or bundle.dtype
        try:
            self.model = bundle.model(dtype=dtype, dropout=dropout)
            if precision is not None:
                self.model.precision = precision
            rule = bundle.settings.update_rule() | {"moments": "float32"}  # those of fewer bits are numbers in a bundle
            self.optimizer = for_training(model=self.model, **rule)
            self.objective = objective_again(self.model, bundle.settings)
            self._restore()
        except (ValueError, TypeError) as error:
            raise CheckpointError(name or "the bundle", f"its arrays are not those of its model: {error}") from error

    def update(self, batches: Batches | None = None, learning_rate: float | None = None) -> Update:
        """The update, of other (ids, targets) or at another rate when these are given. Batches: one for each
        micro-batch of the bundle."""
        self._restore()
        source = _FixedBatches(self.bundle.batches if batches is None else batches)
        growth = None if self.bundle.growth is None else Growth.of(self.bundle.weights, self.bundle.growth)
        settings = self.bundle.settings
        once = Updater(self.model, self.optimizer, source, settings, lambda: None, growth, self.objective)
        return once(self.bundle.step - 1, self.bundle.learning_rate if learning_rate is None else learning_rate)

    def trace(self, tap: Callable[..., None]) -> None:
        """Compute the update's passes once more and show every tensor of them, up to one that is not finite, in the
        order of execution: tap(micro_batch, place, shape, first, elements). place: a dict of phase, layer, op and
        tensor; elements: a flat copy of those from ``first`` on, for a tensor may come in pieces."""
        self._restore()
        bundle = self.bundle
        calls, _ = micro_batches(bundle.batches, bundle.step - 1, bundle.settings, self.objective)
        with self.model.lock:
            for ids, targets, keywords in calls:
                keywords |= self.objective.keywords(ids, targets, keywords)
                if self.model._core.trace(ids, targets, **keywords, tap=partial(tap, keywords["micro"])) is not None:
                    return

    def facts(self, *kinds: str) -> tuple[TensorFacts, ...]:
        """The tensors of these kinds ("weight", "moment", "gradient") as they now are."""
        state = self.optimizer.state_dict()
        arrays = {
            "weight": self.model.parameters(),
            "moment": {name: value for name, value in state.items() if isinstance(value, np.ndarray)},
            "gradient": self.model._core.gradients(),
        }
        return tuple(TensorFacts.of(kind, name, array) for kind in kinds for name, array in arrays[kind].items())

    def _restore(self) -> None:
        def cast(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: array.astype(self.dtype, copy=False) for name, array in arrays.items()}

        self.optimizer.load_state_dict(cast(self.bundle.moments) | dict(self.bundle.numbers))
        self.model.load_state_dict(cast(self.bundle.weights))


class _FixedBatches:
    """The micro-batches of one update, whatever its step."""

    def __init__(self, batches: Batches):
        self._batches = batches

    def batch(self, step: int, micro: int) -> tuple[np.ndarray, np.ndarray]:
        return self._batches[micro]
