"""Pictures as PNG, where matplotlib is installed: spectra with the true directions, errors over the SNR."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loopos import checks
from loopos.files import durable

from .arrays import ULA, URA
from .evaluation import Row
from .music import music_spectrum
from .network import CovarianceNetwork
from .sample import sample_covariance
from .simulation import Samples
from .trained import estimate

COLOURS = ("#1f5fa8", "#c8541f", "#3f8f4f", "#8a4fa8", "#777777")
FLOOR = -50.0  # dB below the highest peak: what lies deeper is shown as that


def spectrum_picture(
    path: str | os.PathLike,
    covariances: np.ndarray | Mapping[str, np.ndarray],
    array: ULA | URA,
    sources: int,
    *,
    directions: Any = None,
    title: str = "MUSIC spectrum",
    points: int = 721,
) -> Path:
    """Draws the MUSIC spectra of one scene into the PNG ``path``: of a line a curve for each of the ``covariances`` (N,
    N), by name or one alone, of a plane a map over azimuth and elevation for each. True ``directions``, (K,) or (K, 2)
    in radians, are marked. Heights are decibels below the highest peak of each; degrees are shown. ``points`` of the
    angle, of a map a fifth along each side. Without matplotlib: ImportError with what to install."""
    figure_type = figure_class()
    given = covariances if isinstance(covariances, Mapping) else {"": covariances}
    checks.count("spectrum_picture", "points", points, low=10, high=100_000)
    wide = not isinstance(array, ULA)
    panels = len(given) if wide else 1
    figure = figure_type(figsize=(5.2 * panels + 0.6, 4.6) if wide else (9, 4.2), layout="constrained")
    figure.suptitle(title)
    every = figure.subplots(1, panels, squeeze=False)[0]
    angles = np.linspace(-np.pi / 2, np.pi / 2, points // 5 if wide else points)
    marked = None if directions is None else np.degrees(array.directions(directions, "spectrum_picture"))
    lowest = 0.0
    for place, (name, covariance) in enumerate(given.items()):
        if not wide:
            curve = _decibels(music_spectrum(covariance, array, sources, angles))
            every[0].plot(np.degrees(angles), curve, color=COLOURS[place % len(COLOURS)], label=name, linewidth=1.3)
            continue
        grid = np.stack(np.meshgrid(angles, angles), -1)
        flat = _decibels(music_spectrum(covariance, array, sources, grid.reshape(-1, 2)))
        shown = every[place].pcolormesh(np.degrees(angles), np.degrees(angles), flat.reshape(grid.shape[:2]))
        lowest = min(lowest, float(flat.min()))
        every[place].set(xlabel="azimuth (degrees)", ylabel="elevation (degrees)", title=name)
        if marked is not None:
            every[place].plot(*marked.T, "o", mfc="none", mec="white", ms=11, mew=1.4, label="true")
        if place == panels - 1:
            for axes in every:
                axes.collections[0].set_clim(lowest, 0)  # one scale for all
            figure.colorbar(shown, ax=every.tolist(), label="dB below the peak")
    if not wide:
        for number, each in enumerate([] if marked is None else marked):
            every[0].axvline(each, color="#333333", linestyle="--", linewidth=0.9, label="" if number else "true")
        every[0].set(xlabel="direction (degrees)", ylabel="dB below the peak", xlim=(-90, 90))
        _tidy(every[0], legend=any(given) or marked is not None)
    return _write(figure, path)


def error_picture(
    path: str | os.PathLike, rows: Sequence[Row], *, title: str = "Error of directions and Cramér-Rao bound"
) -> Path:
    """Draws the rows of a sweep into the PNG ``path``: the root-mean-square error in degrees over the SNR, a panel for
    each number of snapshots, a curve for each estimate, the bound dashed. Estimates whose errors are the same curve
    share it. Rows without an SNR, or none: ValueError; without matplotlib: ImportError with what to install."""
    figure_type = figure_class()
    if not rows or any(row.snr is None for row in rows):
        raise ValueError("error_picture: rows must be those of a sweep, each with its SNR")
    lengths = sorted({row.snapshots for row in rows})
    figure = figure_type(figsize=(4.6 * len(lengths) + 0.8, 4.2), layout="constrained")
    figure.suptitle(title)
    for axes, length in zip(figure.subplots(1, len(lengths), squeeze=False, sharey=True)[0], lengths, strict=True):
        here = [row for row in rows if row.snapshots == length]
        curves: dict[tuple, list[str]] = {}
        for name in dict.fromkeys(row.estimate for row in here):
            points = sorted((row.snr, float(np.degrees(row.rmse))) for row in here if row.estimate == name)
            curves.setdefault(tuple((x, float(f"{y:.4g}")) for x, y in points), []).append(name)
        for place, (points, names) in enumerate(curves.items()):
            axes.semilogy(
                *zip(*points, strict=True), "o-", ms=4, color=COLOURS[place % len(COLOURS)], label=", ".join(names)
            )
        bounds = sorted({(row.snr, float(np.degrees(row.bound))) for row in here if row.bound})
        if bounds:
            axes.semilogy(*zip(*bounds, strict=True), "k--", linewidth=1, label="Cramér-Rao bound")
        axes.set(xlabel="SNR (dB)", title=f"{length} snapshots")
        axes.set_ylabel("RMSE (degrees)")
        _tidy(axes, legend=True)
    return _write(figure, path)


def learned_picture(
    path: str | os.PathLike,
    model: CovarianceNetwork,
    samples: Samples,
    index: int = 0,
    *,
    beta: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Path:
    """What training did to a spectrum: :func:`spectrum_picture` of sample ``index`` by the estimate of the network with
    the fresh weights of ``seed``, by that of the ``model`` as it is, and by the sample covariance; the truth is marked.
    ``beta``: of both estimates, instead of the network's own; ``options`` go to spectrum_picture."""
    index = checks.integer("learned_picture", "index", index, low=0, high=len(samples) - 1)
    fresh = CovarianceNetwork(model.config, dtype=model.dtype, seed=seed)
    shown = {
        "before training": estimate(fresh, samples, beta).covariance[index],
        "after training": estimate(model, samples, beta).covariance[index],
        "sample covariance": sample_covariance(samples.snapshots[index]),
    }
    return spectrum_picture(
        path,
        {name: matrix.astype(np.complex128) for name, matrix in shown.items()},
        samples.array,
        int(samples.sources[index]),
        directions=samples.of(index),
        **{"title": _scene(samples, index)} | options,
    )


def _scene(samples: Samples, index: int) -> str:
    sources, length = int(samples.sources[index]), samples.snapshots.shape[1]
    loudness = "" if samples.snr is None else f" of {samples.snr[index]:.3g} dB"
    return f"MUSIC spectrum: {_many(sources, 'source')}{loudness}, {_many(length, 'snapshot')}"


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def figure_class() -> Any:
    """matplotlib's Figure; without matplotlib: ImportError with what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures of loopos.covariance need matplotlib: pip install 'loopos[covariance]'") from None
    return Figure


def _decibels(spectrum: np.ndarray) -> np.ndarray:
    return np.maximum(10 * np.log10(spectrum / spectrum.max()), FLOOR)


def _tidy(axes: Any, *, legend: bool) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e8e8e8", linewidth=0.6)
    if legend:
        axes.legend(frameon=False)


def _write(figure: Any, path: str | os.PathLike) -> Path:
    written = io.BytesIO()
    figure.savefig(written, dpi=110, format="png", metadata={"Software": None})
    durable.write_bytes(Path(path), written.getvalue())
    return Path(path)
