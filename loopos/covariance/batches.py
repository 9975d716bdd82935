"""Simulations and samples as loopos.train takes them: batches (snapshots, sources, truth), a pure function of (step,
micro), so that a resume begins anywhere.

The truth that is learned is the covariance of the ideal array with independent sources, A diag(powers) Aᴴ + noise I:
what an estimator of directions wants to be given, also where the sources are coherent or the array has errors. Complex
arrays travel as real ones with a last axis of 2, as files and bundles hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np

from loopos import checks
from loopos.data.order import Order
from loopos.data.sources import Sources

from .config import CovarianceConfig
from .simulation import Samples, Simulation

HELD_OUT = 1 << 40  # the first index of what is evaluated: no run trains as far as that
EVALUATED = 64  # samples of each simulation in an evaluation
RANGE = 1e-18, 1e18  # of the largest amplitude of a sample: float32 holds the squares
FORMS = "a Simulation, several of one array, or Samples with snapshots"
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


def truth_of(samples: Samples) -> np.ndarray:
    """complex128 (B, N, N): of known powers; of samples without them the covariance that they tell, or, as files tell
    none, powers and noise by least squares from the snapshots and their directions."""
    if samples.source_covariance is None or samples.noise is None:
        return _estimated(samples) if samples.covariance is None else samples.covariance
    present = np.arange(samples.directions.shape[1]) < samples.sources[:, None]  # (B, K); beyond it is padding
    powers = np.where(present, np.diagonal(samples.source_covariance, axis1=1, axis2=2).real, 0)
    aside = present if samples.array.angles == 1 else present[..., None]
    steering = samples.array.steering(np.where(aside, samples.directions, 0))
    loud = steering * np.sqrt(powers)[:, None, :]
    # small products: threads of a BLAS that wait for each other on a busy machine would take ten times as long
    return np.einsum("bik,bjk->bij", loud, loud.conj()) + samples.noise * np.eye(samples.array.sensors)


def _estimated(samples: Samples) -> np.ndarray:
    """With A the steering vectors and S the sample covariance: noise = tr((I - A A⁺) S) / (N - K), powers the diagonal
    of A⁺ (S - noise I) A⁺ᴴ, at least 0."""
    if samples.snapshots is None:
        raise ValueError("truth_of: the samples have neither powers, covariances nor snapshots to learn from")
    eye, found = np.eye(samples.array.sensors), []
    for b, count in enumerate(samples.sources):
        x = samples.snapshots[b].astype(np.complex128)
        sample, a = x.T @ x.conj() / len(x), samples.array.steering(samples.of(b))
        inverse = np.linalg.pinv(a)
        noise = np.trace((eye - a @ inverse) @ sample).real / max(1, len(eye) - int(count))
        powers = np.maximum(np.diagonal(inverse @ (sample - noise * eye) @ inverse.conj().T).real, 0)
        found.append((a * powers) @ a.conj().T + noise * eye)
    return np.stack(found)


def parted(samples: Samples, held_out: float) -> tuple[Samples, Samples | None]:
    """What is trained on, and the last ``held_out`` share of the samples; None where that is none."""
    count = round(len(samples) * held_out)

    def part(which: slice) -> Samples:
        values = {f.name: getattr(samples, f.name) for f in fields(samples)}
        arrays = ("snapshots", "directions", "sources", "covariance", "source_covariance", "snr", "measured", "arrays")
        return Samples(**values | {n: values[n][which] for n in arrays if values.get(n) is not None})

    if not count:
        return samples, None
    return part(slice(0, len(samples) - count)), part(slice(len(samples) - count, None))


def as_batch(samples: Samples) -> Batch:
    """snapshots float32 (B, L, N, 2), sources int64 (B,), truth float32 (B, N, N, 2)."""
    return as_reals(samples.snapshots), samples.sources.astype(np.int64), as_reals(truth_of(samples))


def as_reals(values: np.ndarray) -> np.ndarray:
    """complex (...) as float32 (..., 2)."""
    return np.ascontiguousarray(values, np.complex64).view(np.float32).reshape(*values.shape, 2)


def as_complex(values: np.ndarray, dtype: str) -> np.ndarray:
    """The way back, as complex64 or complex128."""
    return np.ascontiguousarray(values).view(np.complex64)[..., 0].astype(dtype, copy=False)


class Simulated:
    """Batches of simulations, which take turns: another number of snapshots, sources or decibels in each."""

    steps_per_epoch = None  # they never end

    def __init__(self, simulations: Sequence[Simulation], batch_size: int, grad_accum: int):
        self.simulations, self.batch_size, self._accum = tuple(simulations), batch_size, grad_accum
        self.seq_len = max(each.snapshots for each in self.simulations)

    def batch(self, step: int, micro: int = 0) -> Batch:
        return self.part(step, micro, 0, self.batch_size)

    def part(self, step: int, micro: int, first: int, last: int) -> Batch:
        """Rows [first, last) of that batch; no others are simulated, but for one where there are none."""
        number = step * self._accum + micro
        turn, which = divmod(number, len(self.simulations))
        made = as_batch(self.simulations[which].samples(turn * self.batch_size + first, max(1, last - first)))
        return cast(Batch, tuple(each[: last - first] for each in made))

    def fingerprint(self) -> dict[str, Any]:
        text = "\n".join(repr(each) for each in self.simulations)
        return {"kind": "simulation", "sha256": hashlib.sha256(text.encode()).hexdigest(), "simulations": text}


class Given:
    """Batches of samples that lie in memory. Each epoch is every sample once, in another order."""

    def __init__(self, samples: Samples, batch_size: int, grad_accum: int, seed: int):
        self._snapshots, self._sources, self._truth = as_batch(samples)
        self.batch_size, self._accum, self.seq_len = batch_size, grad_accum, self._snapshots.shape[1]
        self._order = Order(len(samples), seed)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._sources) // (self.batch_size * self._accum))

    def batch(self, step: int, micro: int = 0) -> Batch:
        return self.part(step, micro, 0, self.batch_size)

    def part(self, step: int, micro: int, first: int, last: int) -> Batch:
        """Rows [first, last) of that batch."""
        rows = self._order.batch(step * self._accum + micro, self.batch_size)[first:last]
        return self._snapshots[rows], self._sources[rows], self._truth[rows]

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._snapshots.tobytes() + self._truth.tobytes())
        return {"kind": "samples", "shape": list(self._snapshots.shape), "sha256": digest.hexdigest()}


class HeldOut:
    """Batches to evaluate on, the same ones each time."""

    share = 1.0

    def __init__(self, data: Sequence[Simulation] | Samples, batch_size: int):
        self._batches = []
        if isinstance(data, Samples):
            whole = as_batch(data)
            for first in range(0, len(data), batch_size):
                self._batches.append(tuple(part[first : first + batch_size] for part in whole))
            return
        for each in data:
            for first in range(0, EVALUATED, batch_size):
                count = min(batch_size, EVALUATED - first)
                self._batches.append(as_batch(each.samples(HELD_OUT + first, count)))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


def open_samples(
    config: CovarianceConfig, data: Any, eval_data: Any, *, batch_size: int, grad_accum: int, seed: int
) -> Sources:
    """The data arguments of train for a network that ``config`` describes. A simulation that is held out gives other
    samples than any that is trained on, with the same seed too. TypeError for anything else than FORMS; ValueError for
    another number of sensors."""
    batch_size = checks.count("train", "batch_size", batch_size)
    data = _checked(config, data, "data")
    kind = (data, batch_size, grad_accum)
    train = Given(*kind, seed) if isinstance(data, Samples) else Simulated(*kind)
    train.seq_len = config.rows(train.seq_len)  # rows of a sample, which is what a pass takes memory for
    held_out = None if eval_data is None else HeldOut(_checked(config, eval_data, "eval_data"), batch_size)
    return Sources(train, held_out, None)


def _checked(config: CovarianceConfig, data: Any, name: str) -> Any:
    if isinstance(data, Simulation):
        data = (data,)
    simulations = isinstance(data, tuple | list) and data and all(isinstance(each, Simulation) for each in data)
    if isinstance(data, Samples) and data.snapshots is None:
        raise TypeError(f"train: {name} must have snapshots; these samples are covariances alone")
    if not simulations and not isinstance(data, Samples):
        raise TypeError(f"train: {name} of a CovarianceNetwork must be {FORMS}, got {checks.shown(data)}")
    arrays = [each.array for each in data] if simulations else [data.array]
    if bad := [array.sensors for array in arrays if array.sensors != config.elements]:
        raise ValueError(f"train: {name} are of {bad[0]} sensors, and the network has elements={config.elements}")
    if not simulations:
        _refuse_unusable(data, name)
    return data


def _refuse_unusable(samples: Samples, name: str) -> None:
    if not samples.snapshots.size:
        raise ValueError(f"train: {name} have no snapshots: their shape is {samples.snapshots.shape}")
    low, high = RANGE
    peaks = np.abs(samples.snapshots).max(axis=(1, 2))
    if (bad := np.flatnonzero(~((peaks >= low) & (peaks <= high)))).size:
        raise ValueError(
            f"train: {name}: the largest amplitude of sample {bad[0]} is {peaks[bad[0]]:g}, and must lie from {low:g} "
            f"to {high:g}: leave the sample out, or take another unit ({len(bad)} of {len(peaks)} samples are so)"
        )
