"""``loopos covariance``: a network that predicts the covariance of an array, trained and asked; and a failure shown."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import loopos
from loopos import checks
from loopos.covariance import demo, pictures, trained
from loopos.covariance.batches import parted
from loopos.covariance.config import LOSSES, PREDICTIONS, CovarianceConfig
from loopos.covariance.evaluation import table
from loopos.covariance.folder import read_samples
from loopos.covariance.network import CovarianceNetwork
from loopos.covariance.standard import MODEL, PRESETS, Preset, numbers, setting
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.run.callbacks import Callback
from loopos.run.messages import to_stderr

from . import forecast, options, pictured, ranked
from .common import use_threads
from .reply import Reply, plain

COVARIANCE = """train: a network on simulated snapshots of an array; it ends with the errors of the directions that
MUSIC finds in its estimate, beside the sample covariance, Ledoit-Wolf and OAS, over SNR and snapshots. eval: the table
again, of RUN, for others. demo: a loss of 1.7e25 that passed its check, from its own ingredients: where it was born,
what its report says, what its fixes do; and the repaired pipeline, trained for a minute.

  loopos covariance demo
  loopos covariance train --output-dir runs/covariance
  loopos covariance train --preset line --loss stein
  loopos covariance eval runs/covariance --test-snr -5,0,5 --test-snapshots 2,8,32 --samples 50

