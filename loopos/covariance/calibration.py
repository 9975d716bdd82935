"""Calibration errors: the array that measures is not the one that the estimator has in mind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loopos import checks

from . import draws
from .arrays import SensorArray


@dataclass(frozen=True)
class CalibrationErrors:
    """How far an array is from the ideal one. Each number is a standard deviation of a Gaussian, drawn for each sensor.

    gain      of the gain, in dB: a factor 10^(g / 20)
    phase     of the phase, in radians: a factor exp(j p)
    position  of each of y and z, in wavelengths (of y alone where a direction is one angle)
    coupling  mutual coupling: what a sensor half a wavelength away adds, as a complex factor below 1 in magnitude; at
              the distance d it is coupling^(2 d), and beyond two wavelengths nothing. No number is drawn for it
    fixed     True: one array for all samples of a seed, as a real one is; False: another array for each sample

    A negative or infinite number: ValueError."""

    gain: float = 0.0
    phase: float = 0.0
    position: float = 0.0
    coupling: complex = 0.0
    fixed: bool = True

    def __post_init__(self) -> None:
        for name in ("gain", "phase", "position"):
            checks.real("CalibrationErrors", name, getattr(self, name), low=0.0, high=1e3)
        checks.boolean("CalibrationErrors", "fixed", self.fixed)
        size = abs(self.coupling) if isinstance(self.coupling, int | float | complex | np.number) else math.nan
        if not size < 1:
            raise ValueError(
                f"CalibrationErrors: coupling must be a number below 1 in magnitude, got {checks.shown(self.coupling)}"
            )

    def array(self, ideal: SensorArray, seed: int = 0, index: int = 0) -> SensorArray:
        """The array of sample ``index``: a function of (seed, index), and of the seed alone when ``fixed``."""
        sensors = ideal.sensors
        key = 2**64 - 1 if self.fixed else index
        numbers = draws.normal(4 * sensors, draws.CALIBRATION, seed, key).reshape(4, sensors)
        factors = 10 ** (self.gain * numbers[0] / 20) * np.exp(1j * self.phase * numbers[1])
        positions = ideal.positions.copy()
        positions[:, 1] += self.position * numbers[2]
        if ideal.angles == 2:
            positions[:, 2] += self.position * numbers[3]
        response = _coupling(ideal.positions, complex(self.coupling)) * factors  # each column: what one sensor takes in
        if ideal.response is not None:
            response = response @ ideal.response
        return SensorArray(positions, angles=ideal.angles, response=response)


def _coupling(positions: np.ndarray, factor: complex) -> np.ndarray:
    """complex128 (N, N): 1 on the diagonal, factor^(2 d) at the distance d up to two wavelengths, 0 beyond."""
    if factor == 0:
        return np.eye(len(positions), dtype=np.complex128)
    distance = np.sqrt(np.square(positions[:, None] - positions[None]).sum(-1))
    return np.where(distance <= 2 + 1e-9, factor ** (2 * distance), 0)
