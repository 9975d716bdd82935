"""``loopos compare``: optimizers on one task, from the same start and over the same batches."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from loopos.run.messages import to_stderr
from loopos.vision.standard import PRESETS, is_captions

from . import caption, options
from .reply import Reply, plain

COMPARE = """Compare optimizers on DATA, which is what `loopos train` takes: the same initial weights and the same
batches for all, shown by a hash; a learning rate for each from a short sweep, or the one given; several seeds. It
prints a table, and writes summary.json, comparison.html with all curves and their picture (comparison.svg, and .png
where matplotlib is installed) into the output folder.

  loopos compare novel.txt --optimizers sgd,adam,adamw,lion,muon --epochs 5 --batch-size 8 --subset 5000
  loopos compare novel.txt --optimizers adamw,muon --learning-rate adamw=1e-3 --seeds 5
  loopos compare flickr8k --optimizers sgd,adam,adamw,lion,muon --epochs 5 --batch-size 8 --subset 5000

DATA may be pictures with captions as well: a folder as `loopos caption` takes it, or shapes or digits.

An optimizer whose numbers go bad ends alone, with the place and the cause; the others go on. The same command goes on
where it was stopped. Exit code 1 when not all trials had the same start and the same batches."""
SUMMARY = "summary.json"
OPTIMIZERS = "adamw,muon"
STEPS = 500  # of a trial, unless max_steps or epochs say otherwise
DEFAULTS = {"weight_decay": 0.0, "eval_tokens": 32_768, "betas": options.TRAIN_DEFAULTS["betas"]}
SHARED = (  # settings of train that all trials have
    "max_steps",
    "epochs",
    "batch_size",
    "seq_len",
    "grad_accum",
    "lr_schedule",
    "warmup_steps",
    "weight_decay",
    "betas",
    "eps",
    "max_grad_norm",
    "label_smoothing",
    "mask_prompt",
    "pack",
    "on_nonfinite",
    "threads",
    "precision",
    "eval_tokens",
)
OF_TEXT = ("seq_len", "mask_prompt", "pack")  # of those, what captions do not have
OF_PICTURES = ("preset", "image_size", "fusion", "min_count", "cache")
OF_TASK = ("eval_data", "tokenizer")
DATA = "text, examples (.jsonl, .csv, .parquet, a folder), .npy or uint16 .bin ids (default: Python's help texts)"


def add_compare(parser: argparse.ArgumentParser) -> None:
    known = options.settings_of_train()
    parser.add_argument("data", nargs="?", metavar="DATA", help=DATA)
    of = parser.add_argument_group("comparison")
    options.add_flag(of, "optimizers", "their names, with commas", "str", OPTIMIZERS)
    options.add_flag(of, "learning_rate", "name=rate with commas, or one for all; these are not looked for", "str")
    options.add_flag(of, "seeds", "trials of each optimizer", "int", 3)
    options.add_flag(of, "sweep", "look for the other rates by short trials; else the usual ones", "bool", True)
    options.add_flag(of, "sweep_share", "of a trial's updates, those of a trial of the sweep", "float", 0.2)
    options.add_flag(of, "output_dir", "where all is written (default: runs/compare-NAME, of DATA)", "str")
    options.add_flag(of, "subset", "learn only the first so many examples, or windows of seq_len tokens", "int")
    options.add_flag(of, "held_out", options.RUN["held_out"], "float", options.HELD_OUT)
    options.add_flag(of, "init", "all trials start from the weights in this folder", "str")
    pictures = parser.add_argument_group("pictures with captions")
    options.add_flag(pictures, "preset", f"size of the model: {', '.join(PRESETS)}", "str", "tiny")
    for name in OF_PICTURES[1:]:
        options.add_flag(pictures, name, *(caption.RUN | caption.MODEL)[name])
    training = parser.add_argument_group("training, of all trials")
    own = DEFAULTS | {"max_steps": f"{STEPS}, or by epochs", "warmup_steps": "100, at most a tenth of a trial"}
    for name in (*SHARED, *OF_TASK):
        annotation, default = known[name]
        options.add_flag(training, name, options.TRAIN[name], annotation, own.get(name, default))
    model = parser.add_argument_group("model")
    for name, help_text in options.MODEL.items():
        options.add_flag(model, name, help_text, *known[name])


def task_of(given: dict[str, Any]) -> Any:
    """Out of the options, the task, so that a later command with the same ones makes the same."""
    from loopos.compare import TextTask

    if is_captions(given.get("data")):
        return _captions(given)
    if unused := [name for name in OF_PICTURES if name in given]:
        raise ValueError(f"{', '.join(unused)}: of pictures with captions, and the data are text; leave it out")
    init, data, scored = (given.pop(name, None) for name in ("init", "data", "eval_data"))
    shape = {name: given.pop(name) for name in options.MODEL if name in given}
    if init is not None and shape:
        raise ValueError(f"init brings the model's shape with it; got {', '.join(shape)} as well")
    settings = {name: given.pop(name) for name in SHARED if name in given}
    if settings.get("max_steps") is None and settings.get("epochs") is None:
        settings["max_steps"] = STEPS
    defaults = {"batch_size": options.TRAIN_DEFAULTS["batch_size"]} | DEFAULTS
    files = {"data": data, "eval_data": scored, "init": init}
    return TextTask(
        **{name: None if path is None else os.path.abspath(path) for name, path in files.items()},
        **{name: given.pop(name) for name in ("held_out", "tokenizer", "subset") if name in given},
        model=options.MODEL_DEFAULTS | shape if init is None else {},
        settings=defaults | settings,
    )


def _captions(given: dict[str, Any]) -> Any:
    from loopos.compare.captions import CaptionTask
    from loopos.vision.standard import STEPS as DRAWN
    from loopos.vision.standard import CaptionSetting

    data = given.pop("data")
    about = {name: given.pop(name) for name in ("subset", *OF_PICTURES) if given.get(name) is not None}
    if "cache" in about:
        about["cache"] = os.path.abspath(about["cache"])
    setting = CaptionSetting(data if data in DRAWN else os.path.abspath(data), **about)
    settings = {name: given.pop(name) for name in SHARED if name in given and name not in OF_TEXT}
    if settings.get("max_steps") is None and settings.get("epochs") is None:
        settings |= setting.length
    if given:
        raise ValueError(
            f"{', '.join(sorted(given))}: not of captions: those have parts of their own, and the model of a "
            "preset; leave it out"
        )
    return CaptionTask(setting, DEFAULTS | settings)


def compare(given: dict[str, Any]) -> Reply:
    from loopos.compare import Comparison, page, plot, rates
    from loopos.files import durable

    data = given.get("data")
    name = "text" if data is None else Path(data).stem or "data"
    names = rates.named([each.strip() for each in given.pop("optimizers", OPTIMIZERS).split(",") if each.strip()])
    asked = given.pop("learning_rate", None)
    folder = Path(given.pop("output_dir", None) or f"runs/compare-{name}")
    about = {key: given.pop(key) for key in ("seeds", "sweep", "sweep_share") if key in given}
    about["rates"] = {} if asked is None else rates.given(asked, names)
    comparison = Comparison(task_of(given), names, folder, tell=to_stderr, **about)
    found = comparison.run()
    durable.write_json(folder / SUMMARY, plain(found.to_dict()))
    title = f"Optimizers compared on {name}"
    html, picture = page.write(found, folder, title)
    plotted = plot.write(found, folder, title)
    told = found.to_dict() | {"output_dir": str(folder), "page": str(html), "picture": str(picture)}
    told["plot"] = None if plotted is None else str(plotted)
    return Reply(told, f"{found}\npage: {html}\npicture: {plotted or picture}", 0 if found.same else 1)
