"""Cramér-Rao bounds: how well any unbiased estimator can find directions.

Data x = A s + n, n circular white of variance v. Two models of the sources, two bounds:

    stochastic     s Gaussian of unknown covariance P:    W = P Aᴴ R^-1 A P,  R = A P Aᴴ + v I
    deterministic  s unknown numbers, P their mean s sᴴ:  W = P

    C = v / (2 L) [ Re( (D_aᴴ Q D_b) * Wᵀ ) ]^-1,   Q = I - A (Aᴴ A)^-1 Aᴴ,

with a block for each pair of angles a, b of a direction, D_a the derivatives of the steering vectors by them and * the
elementwise product. Nothing but directions, P and v is unknown: the array is. The stochastic bound is the one that is
reached (by maximum likelihood, and by MUSIC for uncorrelated sources as L and SNR grow); the deterministic lies below
it. Source: Stoica, Nehorai, IEEE Trans. ASSP 38 (1990) 1783; two angles as in Yau, Bresler 1992. doatools.py's
``crb_sto_farfield_1d`` and ``crb_det_farfield_1d`` are the same formulas for one angle."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .arrays import SensorArray

KINDS = ("stochastic", "deterministic")


def cramer_rao(
    array: SensorArray,
    directions: Any,
    source_covariance: Any,
    snapshots: int,
    *,
    noise: float = 1.0,
    kind: str = "stochastic",
) -> np.ndarray:
    """The bound on the covariance of the estimated angles: float64 (K D, K D), radians squared, source after source
    (azimuth, elevation of the first, of the second, ...).

    array              the one that measured (with its errors, which count as known)
    directions         (K,) or (K, 2), radians
    source_covariance  P, complex (K, K), or a power for all, or (K,) powers; of the deterministic bound the mean of
                       s sᴴ over the snapshots
    snapshots          L
    noise              variance of the noise of one sensor

    As many sources as sensors, two in one place or a source of no power, which leave the angles undetermined, and
    numbers that do not fit: ValueError."""
    where = "cramer_rao"
    if not isinstance(array, SensorArray):
        raise TypeError(f"{where}: array must be a SensorArray, got {checks.shown(array)}")
    places = array.directions(directions, where)
    count = len(places)
    if places.ndim != array.angles or not 1 <= count < array.sensors:
        raise ValueError(f"{where}: directions must be of 1 to {array.sensors - 1} sources, got {places.shape}")
    power = _powers(where, source_covariance, count)
    length = checks.count(where, "snapshots", snapshots)
    variance = checks.real(where, "noise", noise, above=0.0)
    checks.choice(where, "kind", kind, KINDS)
    steering, slopes = array.steering(places), array.derivatives(places)
    weight = power
    if kind == "stochastic":
        full = steering @ power @ steering.conj().T + variance * np.eye(array.sensors)
        weight = power @ steering.conj().T @ np.linalg.solve(full, steering) @ power
    basis = np.linalg.qr(steering)[0]
    left = slopes - np.einsum("nk,kmd->nmd", basis, np.einsum("nk,nmd->kmd", basis.conj(), slopes))
    size = count * array.angles
    products = np.einsum("nka,nlb->kalb", left.conj(), left)
    information = (products * weight.T[:, None, :, None]).real.reshape(size, size)
    scale = np.sqrt(np.abs(np.diag(information)))
    if not (scale > 0).all() or np.linalg.cond(information / np.outer(scale, scale)) > 1e13:
        raise ValueError(
            f"{where}: these directions and powers leave the angles undetermined: sources in one place, a source of no "
            "power, or one along the line or in the plane of the array"
        )
    bound = np.linalg.inv(information) * (variance / (2 * length))
    return (bound + bound.T) / 2


def direction_bound(
    array: SensorArray,
    directions: Any,
    source_covariance: Any,
    snapshots: int,
    *,
    noise: float = 1.0,
    kind: str = "stochastic",
) -> np.ndarray:
    """The smallest root-mean-square error of each direction, radians: float64 (K,). Of a line the standard deviation of
    the angle; of a plane of the angle between true and estimated direction, sqrt(cos^2 el var az + var el). Arguments
    and errors as of :func:`cramer_rao`."""
    bound = cramer_rao(array, directions, source_covariance, snapshots, noise=noise, kind=kind)
    variances = np.diag(bound).reshape(-1, array.angles)
    if array.angles == 1:
        return np.sqrt(variances[:, 0])
    flat = np.cos(np.asarray(directions, np.float64)[:, 1])
    return np.sqrt(flat**2 * variances[:, 0] + variances[:, 1])


def _powers(where: str, given: Any, count: int) -> np.ndarray:
    power = np.asarray(checks.unmasked(where, "source_covariance", given), np.complex128)
    if power.ndim < 2:
        if power.ndim == 1 and len(power) != count:
            raise ValueError(f"{where}: source_covariance must be of {count} sources, got {len(power)} powers")
        power = np.diag(np.broadcast_to(power, count))
    if power.shape != (count, count):
        raise ValueError(f"{where}: source_covariance must have the shape {(count, count)}, got {power.shape}")
    if not np.isfinite(power).all() or np.abs(power - power.conj().T).max() > 1e-9 * np.abs(power).max():
        raise ValueError(f"{where}: source_covariance must be finite and Hermitian")
    return power