The array is that of a preset: plane, 12 x 12 sensors half a wavelength apart; line, 8 of them; subspacenet, the same
line and five coherent sources, as SubspaceNet (arXiv:2306.02271) has them at a nominal 10 dB, which is 20."""
ACTIONS = ("train", "eval", "demo")
DEMO_STEPS = 60
SAMPLES = 16
NAME = "covariance.json"  # in a run: what it was trained on
SETTING = {
    "preset": (f"array, sources and size: {', '.join(PRESETS)}", "str", "plane"),
    "sources": ("how many, or from,to", "str", "the preset's"),
    "snr": ("decibels of one source at one sensor, or from,to", "str", "the preset's"),
    "snapshots": ("of a sample; several with commas take turns", "str", "the preset's"),
    "correlation": ("of the sources: 0 independent, 1 coherent", "float", 0.0),
}
FILES = {"degrees": ("angles in FOLDER are degrees, not radians", "bool", False)}
TEST = {
    "test_snr": ("decibels of the table, with commas", "str", "the preset's: -5,0,5; subspacenet 20"),
    "test_snapshots": ("snapshots of the table, with commas", "str", "those trained on"),
    "samples": ("of each cell of the table; 0: no table", "int", SAMPLES),
    "picture": (
        "PNG of the MUSIC spectrum of the table's first sample: fresh weights, trained ones, sample covariance, truth",
        "str",
        None,
    ),
}
_NOT_OF_DEMO = (*FILES, *TEST, "init", "dry_run", "output_dir")
HELP = {
    "n_layer": options.MODEL["n_layer"],
    "n_head": options.MODEL["n_head"],
    "d_model": options.MODEL["d_model"],
    "prediction": f"{', '.join(PREDICTIONS)}: F Fᴴ + eps I, any Hermitian matrix, or powers of directions",
    "rank": "columns of F, of factor",
    "beta": "weight of the sample covariance in the blend, at first; of eval: instead of the learned one",
    "learn_beta": "it is learned",
    "loading": "added to the diagonal of the blend",
    "loss": f"one of {', '.join(LOSSES)}, or name=weight with commas",
}
_NEVER = ("epochs", "label_smoothing", "eval_tokens")
TRAINED = tuple(name for name in pictured.TRAINED if name not in _NEVER)


def add_covariance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="eval: of a run; train: samples instead of simulated"
    )
    told = {"init": ("start from the weights of this run, of a network of the same size", "str", None)}
    told |= {"output_dir": ("(default: runs/covariance-PRESET)", "str", None), "dry_run": pictured.TOLD["dry_run"]}
    defaults = {f: getattr(CovarianceConfig(), f) for f in MODEL} | {"loss": "frobenius"}
    usual = {"d_model": "the preset's", "prediction": PRESETS["plane"].model["prediction"]}
    model = {name: (HELP[name], kind, (defaults | usual)[name]) for name, kind in MODEL.items()}
    preset = PRESETS["plane"].training
    own = {name: f"{preset[name]}, or the preset's" for name in ("max_steps", "batch_size")}
    own |= {name: preset[name] for name in ("optimizer", "learning_rate", "weight_decay")}
    own["max_steps"] += f"; of demo {DEMO_STEPS}"
    groups = {"data": SETTING | FILES, "table": TEST, "model": model, "run": told}
    pictured.add_flags(parser, groups, TRAINED, own)


def covariance(given: dict[str, Any]) -> Reply:
    with ranked.together(given):
        return _covariance(given)


def _covariance(given: dict[str, Any]) -> Reply:
    action, folder = given.pop("action"), given.pop("folder", None)
    ranks = ranked.take(given)
    if action != "train":
        ranked.refuse(f"covariance {action}")
    if action == "eval" and folder is None:
        raise ValueError("eval needs the folder of a run")
    if action == "demo" and folder is not None:
        raise ValueError("demo takes no folder")
    return {
        "train": lambda asked: _train(folder, asked, ranks),
        "eval": lambda asked: _eval(folder, asked),
        "demo": _demo,
    }[action](given)


def _training(given: dict[str, Any], preset: Any, steps: int | None = None) -> dict[str, Any]:
    settings = {**preset.training, **({"max_steps": steps} if steps else {}), **given}
    return pictured.with_schedule(settings, {}, 0)


def _train(folder: str | None, given: dict[str, Any], ranks: dict[str, Any]) -> Reply:
    """ranks: the keywords of loopos.train that are about several processes."""
    if behind := ranked.behind(ranks):
        given["progress"] = False  # the first process tells
    preset_name = given.get("preset", "plane")
    noted = {"preset": preset_name} | {name: given[name] for name in SETTING if name in given}
    asked = _test(given)
    dry, degrees, init = given.pop("dry_run", False), given.pop("degrees", False), given.pop("init", None)
    if degrees and folder is None:
        raise ValueError("degrees is about the angles in FOLDER, and none is given")
    simulations, config, preset = setting(given)
    settings = {"output_dir": f"runs/covariance-{preset_name}"} | _training(given, preset)
    model = CovarianceNetwork(config, seed=settings.get("seed", options.SEED), precision=settings.get("precision"))
    if init is not None:
        model.load_state_dict(CovarianceNetwork.load(init).parameters())
        noted["init"] = os.path.abspath(init)
    data: Any = simulations
    settings["eval_data"] = data  # of which it takes other samples
    if folder is not None:
        noted |= {"folder": os.path.abspath(folder), "degrees": degrees}
        data, settings["eval_data"] = parted(read_samples(folder, preset.array, degrees=degrees), options.HELD_OUT)
    if settings["eval_data"] is not None:
        settings.setdefault("eval_every", max(1, settings["max_steps"] // 10))
    if dry and behind:
        return Reply({}, None)
    if dry:
        found = forecast.of_run(model, data, None, settings)
        return Reply({"event": "forecast"} | found.to_dict(), str(found))
    if settings.get("progress", True):
        learned = f"{len(simulations)} simulations in turn" if folder is None else f"{len(data)} samples of {folder}"
        to_stderr(f"{preset.array!r}, {learned}; {config.num_parameters():,} parameters")
    about = {"preset": preset_name, "options": noted, "simulations": [repr(each) for each in simulations]}
    with pictured.telling_of_sigterm("covariance", settings | ranks):
        result = loopos.train(model, data, callbacks=[_Folder(about)], **settings, **ranks)
    if behind:
        return Reply({}, None)
    rows, scales = _table(model, simulations, preset, asked)
    last = result.history[-1] if result.history else {}
    facts = {name: last[name] for name in ("step", "loss", "eval_loss", *_NORMS) if name in last}
    facts |= {name: asked[name] for name in ("picture",) if name in asked}
    facts |= {"step": result.step, "output_dir": result.output_dir, "stopped": result.stopped}
    said = [f"updates {result.step}; the network is in {result.output_dir}"]
    said += _drawn(asked)
    said += ["in the last: " + ", ".join(f"{n} {last[n]:.4g}" for n in ("loss", "eval_loss", *_NORMS) if n in last)]
    return Reply(plain(facts | {"table": rows, "scales": scales}), "\n".join([*said, *_said(rows, scales)]))


_NORMS = ("pred_norm", "samp_norm", "blend_norm", "pred_smallest", "beta", "scale_alarms")


def _said(rows: list[Any], scales: list[Any]) -> list[str]:
    return [trained.as_text(scales), "", table(rows)] if rows else []


def _drawn(asked: dict[str, Any]) -> list[str]:
    return [f"the spectrum is drawn in {asked['picture']}"] if "picture" in asked else []


def _test(given: dict[str, Any]) -> dict[str, Any]:
    """The options of the table."""
    found = {name: given.pop(name) for name in TEST if name in given}
    if "samples" in found:
        checks.integer("covariance", "samples", found["samples"], low=0, high=10**6)
    if "picture" in found:
        pictures.figure_class()  # it says what to install before a training, not after it
    return found


def _table(
    model: CovarianceNetwork, simulations: list[Any], preset: Preset, asked: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    samples = asked.get("samples", SAMPLES)
    snrs = numbers("test_snr", asked["test_snr"]) if "test_snr" in asked else preset.tested
    lengths = [each.snapshots for each in simulations]
    if "test_snapshots" in asked:
        lengths = list(numbers("test_snapshots", asked["test_snapshots"], int))
    beta = asked.get("beta")
    if "picture" in asked:
        one = replace(simulations[0], snr=snrs[0], snapshots=lengths[0]).samples(trained.TESTED, 1)
        pictures.learned_picture(asked["picture"], model, one, beta=beta, seed=options.SEED)
    return trained.measure(model, simulations[0], snrs, lengths, samples, beta) if samples else ([], [])


def _eval(folder: str, given: dict[str, Any]) -> Reply:
    asked = _test(given)
    if "beta" in given:
        asked["beta"] = checks.real("covariance", "beta", given.pop("beta"), above=0.0, below=1.0)
    use_threads(given)
    model = CovarianceNetwork.load(folder)
    known = {name: given.pop(name) for name in SETTING if name in given}
    if given:
        raise ValueError(f"eval trains nothing; got {', '.join(given)} as well")
    noted = _noted(folder) or {}
    known.setdefault("preset", noted.get("preset", _preset_of(model.config)))
    if known["preset"] == noted.get("preset"):
        known = {name: noted[name] for name in SETTING if name in noted} | known
    simulations, config, preset = setting(known)
    if config.elements != model.config.elements:
        raise ValueError(f"this network is of {model.config.elements} sensors, and the preset of {config.elements}")
    rows, scales = _table(model, simulations, preset, asked)
    facts = {"table": rows, "scales": scales, "folder": folder} | {n: asked[n] for n in ("picture",) if n in asked}
    return Reply(plain(facts), "\n".join([*_drawn(asked), *_said(rows, scales)]))


def _preset_of(config: CovarianceConfig) -> str:
    """Of a network that no run has noted: the first preset with as many sensors."""
    return next((n for n, preset in PRESETS.items() if preset.array.sensors == config.elements), next(iter(PRESETS)))


def _noted(folder: str) -> dict[str, Any] | None:
    """The options of the run that ``folder`` is, by name; None where there is none."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    noted = durable.load_json(path)
    if not isinstance(noted, dict) or not isinstance(noted.get("options"), dict):
        raise CheckpointError(path, "expected the options of a run")
    return noted["options"]


