"""Samples in files of others: ``.npy``, ``.npz`` and MATLAB's ``.mat`` (version 5), alone or in a folder."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks

from .arrays import RIGHT_ANGLE, SensorArray
from .simulation import Samples

SNAPSHOTS, COVARIANCE, ANGLES = "snapshots", "covariance", "angles"
PARTS = (SNAPSHOTS, COVARIANCE, ANGLES)
SUFFIXES = (".npy", ".npz", ".mat")


def read_samples(
    path: str | os.PathLike,
    array: SensorArray,
    *,
    names: dict[str, str] | None = None,
    degrees: bool = False,
    sensors_first: bool = False,
    length: int | None = None,
) -> Samples:
    """The samples of a file, or of all files of a folder in the order of their names, as one :class:`Samples`.

    A file has snapshots or covariances, and the angles of the sources beside them:

    snapshots   complex (L, N), or (B, L, N): several samples. (N, L) and (B, N, L) with ``sensors_first=True``
    covariance  complex Hermitian (N, N) or (B, N, N): R_ij of E[x_i conj(x_j)]
    angles      real (K,) or (B, K) of a line, (K, 2) or (B, K, 2), azimuth and elevation, of a plane. Radians, or
                degrees with ``degrees=True``. NaN where a sample has fewer sources

    ``.npz`` and ``.mat`` hold them under these names, or those that ``names`` gives: ``{"snapshots": "X", "angles":
    "doa"}``. Of ``.npy`` there are two files: ``a.npy`` (or ``a.snapshots.npy``, ``a.covariance.npy``) and
    ``a.angles.npy``. ``length`` takes the first so many snapshots of each sample; without it all must have as many.

    ``.mat`` needs scipy (``pip install 'loopos[covariance]'``): ImportError without. No file, or nothing to read in a
    folder: FileNotFoundError. What does not fit, with the file and what to do, and rows of snapshots that are not
    finite, by number: ValueError. Nothing of a file is executed: no pickle."""
    where = "read_samples"
    if not isinstance(array, SensorArray):
        raise TypeError(f"{where}: array must be a ULA or a URA, got {checks.shown(array)}")
    if length is not None:
        checks.count(where, "length", length)
    called = {part: part for part in PARTS}
    for part, name in (names or {}).items():
        called[checks.choice(where, "names", part, PARTS)] = name
    read = []
    for file, given in _files(Path(path), called):
        read.append(_sample(file, given, array, degrees=degrees, sensors_first=sensors_first, length=length))
        first, last = read[0], read[-1]
        for part in (SNAPSHOTS, COVARIANCE):
            here, there = last.get(part), first.get(part)
            if (here is None) != (there is None) or (here is not None and here.shape[1:] != there.shape[1:]):
                said = "length=... takes the first snapshots of each" if part == SNAPSHOTS else "read them apart"
                raise ValueError(
                    f"{file}: {_told(part, here)}, and {first['file']} {_told(part, there)}: samples of one call must "
                    f"be alike; {said}"
                )
    angles = [one[ANGLES] for one in read]
    most = max(one.shape[1] for one in angles)
    directions = np.full((sum(map(len, angles)), most, *angles[0].shape[2:]), np.nan)
    at = 0
    for one in angles:
        directions[at : at + len(one), : one.shape[1]] = one
        at += len(one)
    present = np.isfinite(directions).reshape(len(directions), most, -1).all(2)
    joined = {part: np.concatenate([one[part] for one in read]) for part in PARTS[:2] if part in read[0]}
    return Samples(array, joined.get(SNAPSHOTS), directions, present.sum(1), measured=joined.get(COVARIANCE))


def _told(part: str, found: np.ndarray | None) -> str:
    return f"has no {part}" if found is None else f"has {part} of the shape {found.shape[1:]}"


def _files(path: Path, called: dict[str, str]) -> list[tuple[Path, dict[str, Any]]]:
    """(file, what it and those that belong to it hold) of every sample file."""
    if not path.exists():
        raise FileNotFoundError(f"read_samples: {path} does not exist")
    inside = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
    found = []
    for file in inside:
        if file.suffix.lower() != ".npy":
            found.append((file, _several(file, called)))
            continue
        part, beside = _place(file)
        if part != ANGLES:
            found.append((file, {part: _array(file), **({ANGLES: _array(beside)} if beside.exists() else {})}))
    if not found:
        raise FileNotFoundError(f"read_samples: {path} has no .npy, .npz or .mat file with snapshots or covariances")
    return found


def _place(file: Path) -> tuple[str, Path]:
    """Which part a ``.npy`` file is, and where the angles lie: a.npy and a.covariance.npy have a.angles.npy beside
    them, snapshots.npy has angles.npy."""
    base, dot, part = file.stem.rpartition(".")
    if part not in PARTS:
        base, dot, part = file.stem, ".", SNAPSHOTS
    return part, file.with_name(f"{base}{dot}{ANGLES}.npy")


def _array(file: Path) -> np.ndarray:
    try:
        with open(file, "rb") as opened:
            return np.lib.format.read_array(opened, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file}: not a .npy file of numbers ({error})") from None


def _several(file: Path, called: dict[str, str]) -> dict[str, Any]:
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{file}: samples are read from .npy, .npz and .mat files")
    if suffix == ".npz":
        if not zipfile.is_zipfile(file):  # numpy.load would take it for something else
            raise ValueError(f"{file}: not a .npz file of numbers (it is no archive)")
        try:
            with np.load(file, allow_pickle=False) as opened:
                held = {name: opened[name] for name in opened.files if name in called.values()}
                every = opened.files
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{file}: not a .npz file of numbers ({error})") from None
    else:
        held = _matlab(file)
        every = list(held)
    given = {part: held[name] for part, name in called.items() if name in held}
    if not given:
        wanted = ", ".join(repr(name) for name in called.values())
        raise ValueError(f"{file}: holds {every}, none of {wanted}; names={{...}} says what is what")
    return given


def _matlab(file: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError(f"{file}: reading .mat files needs scipy: pip install 'loopos[covariance]'") from None
    try:
        read = loadmat(file)
    except NotImplementedError:
        raise ValueError(f"{file}: a .mat file of version 7.3 (HDF5); save it with -v7 in MATLAB") from None
    except Exception as error:  # of a damaged file scipy raises whatever it met
        raise ValueError(f"{file}: not a .mat file of version 5 ({type(error).__name__}: {error})") from None
    return {name: value for name, value in read.items() if not name.startswith("__")}


def _sample(
    file: Path, given: dict[str, Any], array: SensorArray, *, degrees: bool, sensors_first: bool, length: int | None
) -> dict[str, Any]:
    """``given`` checked: snapshots (B, L, N), covariance (B, N, N), angles (B, K) or (B, K, 2)."""
    if ANGLES not in given:
        if file.suffix.lower() == ".npy":
            raise ValueError(f"{file}: needs {_place(file)[1].name} beside it, the directions of the sources")
        raise ValueError(f"{file}: has no {ANGLES!r}, the directions of the sources; names={{...}} says what is what")
    checked: dict[str, Any] = {"file": file}
    if SNAPSHOTS in given:
        checked[SNAPSHOTS] = _snapshots(file, given[SNAPSHOTS], array.sensors, sensors_first, length)
    elif COVARIANCE in given:
        checked[COVARIANCE] = _covariance(file, given[COVARIANCE], array.sensors)
    else:
        raise ValueError(f"{file}: has neither {SNAPSHOTS!r} nor {COVARIANCE!r}")
    count = len(checked.get(SNAPSHOTS, checked.get(COVARIANCE)))
    checked[ANGLES] = _angles(file, given[ANGLES], array.angles, count, degrees)
    return checked


def _numbers(file: Path, part: str, given: Any, *, complex_only: bool) -> np.ndarray:
    found = np.asarray(given)
    if found.dtype.kind not in "fciu" or (complex_only and found.dtype.kind != "c"):
        hint = ""
        if found.dtype.kind in "fiu":
            hint = "; of real and imaginary parts in two channels make one: x[..., 0] + 1j * x[..., 1]"
        raise ValueError(f"{file}: {part} must be {'complex ' * complex_only}numbers, got {found.dtype}{hint}")
    return found


def _snapshots(file: Path, given: Any, sensors: int, sensors_first: bool, length: int | None) -> np.ndarray:
    found = _numbers(file, SNAPSHOTS, given, complex_only=True)
    if found.ndim not in (2, 3) or not found.size:
        raise ValueError(f"{file}: snapshots must have the shape (L, N) or (B, L, N), got {found.shape}")
    shape, found = found.shape, found[None] if found.ndim == 2 else found
    if sensors_first:
        found = np.swapaxes(found, 1, 2)
    if found.shape[2] != sensors:
        other = found.shape[1] == sensors
        turn = f"; sensors_first={not sensors_first} reads the axes the other way round" if other else ""
        raise ValueError(f"{file}: snapshots {shape} are of {found.shape[2]} sensors, the array has {sensors}{turn}")
    if length is not None:
        if found.shape[1] < length:
            raise ValueError(f"{file}: has {found.shape[1]} snapshots a sample, length={length} asks for more")
        found = found[:, :length]
    bad = np.argwhere(~np.isfinite(found).all(2))
    if len(bad):
        rows = ", ".join(str(row) for _, row in bad[:5]) + (", ..." if len(bad) > 5 else "")
        of = "" if len(shape) == 2 else f" of sample {bad[0][0]}" if len({b[0] for b in bad}) == 1 else " (of several)"
        raise ValueError(
            f"{file}: snapshots {rows}{of} are not finite: {len(bad)} of {found.shape[0] * found.shape[1]}"
        )
    return found.astype(np.complex64 if found.dtype == np.complex64 else np.complex128)


def _covariance(file: Path, given: Any, sensors: int) -> np.ndarray:
    found = _numbers(file, COVARIANCE, given, complex_only=False).astype(np.complex128)
    shape, found = found.shape, found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[1:] != (sensors, sensors) or not len(found):
        raise ValueError(f"{file}: covariance must have the shape {(sensors, sensors)} or (B, N, N), got {shape}")
    for index, each in enumerate(found):
        if not np.isfinite(each).all():
            row = int(np.flatnonzero(~np.isfinite(each).all(1))[0])
            raise ValueError(f"{file}: covariance {index} is not finite in row {row}")
        if np.abs(each - each.conj().T).max() > 1e-5 * np.abs(each).max():
            raise ValueError(f"{file}: covariance {index} is not Hermitian: R_ij must be the conjugate of R_ji")
    return (found + np.swapaxes(found, 1, 2).conj()) / 2


def _angles(file: Path, given: Any, angles: int, count: int, degrees: bool) -> np.ndarray:
    found = _numbers(file, ANGLES, given, complex_only=False)
    if found.dtype.kind == "c":
        raise ValueError(f"{file}: angles must be real, got {found.dtype}")
    shape, found = found.shape, found.astype(np.float64)
    if found.ndim == angles:
        found = found[None]
    elif angles == 1 and found.ndim == 2 and count == 1 and found.shape[1] == 1:
        found = found.T  # MATLAB's column
    if found.ndim != angles + 1 or len(found) != count or (angles == 2 and found.shape[2] != 2) or not found.shape[1]:
        wanted = "(K,) or (B, K)" if angles == 1 else "(K, 2) or (B, K, 2)"
        raise ValueError(f"{file}: angles must have the shape {wanted} with B = {count}, got {shape}")
    if degrees:
        found = np.deg2rad(found)
    if np.isinf(found).any() or np.nanmax(np.abs(found), initial=0.0) > RIGHT_ANGLE + 1e-6:
        worst = float(np.nanmax(np.abs(found)))
        hint = "" if degrees or worst > 200 else "; degrees=True reads degrees"
        raise ValueError(f"{file}: angles must lie from -pi/2 to pi/2, got {worst:g} radians{hint}")
    rows = found if angles == 1 else found.sum(2)
    first = found if angles == 1 else np.where(np.isnan(rows), np.nan, found[..., 0])
    order = np.argsort(first, axis=1, kind="stable")  # NaN, of either angle, last
    if np.isnan(rows).all(1).any():
        raise ValueError(f"{file}: sample {int(np.flatnonzero(np.isnan(rows).all(1))[0])} has no angle")
    return np.clip(np.take_along_axis(found, order if angles == 1 else order[..., None], 1), -RIGHT_ANGLE, RIGHT_ANGLE)
