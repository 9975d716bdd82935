"""Covariances of snapshots: the sample covariance, its forward-backward average, and spatial smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .arrays import ULA, URA


def sample_covariance(snapshots: Any, *, centred: bool = False) -> np.ndarray:
    """R = (1 / L) sum_l x_l x_lᴴ of ``snapshots`` (..., L, N): complex128 (..., N, N), float64 of real ones, Hermitian
    to the last bit. Row l is x_l, so R_ij is the mean of x_i conj(x_j): of the matrix X of rows this is Xᵀ conj(X) / L,
    and Xᴴ X / L would be its conjugate. ``centred=True`` takes the mean off and divides by L - 1 (of L = 1 by 1).
    Numbers that are not finite, or no snapshots: ValueError."""
    where = "sample_covariance"
    rows = np.asarray(checks.unmasked(where, "snapshots", snapshots))
    if rows.dtype.kind not in "fciu" or rows.ndim < 2 or not rows.shape[-2] or not rows.shape[-1]:
        raise ValueError(f"{where}: snapshots must be numbers (..., L, N), got {rows.shape} of {rows.dtype}")
    if not np.isfinite(rows).all():
        first = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(f"{where}: snapshots must be finite; the first that is not stands at {first.tolist()}")
    rows = rows.astype(np.complex128 if rows.dtype.kind == "c" else np.float64)
    length = rows.shape[-2]
    if centred:
        rows, length = rows - rows.mean(-2, keepdims=True), max(length - 1, 1)
    return _hermitian(np.swapaxes(rows, -1, -2) @ rows.conj() / length)


def forward_backward(covariance: Any) -> np.ndarray:
    """(R + J conj(R) J) / 2 of ``covariance`` (..., N, N), J the exchange matrix: of an array that is its own mirror
    image (lines, planes) the average has the same directions, and two coherent sources count as two."""
    checked = covariance_of("forward_backward", covariance)
    return (checked + checked[..., ::-1, ::-1].conj()) / 2


def smoothed(
    covariance: Any, array: ULA | URA, size: int | tuple[int, int] | None = None, *, backward: bool = True
) -> tuple[np.ndarray, ULA | URA]:
    """Spatial smoothing: the mean of the covariances of all subarrays of ``size`` sensors, a line, or (rows, columns),
    a plane; ``backward`` averages with :func:`forward_backward` too. Returns the covariance (..., n, n) and the
    subarray, which takes the place of the array in every estimator.

    Coherent sources, which make the signal part singular, are told apart by a subarray of more than K sensors when
    there are at least K of them (K / 2 with ``backward``). ``size=None``: about two thirds of each side. Source: Shan,
    Wax, Kailath 1985; Pillai, Kwon 1989. A size that does not fit: ValueError."""
    checked = covariance_of("smoothed", covariance, array)
    sides = (1, array.sensors) if isinstance(array, ULA) else (array.rows, array.columns)
    if size is None:
        wanted = tuple(-(-2 * (side + 1) // 3) if side > 2 else side for side in sides)
    else:
        wanted = (1, size) if isinstance(array, ULA) else size
    if not isinstance(wanted, tuple) or len(wanted) != 2:
        raise ValueError(f"smoothed: size must be (rows, columns) of a plane, got {checks.shown(size)}")
    rows, columns = (
        checks.integer("smoothed", "size", part, low=1, high=side) for part, side in zip(wanted, sides, strict=True)
    )
    full = checked.reshape(*checked.shape[:-2], *sides, *sides)
    total: Any = 0
    for row in range(sides[0] - rows + 1):
        for column in range(sides[1] - columns + 1):
            down, across = slice(row, row + rows), slice(column, column + columns)
            total = total + full[..., down, across, down, across]
    mean = total.reshape(*checked.shape[:-2], rows * columns, rows * columns)
    mean = mean / ((sides[0] - rows + 1) * (sides[1] - columns + 1))
    part = ULA(columns, array.spacing) if isinstance(array, ULA) else URA(rows, columns, array.spacing)
    return (forward_backward(mean) if backward else mean), part


def covariance_of(where: str, covariance: Any, array: ULA | URA | None = None) -> np.ndarray:
    """``covariance`` as complex128 (float64 of a real one), made Hermitian; not square, not the array's size or not
    finite: ValueError."""
    checked = np.asarray(checks.unmasked(where, "covariance", covariance))
    if checked.dtype.kind not in "fciu" or checked.ndim < 2 or checked.shape[-1] != checked.shape[-2]:
        raise ValueError(
            f"{where}: covariance must be numbers (..., N, N), got {checked.shape} of {checked.dtype}; of snapshots "
            "sample_covariance makes one"
        )
    if array is not None and checked.shape[-1] != array.sensors:
        raise ValueError(f"{where}: covariance is of {checked.shape[-1]} sensors, the array has {array.sensors}")
    if not np.isfinite(checked).all():
        raise ValueError(f"{where}: covariance must be finite")
    return _hermitian(checked.astype(np.complex128 if checked.dtype.kind == "c" else np.float64))


def _hermitian(matrix: np.ndarray) -> np.ndarray:
    return (matrix + np.swapaxes(matrix, -1, -2).conj()) / 2