def examine(folder: str, quick: bool, given: dict[str, Any]) -> Reply | None:
    """The checks of the doctor on a run of ``loopos covariance``, with its data; None for another folder."""
    from loopos.health.doctor.doctor import doctor

    if (noted := _noted(folder)) is None:
        return None
    given = dict(given)
    use_threads(given)
    if given:
        raise ValueError(
            f"{folder} is a run of covariance: quick and threads are for it, got {', '.join(given)} as well"
        )
    try:
        simulations, _, preset = setting({name: noted[name] for name in SETTING if name in noted})
    except (TypeError, ValueError) as error:
        raise CheckpointError(Path(folder) / NAME, f"expected the options of a run: {error}") from None
    data: Any = simulations
    if "folder" in noted:
        data = read_samples(noted["folder"], preset.array, degrees=noted.get("degrees", False))
    model = CovarianceNetwork.load(folder)
    settings = {name: preset.training[name] for name in ("optimizer", "learning_rate", "batch_size")}
    report = doctor(model, data, quick=quick, max_steps=100, **settings)
    return Reply(report.to_dict() | {"forecast": None}, str(report), 0 if report.ok else 1)


def _demo(given: dict[str, Any]) -> Reply:
    steps = given.pop("max_steps", DEMO_STEPS)
    use_threads(given)
    if wrong := [name for name in given if name in _NOT_OF_DEMO]:
        raise ValueError(f"demo shows no table, reads no folder and keeps no run; got {', '.join(wrong)} as well")
    found = demo.demonstrate(given.get("seed", 0))
    text, data = demo.as_text(found), found.to_dict()
    if steps:
        simulations, config, preset = setting(given)
        if config.elements == PRESETS["plane"].array.sensors:  # where R_samp is of the size that the report has
            simulations = [replace(simulations[0], sources=5, snr=0.0, snapshots=32)]
        settings = _training(given, preset, steps) | {"log_every": max(1, steps // 6), "progress": False}
        result = loopos.train(config, simulations[-1:], eval_data=simulations[-1:], **settings)
        names = ("step", "loss", "eval_loss", *_NORMS[:4])
        data["trained"] = [{name: entry[name] for name in names if name in entry} for entry in result.history]
        lines = ["", f"The repaired pipeline, trained for {steps} updates:", "".join(f"{n:>14}" for n in names)]
        for entry in result.history:
            lines.append("".join(f"{entry[n]:14.4g}" if n in entry else f"{'':14}" for n in names))
        text += "\n".join(lines)
    return Reply(plain(data), text)


class _Folder(Callback):
    """Notes the data of a run in its folder."""

    def __init__(self, about: dict[str, Any]):
        self._about = about

    def on_train_begin(self, info: dict[str, Any]) -> None:
        durable.write_json(info["output_dir"] / NAME, self._about)
