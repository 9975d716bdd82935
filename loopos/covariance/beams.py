"""What a uniform line or plane sees through beams: the rows that a network with ``prediction="powers"`` reads, and the
directions that it gives powers to.

Along an axis of n sensors the phase from one to the next, w, is that of a wave; -pi <= w < pi are all there are. Beam k
= 0..n-1 looks at w = 2 pi (k + 1/2) / n - pi: n beams that are orthogonal. Phases count from the middle of the array,
so that a beam's answer to a wave is real, and changes its sign from one side lobe to the next. A plane of rows x
columns has the products of its axes' beams, row by row as its sensors; a line is a plane of one row. Source of
processing in beam space: Van Trees, Optimum Array Processing (2002), chapter 3.10."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

COMPRESSED = 0.3  # below it a product is nearly taken as it is, above it nearly its root


def reaches(shape: tuple[int, int], reach: int) -> tuple[int, int]:
    """Neighbours on either side along each axis: no beam is met twice, but for the two ends of an even axis."""
    return tuple(min(reach, sensors // 2) for sensors in shape)


def channels(shape: tuple[int, int], reach: int) -> int:
    """Numbers of a row: real and imaginary parts of the products with the neighbours."""
    up, across = reaches(shape, reach)
    return 2 * (2 * up + 1) * (2 * across + 1)


def beam_rows(snapshots: np.ndarray, shape: tuple[int, int], reach: int) -> np.ndarray:
    """The sample covariance of the beams, a row for each: row g of sample b has

        r(d) = (1/L) Σ_l conj(y_g(l)) y_(g+d)(l),   y_g = aᴴ(g) x / sqrt(N),

    for the neighbours d within ``reach`` of g, compressed to r / sqrt(|r| + 0.3). So a row says what stands where as
    seen from its own beam, and the same weights read all of them. snapshots: complex (B, L, N) of mean power 1. Real
    (B, N, 2 D): the real parts, then the imaginary, in the precision of the snapshots. No BLAS: its bits depend on its
    threads."""
    rows, columns = shape
    up, across = reaches(shape, reach)
    batch, length = snapshots.shape[:2]
    dtype = snapshots.dtype
    x = snapshots.reshape(batch, length, rows, columns)
    y = np.einsum("blrc,cu->blru", x, _beams(columns, across).astype(dtype))
    y = np.einsum("blru,rv->blvu", y, _beams(rows, up).astype(dtype))
    middle = y[:, :, up : up + rows, across : across + columns]
    found = np.empty((batch, rows, columns, 2 * up + 1, 2 * across + 1), dtype)
    for i in range(2 * up + 1):
        for j in range(2 * across + 1):
            other = y[:, :, i : i + rows, j : j + columns]
            found[..., i, j] = np.einsum("blvu,blvu->bvu", middle.conj(), other) / dtype.type(length)
    found /= np.sqrt(np.abs(found) + found.real.dtype.type(COMPRESSED))
    found = found.reshape(batch, rows * columns, (2 * up + 1) * (2 * across + 1))
    return np.concatenate([found.real, found.imag], axis=-1)


@lru_cache(maxsize=16)
def steering(shape: tuple[int, int], points: int, dtype: str = "complex128") -> np.ndarray:
    """The steering vectors (G, N) of the directions that get powers: ``points`` of each beam along an axis of more than
    one sensor, beam by beam, evenly inside it. Not to be written to."""
    inside = [np.zeros(1) if n == 1 else ((np.arange(points) + 0.5) / points - 0.5) * 2 * np.pi / n for n in shape]
    places = [_phases(n)[:, None] + one for n, one in zip(shape, inside, strict=True)]  # (beams, points)
    up, across = (np.exp(1j * p[..., None] * _middle(n)) for n, p in zip(shape, places, strict=True))
    vectors = np.einsum("gpr,hqc->ghpqrc", up, across).reshape(-1, shape[0] * shape[1]).astype(dtype)
    vectors.setflags(write=False)
    return vectors


def _phases(sensors: int, around: int = 0) -> np.ndarray:
    """w of the beams, and of ``around`` more on either side."""
    if sensors == 1:
        return np.zeros(1)
    return 2 * np.pi * (np.arange(-around, sensors + around) + 0.5) / sensors - np.pi


def _middle(sensors: int) -> np.ndarray:
    return np.arange(sensors) - (sensors - 1) / 2


def _beams(sensors: int, around: int) -> np.ndarray:
    """conj(a) / sqrt(n) of the beams (n, n + 2 around)."""
    return np.exp(-1j * np.outer(_middle(sensors), _phases(sensors, around))) / np.sqrt(sensors)
