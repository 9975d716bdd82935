"""How many sources: information criteria on the eigenvalues of a covariance."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import checks

from .sample import covariance_of

CRITERIA = ("mdl", "aic", "random_matrix")


def count_sources(covariance: Any, snapshots: int, criterion: str = "mdl") -> int:
    """The number of sources, 0 to N - 1, in one ``covariance`` (N, N) of ``snapshots`` L samples.

    mdl            minimum description length: - log likelihood + k (2 N - k) log(L) / 2 is smallest, where the log
                   likelihood of k sources is L (N - k) log(geometric / arithmetic mean of the N - k smallest
                   eigenvalues); finds the number as L grows
    aic            the same with the penalty k (2 N - k); takes too many in the long run
    random_matrix  for L below or near N, where the others fail: the excess of the noise eigenvalues' spread over that
                   of a sample covariance of white noise (Nadakuditi, Edelman 2008)

    Independent sources are presupposed: coherent ones count as one, unless smoothing tells them apart. mdl and aic of
    a covariance with an eigenvalue that is not above 0, which any sample covariance with L < N has: ValueError. Source:
    Wax, Kailath 1985."""
    where = "count_sources"
    checked = covariance_of(where, covariance)
    if checked.ndim != 2:
        raise ValueError(f"{where}: one covariance (N, N) at a time, got {checked.shape}")
    length = checks.count(where, "snapshots", snapshots)
    checks.choice(where, "criterion", criterion, CRITERIA)
    values, complex_data = np.linalg.eigvalsh(checked)[::-1], checked.dtype.kind == "c"
    if criterion == "random_matrix":
        return _by_spread(values, length, 2 if complex_data else 1)
    sensors = len(values)
    if values[-1] <= 1e-13 * values[0]:
        raise ValueError(
            f"{where}: {criterion!r} takes the logarithm of every eigenvalue, and the smallest of the {sensors} is "
            f"{values[-1]:.3g}: {length} snapshots of {sensors} sensors may be too few. Shrink the covariance (oas), "
            "or take criterion='random_matrix'"
        )
    scores = []
    for sources in range(sensors):
        noise = values[sources:]
        likelihood = length * (np.log(noise).sum() - len(noise) * np.log(noise.mean()))
        free = sources * (2 * sensors - sources) if complex_data else sources * (2 * sensors - sources + 1) / 2
        scores.append(-likelihood + free * (np.log(length) / 2 if criterion == "mdl" else 1))
    return int(np.argmin(scores))


def _by_spread(values: np.ndarray, length: int, beta: int) -> int:
    """Nadakuditi and Edelman, IEEE Trans. Signal Processing 56 (2008), equations 18 and 19; beta 1 real, 2 complex."""
    sensors, scores = len(values), []
    for sources in range(min(sensors, length)):
        noise = values[sources:]
        spread = len(noise) * np.square(noise).sum() / np.square(noise.sum()) - (1 + sensors / length)
        excess = sensors * spread - (2 / beta - 1) * sensors / length
        scores.append(beta / 4 * (length / sensors * excess) ** 2 + 2 * (sources + 1))
    return int(np.argmin(scores))
