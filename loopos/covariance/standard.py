"""The settings of ``loopos covariance``: an array, its sources, and a network of a size that learns them in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from loopos import checks

from .arrays import ULA, URA
from .config import CovarianceConfig
from .simulation import Simulation, subspacenet


@dataclass(frozen=True)
class Preset:
    """simulation: what is drawn, of so many ``snapshots`` in turn; tested: decibels of the table; model: fields of a
    CovarianceConfig; training: settings of loopos.train."""

    simulation: Simulation
    snapshots: tuple[int, ...]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    tested: tuple[float, ...] = (-5.0, 0.0, 5.0)

    @property
    def array(self) -> ULA | URA:
        return self.simulation.array


_TRAINING = {"optimizer": "muon", "learning_rate": 3e-3, "weight_decay": 0.01}
PRESETS = {
    "plane": Preset(
        Simulation(URA(12, 12), sources=(3, 3), snr=(-5.0, 10.0)),
        (1, 2),
        {"prediction": "powers", "d_model": 64},
        _TRAINING | {"max_steps": 1500, "batch_size": 32},
    ),
    "line": Preset(
        Simulation(ULA(8), sources=(2, 3), snr=(-5.0, 10.0)),
        (2, 8, 32),
        {"prediction": "powers", "d_model": 64, "points": 8},
        _TRAINING | {"max_steps": 1500, "batch_size": 64},
    ),
    "subspacenet": Preset(
        subspacenet(10.0),
        (100,),
        {
            "prediction": "powers",
            "d_model": 128,
            "n_layer": 4,
            "reach": 4,
            "points": 16,
            "eps": 0.01,
            "beta": 0.01,
            "learn_beta": False,
            "beta_length": None,
        },
        {"optimizer": "muon", "learning_rate": 3e-3, "weight_decay": 0.0, "max_steps": 2500, "batch_size": 128},
        (20.0,),
    ),
}


def numbers(name: str, text: Any, kind: type = float) -> tuple[Any, ...]:
    """ "1,2,4" as numbers. ValueError for anything else."""
    try:
        found = tuple(kind(part) for part in str(text).split(","))
    except ValueError:
        raise ValueError(f"covariance: {name} must be numbers with commas, got {checks.shown(text)}") from None
    return found


def span(name: str, text: Any, kind: type = float) -> Any:
    """ "3" or "3,5", from and to."""
    found = numbers(name, text, kind)
    if len(found) > 2:
        raise ValueError(f"covariance: {name} must be one number or two with a comma, got {checks.shown(text)}")
    return found[0] if len(found) == 1 else found


def setting(given: dict[str, Any]) -> tuple[list[Simulation], CovarianceConfig, Preset]:
    """Takes the options about array, sources and model out of ``given``: the simulations that take turns, the network's
    configuration, and the preset that all else is of."""
    names = tuple(PRESETS)
    preset = PRESETS[checks.choice("covariance", "preset", given.pop("preset", names[0]), names)]
    about = {"sources": span("sources", given.pop("sources"), int)} if "sources" in given else {}
    about |= {"snr": span("snr", given.pop("snr"))} if "snr" in given else {}
    about |= {name: given.pop(name) for name in ("correlation",) if name in given}
    lengths = numbers("snapshots", given.pop("snapshots"), int) if "snapshots" in given else preset.snapshots
    simulations = [replace(preset.simulation, snapshots=length, **about) for length in lengths]
    fields = {name: given.pop(name) for name in MODEL if name in given}
    if "loss" in fields:
        fields["loss"] = losses(fields["loss"])
    model = {**preset.model, **fields}
    if model["prediction"] == "powers":
        if "rank" in fields:
            raise ValueError("covariance: rank is of prediction='factor'; with 'powers' it is the number of directions")
        model["shape"] = preset.array.shape
    return simulations, CovarianceConfig(elements=preset.array.sensors, **model), preset


def losses(text: str) -> dict[str, float]:
    """ "stein" or "frobenius=1,subspace=10"."""
    found = {}
    for part in str(text).split(","):
        name, equals, weight = part.partition("=")
        if (name := name.strip()) in found:
            raise ValueError(f"covariance: loss has {name} twice, got {checks.shown(text)}")
        found[name] = numbers(f"weight of {name}", weight)[0] if equals else 1.0
    return found


MODEL = {  # fields of CovarianceConfig that are options, with their types
    "n_layer": "int",
    "n_head": "int",
    "d_model": "int",
    "prediction": "str",
    "rank": "int",
    "beta": "float",
    "learn_beta": "bool",
    "loading": "float",
    "loss": "str",
}
