"""How good covariances are: directions found with them, sources counted, beside what is known and what is possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loopos import checks

from .arrays import ULA, URA
from .bounds import direction_bound
from .counting import CRITERIA, count_sources
from .esprit import esprit
from .matching import direction_errors, root_mean_square
from .music import music
from .root_music import root_music
from .sample import covariance_of, sample_covariance, smoothed
from .shrinkage import ledoit_wolf, oas
from .simulation import Samples, Simulation

FINDERS: dict[str, Callable[..., np.ndarray]] = {"music": music, "root_music": root_music, "esprit": esprit}
BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sample": sample_covariance,
    "ledoit_wolf": lambda snapshots: ledoit_wolf(snapshots).covariance,
    "oas": lambda snapshots: oas(sample_covariance(snapshots), snapshots.shape[-2]).covariance,
}
Estimates = np.ndarray | Mapping[str, np.ndarray] | None


@dataclass(frozen=True)
class Row:
    """What one estimate of the covariance gave over a set of samples. Angles are radians.

    estimate    its name: "sample", "ledoit_wolf", "oas", "predicted", "true"
    snr         mean over the samples, dB; None where it is not known
    snapshots   L; 0 where covariances alone are known
    samples     how many
    finder      what found the directions
    rmse        root of the mean squared error of all directions of all samples; of a plane of the angle between true
                and estimated direction
    rmspe       the same as SubspaceNet has it, of a line: errors brought to -pi/2 .. pi/2, the root for each sample,
                then the mean; None of a plane
    outliers    share of the directions that are more than half a beamwidth off: what an error of the threshold is
    counted     share of the samples whose number of sources is counted right; None where the criterion is not defined
    bound       the stochastic Cramér-Rao bound, root of its mean square over the same directions, of each no more than
                pi / sqrt(12), the error of a guess: towards the ends of a line it grows without end, while errors do
                not, so that an estimator may lie below it there. None where the truth that it takes is not known
    distance    mean of ||R - R_true|| / ||R_true||, Frobenius, both brought to trace N; None without R_true, of a
                smoothed covariance, and where a trace is not positive"""

    estimate: str
    snr: float | None
    snapshots: int
    samples: int
    finder: str
    rmse: float
    rmspe: float | None
    outliers: float
    counted: float | None
    bound: float | None
    distance: float | None


def evaluate(
    samples: Samples,
    predicted: Estimates = None,
    *,
    finder: str | None = None,
    smoothing: bool | int | tuple[int, int] = False,
    criterion: str = "mdl",
    baselines: Sequence[str] = ("sample", "ledoit_wolf", "oas"),
) -> list[Row]:
    """A row for each covariance: the ``predicted`` ones, then the ``baselines`` made of the same snapshots.

    samples    of a :class:`Simulation` or a folder
    predicted  complex (B, N, N), or several by name, each in the scale it has: R_ij of E[x_i conj(x_j)]
    finder     "root_music" (None: of a line), "music" (None: of a plane) or "esprit"; it is told how many sources there
               are
    smoothing  False, or of the baselines alone spatial smoothing: True or a size, for coherent sources
    criterion  of :func:`count_sources`, which takes the covariance as it is
    baselines  of "sample", "ledoit_wolf", "oas", and "true", the covariance that a simulation knows

    **Shrinkage towards a multiple of I leaves eigenvectors and their order as they are**, so that all three finders
    give the same directions for "sample", "ledoit_wolf" and "oas" (unless the weight is 1 and nothing of the sample is
    left): these differ in distance and in the number of sources. A predicted covariance of another shape or not finite,
    which is named by its sample: ValueError."""
    where = "evaluate"
    if not isinstance(samples, Samples):
        raise TypeError(f"{where}: samples must be Samples, got {checks.shown(samples)}")
    line = isinstance(samples.array, ULA)
    name = checks.choice(where, "finder", finder or ("root_music" if line else "music"), list(FINDERS))
    checks.choice(where, "criterion", criterion, CRITERIA)
    for baseline in baselines:
        checks.choice(where, "baselines", baseline, [*BASELINES, "true"])
    given = {} if predicted is None else predicted if isinstance(predicted, Mapping) else {"predicted": predicted}
    rows = [
        _row(samples, each, _checked(each, covariance, samples), samples.array, name, criterion)
        for each, covariance in given.items()
    ]
    for each in baselines:
        covariance, array = _baseline(each, samples), samples.array
        if smoothing is not False:
            covariance, array = smoothed(covariance, array, None if smoothing is True else smoothing)
        rows.append(_row(samples, each, covariance, array, name, criterion))
    return rows


def sweep(
    simulation: Simulation,
    predict: Callable[[Samples], Estimates] | None = None,
    *,
    snr: Sequence[float] = (-10.0, 0.0, 10.0),
    snapshots: Sequence[int] = (32, 100),
    count: int = 100,
    first: int = 0,
    **options: Any,
) -> list[Row]:
    """:func:`evaluate` over ``snr`` (dB) and ``snapshots``: rows for each pair, snapshots outermost. All of them are of
    samples ``first`` .. ``first`` + ``count`` - 1, with the same directions, signals and noise. ``predict`` takes the
    Samples and gives what :func:`evaluate` takes as ``predicted``; ``options`` go to it."""
    rows = []
    for length in snapshots:
        for decibels in snr:
            samples = replace(simulation, snr=decibels, snapshots=length).samples(first, count)
            rows += evaluate(samples, None if predict is None else predict(samples), **options)
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as a text for people: angles in degrees, errors also as a multiple of the bound, and those of a line as
    SubspaceNet tells them, in radians."""
    line = ["RMSPE rad"] if any(row.rmspe is not None for row in rows) else []
    head = ("snapshots", "SNR dB", "covariance", "by", "RMSE deg", *line, "x bound", "outliers", "counted", "distance")
    lines = [head]
    for row in rows:
        ratio = row.rmse / row.bound if row.bound else math.nan
        degrees = f"{math.degrees(row.rmse):.3g}"
        numbers = (
            degrees,
            *([_shown(row.rmspe, ".3g")] if line else []),
            _shown(ratio, ".2f"),
            _shown(row.outliers, ".1%"),
            _shown(row.counted, ".0%"),
        )
        what = (str(row.snapshots), _shown(row.snr, ".3g"), row.estimate, row.finder)
        lines.append((*what, *numbers, _shown(row.distance, ".3g")))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column in (2, 3) else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _checked(name: str, covariance: Any, samples: Samples) -> np.ndarray:
    found, sensors = np.asarray(covariance), samples.array.sensors
    if found.shape != (wanted := (len(samples), sensors, sensors)):
        raise ValueError(f"evaluate: {name!r} must have the shape {wanted}, got {found.shape}")
    if len(bad := np.flatnonzero(~np.isfinite(found).all((1, 2)))):
        raise ValueError(f"evaluate: {name!r} is not finite in sample {bad[0]} ({len(bad)} of {len(found)} are not)")
    return covariance_of("evaluate", found.astype(np.complex128))


