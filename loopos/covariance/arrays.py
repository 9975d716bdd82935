"""Arrays of sensors: the uniform line (ULA), the uniform plane (URA), their steering vectors and the derivatives.

Lengths are in wavelengths, angles in radians. The array lies in the plane of y and z and looks along x. A narrow-band
wave from the unit vector u reaches the sensor at p with the phase 2 pi p.u, so the steering vector is

    a_n(u) = exp(2 pi j p_n . u),    |a_n| = 1.

A line lies along y. Its direction is one angle, from broadside (x) towards y: u = (cos t, sin t, 0). A plane has two
angles, azimuth and elevation: u = (cos el cos az, cos el sin az, sin el). Legend: N sensors, K sources, B samples, L
snapshots, D angles of a direction (1 or 2). Source: Van Trees, Optimum Array Processing (2002), chapter 2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from loopos import checks

RIGHT_ANGLE = math.pi / 2


class SensorArray:
    """Sensors at ``positions`` (N, 3), in wavelengths, whose outputs ``response`` (N, N) mixes: a(u) = response
    exp(2 pi j positions u). ``angles`` says whether a direction is one angle or two. ULA and URA are the ideal ones;
    one with calibration errors comes from :class:`CalibrationErrors`. Positions or a response of another shape or with
    a number that is not finite: ValueError."""

    def __init__(self, positions: np.ndarray, *, angles: int = 1, response: np.ndarray | None = None):
        where = type(self).__name__
        self.angles = checks.integer(where, "angles", angles, low=1, high=2)
        self.positions = np.array(checks.unmasked(where, "positions", positions), np.float64)
        if self.positions.ndim != 2 or self.positions.shape[1] != 3 or not len(self.positions):
            raise ValueError(f"{where}: positions must have the shape (N, 3), got {self.positions.shape}")
        sensors = len(self.positions)
        self.response = None if response is None else np.array(response, np.complex128)
        if self.response is not None and self.response.shape != (sensors, sensors):
            raise ValueError(f"{where}: response must have the shape {(sensors, sensors)}, got {self.response.shape}")
        if not all(np.isfinite(part).all() for part in (self.positions, self.response) if part is not None):
            raise ValueError(f"{where}: positions and response must be finite")

    @property
    def sensors(self) -> int:
        """N."""
        return len(self.positions)

    def directions(self, directions: Any, where: str = "directions") -> np.ndarray:
        """``directions`` as float64, checked: (..., K) of a line, (..., K, 2) of a plane, finite, in radians and not
        beyond a right angle: ValueError otherwise."""
        checked = np.asarray(checks.unmasked(where, "directions", directions), np.float64)
        if checked.ndim < self.angles or (self.angles == 2 and checked.shape[-1] != 2):
            shape = "(..., K)" if self.angles == 1 else "(..., K, 2), azimuth and elevation,"
            raise ValueError(f"{where}: directions must have the shape {shape} got {checked.shape}")
        if not np.isfinite(checked).all():
            raise ValueError(f"{where}: directions must be finite, got {checked[~np.isfinite(checked)][0]}")
        if checked.size and (largest := float(np.abs(checked).max())) > RIGHT_ANGLE + 1e-12:
            raise ValueError(
                f"{where}: directions are radians from -pi/2 to pi/2, got {largest:g}; numpy.deg2rad converts degrees"
            )
        return checked

    def unit_vectors(self, directions: Any) -> np.ndarray:
        """The unit vectors (..., K, 3) towards ``directions``, (..., K) of a line and (..., K, 2) of a plane."""
        return _unit(self.directions(directions), self.angles)

    def steering(self, directions: Any) -> np.ndarray:
        """The steering vectors of ``directions`` as columns: complex128 (..., N, K)."""
        unit = self.unit_vectors(directions)
        waves = np.exp(2j * np.pi * (self.positions @ np.swapaxes(unit, -1, -2)))
        return waves if self.response is None else self.response @ waves

    def derivatives(self, directions: Any) -> np.ndarray:
        """The derivatives of the steering vectors by the angles: complex128 (..., N, K, D)."""
        checked = self.directions(directions)
        waves = np.exp(2j * np.pi * (self.positions @ np.swapaxes(_unit(checked, self.angles), -1, -2)))
        parts = []
        for slope in _slopes(checked, self.angles):
            part = 2j * np.pi * (self.positions @ np.swapaxes(slope, -1, -2)) * waves
            parts.append(part if self.response is None else self.response @ part)
        return np.stack(parts, -1)


class ULA(SensorArray):
    """A uniform line (uniform linear array) of ``sensors``, ``spacing`` wavelengths apart: a_n = exp(2 pi j spacing n
    sin t), n = 0..N-1. A negative spacing is the convention with the other sign in the exponent. Beyond half a
    wavelength several directions have one steering vector. Less than one sensor or no spacing: ValueError."""

    def __init__(self, sensors: int, spacing: float = 0.5):
        count = checks.count("ULA", "sensors", sensors, high=100_000)
        self.spacing = _spacing("ULA", spacing)
        places = np.zeros((count, 3))
        places[:, 1] = self.spacing * np.arange(count)
        super().__init__(places)

    @property
    def beamwidth(self) -> float:
        """1 / (N spacing), radians: from the peak of the beam at broadside to its first zero (Rayleigh)."""
        return 1 / (self.sensors * abs(self.spacing))

    @property
    def shape(self) -> tuple[int]:
        """(N,)."""
        return (self.sensors,)

    def __repr__(self) -> str:
        return f"ULA({self.sensors}, spacing={self.spacing:g})"


class URA(SensorArray):
    """A uniform plane (uniform rectangular array) of ``rows`` along z by ``columns`` along y, ``spacing`` wavelengths
    apart: sensor r columns + c has the phase 2 pi spacing (c cos el sin az + r sin el). A negative spacing is the
    other sign in the exponent. Less than one row or column, or no spacing: ValueError."""

    def __init__(self, rows: int, columns: int, spacing: float = 0.5):
        self.rows = checks.count("URA", "rows", rows, high=10_000)
        self.columns = checks.count("URA", "columns", columns, high=10_000)
        self.spacing = _spacing("URA", spacing)
        places = np.zeros((self.rows, self.columns, 3))
        places[..., 1] = self.spacing * np.arange(self.columns)
        places[..., 2] = self.spacing * np.arange(self.rows)[:, None]
        super().__init__(places.reshape(-1, 3), angles=2)

    @property
    def beamwidth(self) -> float:
        """1 / (n spacing), radians, n the smaller of rows and columns: the wider of the beam's two widths."""
        return 1 / (min(self.rows, self.columns) * abs(self.spacing))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    def __repr__(self) -> str:
        return f"URA({self.rows}, {self.columns}, spacing={self.spacing:g})"


def _spacing(where: str, spacing: Any) -> float:
    length = checks.real(where, "spacing", spacing, low=-1e6, high=1e6)
    if length == 0:
        raise ValueError(f"{where}: spacing must not be 0: all sensors would stand at one place")
    return length


def _unit(directions: np.ndarray, angles: int) -> np.ndarray:
    if angles == 1:
        return np.stack([np.cos(directions), np.sin(directions), np.zeros_like(directions)], -1)
    azimuth, elevation = directions[..., 0], directions[..., 1]
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], -1)


def _slopes(directions: np.ndarray, angles: int) -> list[np.ndarray]:
    """The derivatives of the unit vectors by each angle."""
    if angles == 1:
        return [np.stack([-np.sin(directions), np.cos(directions), np.zeros_like(directions)], -1)]
    azimuth, elevation = directions[..., 0], directions[..., 1]
    flat, high = np.cos(elevation), np.sin(elevation)
    by_azimuth = np.stack([-flat * np.sin(azimuth), flat * np.cos(azimuth), np.zeros_like(flat)], -1)
    return [by_azimuth, np.stack([-high * np.cos(azimuth), -high * np.sin(azimuth), flat], -1)]
