"""What ``loopos caption`` and ``loopos classify`` share: a run on pictures, told before it begins, and its folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loopos
from loopos import checks
from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.checkpoint_folder import is_checkpoint
from loopos.run.callbacks import Callback
from loopos.run.messages import to_stderr
from loopos.run.schedules import total_steps
from loopos.vision.data.classes import ClassFolder
from loopos.vision.data.digits import Digits
from loopos.vision.encoder import ImageEncoder
from loopos.vision.opening import class_names
from loopos.vision.standard import DIGITS, MUON, TRAINING

from . import checkup, forecast, options, ranked
from .common import SIGTERM
from .forecast import Forecaster
from .reply import Reply

NAME = "pictures.json"  # in a run: what it was trained on
TRAINED = (
    "max_steps", "epochs", "batch_size", "grad_accum", "optimizer", "learning_rate", "muon_lr", "lr_schedule",
    "warmup_steps", "min_lr", "weight_decay", "betas", "eps", "max_grad_norm", "label_smoothing", "on_nonfinite",
    "seed", "threads", "moments", "precision", "log_every", "eval_every", "save_every", "eval_tokens", "keep_best",
    "patience", "resume", "progress", *ranked.SHARED,
)  # fmt: skip
WARMUP = 100
USUAL = TRAINING | {  # for people: defaults of the settings of a training
    "muon_lr": MUON["muon_lr"],
    "weight_decay": f"{TRAINING['weight_decay']}; with muon {MUON['weight_decay']}",
    "learning_rate": f"{TRAINING['learning_rate']}; with muon of what is no matrix",
    "warmup_steps": f"{WARMUP}, at most a tenth of the updates",
    "min_lr": "a tenth of the learning rate",
}
TOLD = {name: (options.RUN[name], "bool", default) for name, default in (("doctor", True), ("dry_run", False))}


def add_flags(
    parser: argparse.ArgumentParser,
    groups: Mapping[str, Mapping[str, tuple[str, str, Any]]],
    trained: Sequence[str],
    own: Mapping[str, Any],
) -> None:
    """Groups of flags by title, and those of a training. own: defaults of the command, beside what all have."""
    for title, flags in groups.items():
        group = parser.add_argument_group(title)
        for name, told in flags.items():
            options.add_flag(group, name, *told)
    known, training = options.settings_of_train(), parser.add_argument_group("training")
    for name in trained:
        annotation, default = known[name]
        options.add_flag(training, name, options.TRAIN[name], annotation, (USUAL | own).get(name, default))
    ranked.add(parser.add_argument_group("several processes"), options.add_flag)


def labelled(data: str, side: int, subset: int | None) -> Digits | ClassFolder:
    """The digits, or the folder of that name: a set with labels and the names of its classes."""
    return Digits(side, subset) if data == DIGITS else ClassFolder(data, side, subset)


def classes_of(folder: str, model: ImageEncoder) -> tuple[str, ...]:
    """What a classifier in a folder names, as its run noted it or its config.json has it."""
    told = (noted(folder) or {}).get("classes")
    return tuple(told) if told else class_names(folder, model.config.num_classes)


def check(command: str, asked: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Types of what a file may give and what loopos.train does not check. least: of whole numbers, by name."""
    for name in ("folder", "cache", "output_dir"):
        value = asked.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise ValueError(f"{name} must be the name of a folder, got {checks.shown(value)}")
    for name, low in least.items():
        if asked.get(name) is not None:
            checks.integer(command, name, asked[name], low=low)
    for name in ("digits", "progress", *TOLD):
        if name in asked:
            checks.boolean(command, name, asked[name])


def with_schedule(settings: dict[str, Any], length: Mapping[str, int], steps_per_epoch: int) -> dict[str, Any]:
    """settings with what none of them says: max_steps or epochs, of ``length``, the warm-up and where the rate ends."""
    if settings.get("max_steps") is None and settings.get("epochs") is None:
        settings = settings | length
    total = total_steps(settings.get("max_steps"), settings.get("epochs"), steps_per_epoch)
    settings = {"warmup_steps": min(WARMUP, total // 10)} | settings
    if settings.get("min_lr") is None and isinstance(settings["learning_rate"], int | float):
        settings["min_lr"] = settings["learning_rate"] / 10
    return settings


def dry_run(model: Any, data: Any, settings: dict[str, Any], doctor: bool = True) -> Reply:
    """What the run would take; nothing is trained."""
    if ranked.behind(settings):  # of the first process alone
        return Reply({}, None)
    alone = {name: value for name, value in settings.items() if name != "distributed"}
    found = forecast.of_run(model, data, None, alone, doctor)
    return Reply({"event": "forecast"} | found.to_dict(), str(found))


def train(
    command: str,
    model: Any,
    data: Any,
    settings: dict[str, Any],
    about: dict[str, Any],
    left: Sequence[str],
    doctor: bool = True,
) -> tuple[Any, dict[str, Any] | None]:
    """(the result of loopos.train, what the run was expected to take, where that was told). about: what
    ``pictures.json`` keeps; left: files of an earlier run that are taken away."""
    found: list[dict[str, Any]] = []

    def tell(expected: forecast.Forecast) -> None:
        found.append(expected.to_dict())
        to_stderr(expected)

    callbacks: list[Any] = [_Folder(about, left)]
    if settings.get("progress", True):
        callbacks.append(Forecaster(model, tell, doctor))
        callbacks += [checkup.Checkup(data, None, settings)] if doctor else []
    with telling_of_sigterm(command, settings):
        result = loopos.train(model, data, callbacks=callbacks, **settings)
    return result, found[0] if found else None


@contextmanager
def telling_of_sigterm(command: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Says how to go on with a training, of these keywords of loopos.train, that SIGTERM stops."""
    try:
        yield
    except SystemExit as stopped:
        if stopped.code == SIGTERM and not ranked.behind(settings):
            to_stderr(
                f"loopos {command}: training was stopped by SIGTERM; {settings['output_dir']} has a checkpoint of it. "
                "To go on: the same command with --resume auto"
            )
        raise


class _Folder(Callback):
    """Takes away what an earlier run left and notes the data, once train holds the lock of the folder."""

    def __init__(self, about: dict[str, Any], left: Sequence[str]):
        self._about, self._left = about, left

    def on_train_begin(self, info: dict[str, Any]) -> None:
        folder = Path(info["output_dir"])
        for name in self._left:
            (folder / name).unlink(missing_ok=True)
        durable.write_json(folder / NAME, self._about)


def noted(folder: str) -> dict[str, Any] | None:
    """What ``pictures.json`` of a run, or of the run of a checkpoint, says; None where there is none."""
    run = Path(folder)
    path = (run.parent if is_checkpoint(run) else run) / NAME
    if not path.is_file():
        return None
    told = durable.load_json(path)
    if not isinstance(told, dict) or not isinstance(told.get("data"), str):
        raise CheckpointError(path, "expected an object with data")
    return told