def _baseline(name: str, samples: Samples) -> np.ndarray:
    if name == "true":
        if samples.covariance is None:
            raise ValueError("evaluate: the true covariance of these samples is not known")
        return samples.covariance
    if samples.snapshots is None:
        if name == "sample" and samples.measured is not None:
            return samples.measured
        raise ValueError(
            f"evaluate: {name!r} is made of snapshots, and these samples have none: pass baselines=('sample',)"
        )
    return BASELINES[name](samples.snapshots)


def _row(samples: Samples, estimate: str, covariance: np.ndarray, array: ULA | URA, finder: str, criterion: str) -> Row:
    errors, periodic, counts = [], [], []
    length = 0 if samples.snapshots is None else samples.snapshots.shape[1]
    for index, matrix in enumerate(covariance):
        true = samples.of(index)
        found = FINDERS[finder](matrix, array, len(true))
        errors.append(direction_errors(found, true))
        if true.ndim == 1:
            periodic.append(root_mean_square(direction_errors(found, true, periodic=True)))
        counts.append(_counted(matrix, length, criterion) if length else None)
    known = [number == wanted for number, wanted in zip(counts, samples.sources, strict=True) if number is not None]
    every = np.concatenate(errors)
    return Row(
        estimate=estimate,
        snr=None if samples.snr is None else float(np.mean(samples.snr)),
        snapshots=length,
        samples=len(samples),
        finder=finder,
        rmse=root_mean_square(every),
        rmspe=float(np.mean(periodic)) if periodic else None,
        outliers=float(np.mean(np.abs(every) > samples.array.beamwidth / 2)),
        counted=float(np.mean(known)) if known else None,
        bound=_bound(samples, length),
        distance=_distance(covariance, samples.covariance),
    )


def _counted(matrix: np.ndarray, length: int, criterion: str) -> int | None:
    values = np.linalg.eigvalsh(matrix)
    if criterion != "random_matrix" and values[0] <= 1e-13 * values[-1]:
        return None  # as count_sources refuses it: fewer snapshots than sensors, or an indefinite prediction
    return count_sources(matrix, length, criterion)


def _bound(samples: Samples, length: int) -> float | None:
    if samples.source_covariance is None or samples.noise is None or not length or not samples.arrays:
        return None
    bounds = []
    for index, array in enumerate(samples.arrays):
        sources = samples.sources[index]
        power = samples.source_covariance[index, :sources, :sources]
        bounds.append(direction_bound(array, samples.of(index), power, length, noise=samples.noise))
    return root_mean_square(np.minimum(np.concatenate(bounds), math.pi / math.sqrt(12)))


def _distance(covariance: np.ndarray, true: np.ndarray | None) -> float | None:
    if true is None or covariance.shape != true.shape:
        return None
    traces = [np.trace(each, axis1=1, axis2=2).real[:, None, None] for each in (covariance, true)]
    if min(trace.min() for trace in traces) <= 0:
        return None
    wanted = true / traces[1]
    off = np.linalg.norm(covariance / traces[0] - wanted, axis=(1, 2))
    return float(np.mean(off / np.linalg.norm(wanted, axis=(1, 2))))
