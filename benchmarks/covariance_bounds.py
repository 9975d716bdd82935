"""Classical direction finding beside the Cramér-Rao bound, over SNR and snapshots, and in SubspaceNet's setting.

    python benchmarks/covariance_bounds.py [--trials 400] [--picture bound.png]

First two scenes of fixed directions, 8 sensors in a line and 12 x 12 in a plane: the root-mean-square error of MUSIC,
root-MUSIC and ESPRIT (all shifts, and the textbook's shift of 1) as a multiple of the stochastic bound. A ratio of n
trials and k sources has a relative deviation of about 1 / (2 sqrt(n k)); far above 1 the SNR is below the threshold.
Then SubspaceNet's setting in its decibels and in true ones, mean RMSPE in radians. Every number is a function of the
seed 0."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from loopos.covariance import (
    ULA,
    URA,
    Samples,
    Simulation,
    direction_bound,
    direction_errors,
    error_picture,
    esprit,
    evaluate,
    music,
    root_mean_square,
    root_music,
    sample_covariance,
    subspacenet,
)

LINE = Simulation(ULA(8), directions=[-0.3, 0.25])
PLANE = Simulation(URA(12, 12), directions=[[-0.4, 0.1], [0.45, -0.3], [0.1, 0.35]])
FINDERS: dict[str, Callable[..., np.ndarray]] = {
    "MUSIC": music,
    "root-MUSIC": root_music,
    "ESPRIT": esprit,
    "ESPRIT, shift 1": lambda covariance, array, sources: esprit(covariance, array, sources, displacement=1),
}


def ratios(samples: Samples) -> tuple[float, dict[str, float]]:
    """The bound in radians, and the error of each finder over it."""
    array, true = samples.array, samples.of(0)
    power = samples.source_covariance[0]
    bound = root_mean_square(direction_bound(array, true, power, samples.snapshots.shape[1]))
    covariances = sample_covariance(samples.snapshots)
    found = {}
    for name, finder in FINDERS.items():
        if finder is not root_music or isinstance(array, ULA):
            errors = [direction_errors(finder(each, array, len(true)), true) for each in covariances]
            found[name] = root_mean_square(errors) / bound
    return bound, found


def scene(title: str, simulation: Simulation, snrs: list[float], snapshots: list[int], trials: int) -> None:
    print(f"\n{title}, {trials} trials: error / bound")
    print(f"{'snapshots':>9} {'SNR dB':>6} {'bound deg':>9}  " + "  ".join(f"{name:>15}" for name in FINDERS))
    for length in snapshots:
        for snr in snrs:
            bound, found = ratios(replace(simulation, snr=snr, snapshots=length).samples(0, trials))
            cells = "  ".join(f"{found[name]:15.3f}" if name in found else f"{'-':>15}" for name in FINDERS)
            print(f"{length:9d} {snr:6.0f} {np.degrees(bound):9.4f}  {cells}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--picture", help="a PNG of the first scene's errors over the SNR")
    options = parser.parse_args(arguments)
    scene("8 sensors, 2 sources", LINE, [-15, -10, -5, 0, 5, 10, 20], [50, 200], options.trials)
    scene("12 x 12 sensors, 3 sources", PLANE, [-20, -15, -10, 0, 10], [32, 144], max(1, options.trials // 4))

    print(f"\nSubspaceNet's setting, nominal 10 dB, {options.trials} samples: mean RMSPE in radians")
    print("published 2023-07-25: SubspaceNet .0284, ESPRIT .360, MUSIC .368, root-MUSIC .369; smoothed .348, .420")
    for published, told in ((True, "20 dB"), (False, "10 dB")):
        samples = subspacenet(published=published).samples(0, options.trials)
        for smoothing in (False, 6):
            found = [
                f"{name} {evaluate(samples, finder=name, smoothing=smoothing, baselines=('sample',))[0].rmspe:.3f}"
                for name in ("music", "root_music", "esprit")
            ]
            print(f"true SNR {told}, {'smoothed (6 of 8 sensors)' if smoothing else 'plain':25}", *found, flush=True)
    if options.picture:
        rows = []
        for length in (50, 200):
            for snr in (-15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0):
                samples = replace(LINE, snr=snr, snapshots=length).samples(0, options.trials)
                rows += evaluate(samples, baselines=("sample",))
        print(error_picture(options.picture, rows, title="root-MUSIC and the Cramér-Rao bound, 8 sensors, 2 sources"))


if __name__ == "__main__":
    main()
