"""Simulated snapshots of an array: sources, noise, and the true covariance beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from loopos import checks

from . import draws
from .arrays import RIGHT_ANGLE, ULA, URA, SensorArray
from .calibration import CalibrationErrors
from .placement import place

PHASES = ("random", "equal")


@dataclass(frozen=True)
class Samples:
    """What a simulation gave, or a folder: B samples of L snapshots, each with its truth.

    array              the ideal array, the one that an estimator has in mind
    snapshots          complex (B, L, N): row l is x(l) = A s(l) + n(l). None where only covariances are known
    directions         float64 (B, K) of a line, (B, K, 2) of a plane, radians; sorted (by azimuth); NaN beyond
                       ``sources[b]``
    sources            int64 (B,): how many sources
    covariance         complex128 (B, N, N): R = E[x xᴴ] = A P Aᴴ + noise I, A the array with its errors
    source_covariance  complex128 (B, K, K): P = E[s sᴴ]
    noise              variance of the noise of one sensor, 1 in a simulation
    snr                float64 (B,): dB, of each source at each sensor
    arrays             the arrays that measured, one a sample
    measured           complex128 (B, N, N): covariances that a folder has in place of snapshots
    """

    array: SensorArray
    snapshots: np.ndarray | None
    directions: np.ndarray
    sources: np.ndarray
    covariance: np.ndarray | None = None
    source_covariance: np.ndarray | None = None
    noise: float | None = None
    snr: np.ndarray | None = None
    arrays: list[SensorArray] = field(default_factory=list)
    measured: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sources)

    def of(self, index: int) -> np.ndarray:
        """The true directions of sample ``index`` without the padding: (K,) or (K, 2)."""
        return self.directions[index, : self.sources[index]]


@dataclass(frozen=True)
class Simulation:
    """Samples of far, narrow-band sources in white noise. Sample i is a function of (seed, i) and the settings: the
    same bits whatever the batch. Directions, signals and noise are drawn apart, so that another SNR keeps all three,
    and more snapshots begin with the same ones: a sweep compares like with like.

    array         ULA(N) or URA(rows, columns)
    sources       K, or (low, high): drawn evenly for each sample
    snr           dB, or (low, high): drawn evenly. It is the ratio of the **power of one source to the power of the
                  noise, at one sensor**: E|s_k|^2 / E|n|^2, an amplitude of 10^(snr / 20) beside noise of variance 1
    snapshots     L
    correlation   r of 0 (independent sources) to 1 (coherent: one waveform): s_k = a (sqrt(1 - r) z_k + sqrt(r)
                  exp(j phase_k) z_0), z circular Gaussian, independent from snapshot to snapshot
    phases        of coherent sources: "random", or "equal" (all 0)
    separation    the smallest angle between two sources, radians. None: the array's beamwidth
    view          directions are from -view to view, radians: even in the angle of a line; of a plane azimuth and
                  elevation, even over the sphere
    directions    None, or (K,) of a line and (K, 2) of a plane, radians: the same in all samples, whatever sources,
                  separation and view say
    errors        CalibrationErrors, or None
    seed          of everything drawn
    dtype         of the snapshots: "complex128" or "complex64"

    ``dataclasses.replace`` gives another one with settings changed. Settings that fit no array, or so many sources that
    they have no room: ValueError."""

    array: ULA | URA
    sources: int | tuple[int, int] = 2
    snr: float | tuple[float, float] = 10.0
    snapshots: int = 100
    correlation: float = 0.0
    phases: str = "random"
    separation: float | None = None
    view: float = math.pi / 3
    directions: Any = None
    errors: CalibrationErrors | None = None
    seed: int = 0
    dtype: str = "complex128"

    def __post_init__(self) -> None:
        where = "Simulation"
        if not isinstance(self.array, ULA | URA):
            raise TypeError(f"{where}: array must be a ULA or a URA, got {checks.shown(self.array)}")
        if self.errors is not None and not isinstance(self.errors, CalibrationErrors):
            raise TypeError(f"{where}: errors must be CalibrationErrors or None, got {checks.shown(self.errors)}")
        if self.directions is not None:
            fixed = self.array.directions(self.directions, where)
            if fixed.ndim != self.array.angles:
                raise ValueError(f"{where}: directions must be those of one sample, got the shape {fixed.shape}")
            fixed = fixed[np.lexsort(fixed.T[::-1])] if fixed.ndim == 2 else np.sort(fixed)
            plain = fixed.tolist()  # tuples: settings compare, and are not changed from outside
            object.__setattr__(self, "directions", tuple(map(tuple, plain) if fixed.ndim == 2 else plain))
            object.__setattr__(self, "sources", len(fixed))
        low, high = _range(self.sources, "sources")
        checks.integer(where, "sources", low, low=1, high=self.array.sensors - 1)
        checks.integer(where, "sources", high, low=low, high=self.array.sensors - 1)
        low, high = _range(self.snr, "snr")
        checks.real(where, "snr", low, low=-200, high=200)
        checks.real(where, "snr", high, low=low, high=200)
        checks.count(where, "snapshots", self.snapshots, high=10**8)
        checks.real(where, "correlation", self.correlation, low=0.0, high=1.0)
        checks.choice(where, "phases", self.phases, PHASES)
        checks.choice(where, "dtype", self.dtype, ("complex64", "complex128"))
        checks.integer(where, "seed", self.seed, low=0, high=2**64 - 1)
        checks.real(where, "view", self.view, above=0.0, high=RIGHT_ANGLE)
        if self.separation is not None:
            checks.real(where, "separation", self.separation, low=0.0, below=math.pi)

    @property
    def most_sources(self) -> int:
        """K, the largest number of sources: the width of ``directions``."""
        return int(_range(self.sources, "sources")[1])

    def samples(self, first: int, count: int) -> Samples:
        """Samples first .. first + count - 1. Indices below 0 or none at all: ValueError."""
        first = checks.integer("Simulation.samples", "first", first, low=0, high=2**62)
        count = checks.count("Simulation.samples", "count", count, high=2**32)
        arrays = self._arrays(range(first, first + count))
        drawn = [self._sample(index, array) for index, array in enumerate(arrays, first)]
        columns = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
        return Samples(self.array, **columns, noise=1.0, arrays=arrays)

    def _arrays(self, indices: range) -> list[SensorArray]:
        """The arrays that measure, one a sample; the same object where they are the same."""
        if self.errors is not None and not self.errors.fixed:
            return [self.errors.array(self.array, self.seed, index) for index in indices]
        one: SensorArray = self.array if self.errors is None else self.errors.array(self.array, self.seed)
        return [one] * len(indices)

    def _sample(self, index: int, array: SensorArray) -> dict[str, Any]:
        most, length, sensors = self.most_sources, self.snapshots, self.array.sensors
        sources, snr = self._source_count(index), self._decibels(index)
        separation = self.array.beamwidth if self.separation is None else self.separation
        if self.directions is None:
            directions = place(self.array, sources, separation, self.view, self.seed, index)
        else:
            directions = np.array(self.directions)
        steering = array.steering(directions)

        # s = waveforms mixᵀ: column 0 of the mix is the waveform that sources share, the others are their own.
        power, shared = 10 ** (snr / 10), np.zeros(most)
        if self.phases == "random":
            shared = 2 * np.pi * draws.uniform(most, draws.PHASES, self.seed, index)
        mix = np.zeros((sources, most + 1), np.complex128)
        mix[:, 0] = np.sqrt(power * self.correlation) * np.exp(1j * shared[:sources])
        mix[range(sources), range(1, sources + 1)] = np.sqrt(power * (1 - self.correlation))
        waveforms = draws.circular(length * (most + 1), draws.SIGNALS, self.seed, index).reshape(length, most + 1)
        noise = draws.circular(length * sensors, draws.NOISE, self.seed, index).reshape(length, sensors)

        padded = np.full((most, *directions.shape[1:]), np.nan)
        padded[:sources] = directions
        source_covariance = np.zeros((most, most), np.complex128)
        source_covariance[:sources, :sources] = mix @ mix.conj().T
        loud = steering @ mix  # (N, K + 1)
        return {
            "snapshots": (np.einsum("lk,nk->ln", waveforms, loud) + noise).astype(self.dtype),  # no BLAS: see truth_of
            "directions": padded,
            "sources": np.int64(sources),
            "covariance": np.einsum("ik,jk->ij", loud, loud.conj()) + np.eye(sensors),
            "source_covariance": source_covariance,
            "snr": np.float64(snr),
        }

    def _source_count(self, index: int) -> int:
        low, high = _range(self.sources, "sources")
        chance = draws.uniform(1, draws.SOURCES, self.seed, index)[0]
        return int(low + math.floor(chance * (high - low + 1)))

    def _decibels(self, index: int) -> float:
        low, high = _range(self.snr, "snr")
        return float(low + (high - low) * draws.uniform(1, draws.SNR, self.seed, index)[0])


def subspacenet(nominal: float = 10.0, *, published: bool = True, seed: int = 0, **changes: Any) -> Simulation:
    """The setting of SubspaceNet (Shmuel et al., arXiv:2306.02271; ShlezingerLab/SubspaceNet): 8 sensors half a
    wavelength apart, 5 coherent sources of one waveform and one phase, 100 snapshots, directions from -90 to 90
    degrees and at least 15 degrees apart.

    Their code gives a source the amplitude 10^(SNR / 10), which is twice the decibels: what they call 10 dB is 20 dB.
    ``published=True`` is their data: the simulation's ``snr`` is 2 * ``nominal``. ``published=False`` has ``nominal``
    true decibels. Two differences: they round directions to 0.01 degrees, and their exponent has the other sign.
    ``changes`` are settings of :class:`Simulation` to be replaced."""
    nominal = checks.real("subspacenet", "nominal", nominal, low=-100, high=100)
    snr = 2 * nominal if checks.boolean("subspacenet", "published", published) else nominal
    setting = Simulation(
        ULA(8),
        sources=5,
        snr=snr,
        snapshots=100,
        correlation=1.0,
        phases="equal",
        separation=math.radians(15),
        view=RIGHT_ANGLE,
        seed=seed,
    )
    return replace(setting, **changes)


def _range(value: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list):
        return value, value
    if len(value) != 2:
        raise ValueError(f"Simulation: {name} must be one number or (low, high), got {checks.shown(value)}")
    return value[0], value[1]
