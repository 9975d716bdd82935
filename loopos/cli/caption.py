"""``loopos caption``: a captioner, trained, and asked."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

import loopos
from loopos.run.callbacks import Callback
from loopos.run.messages import to_stderr
from loopos.run.metrics import as_logged
from loopos.run.schedules import total_steps
from loopos.vision.config import FUSIONS
from loopos.vision.standard import DIGITS, EPOCHS, PRESETS, SHAPES, STEPS, CaptionSetting

from . import options
from .commands import SIGTERM
from .common import in_words, use_threads
from .reply import Reply

CAPTION = """Train a captioner on FOLDER: pictures and captions as of Flickr8k, Flickr30k, COCO, or your own
(docs/captioning.md); without FOLDER on coloured shapes that are drawn on the spot, with --digits on scikit-learn's
digits. It ends with the share of held-out pictures that get one of their captions, and OUTPUT_DIR/captions.png.

  loopos caption
  loopos caption flickr8k --preset nano_8gb --epochs 5 --batch-size 8 --subset 5000
  loopos caption --predict runs/caption-shapes picture.png"""
SHOWN = 12  # pictures beside their captions
SCORED = 500  # held-out pictures, unless asked otherwise
TRAINED = (
    "max_steps", "epochs", "batch_size", "grad_accum", "optimizer", "learning_rate", "muon_lr", "lr_schedule",
    "warmup_steps", "min_lr", "weight_decay", "betas", "eps", "max_grad_norm", "label_smoothing", "on_nonfinite",
    "seed", "threads", "precision", "log_every", "eval_every", "save_every", "eval_tokens", "keep_best", "patience",
    "resume", "progress",
)  # fmt: skip
WARMUP = 100
DEFAULTS = {"batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.05, "betas": (0.9, 0.99)}


def add_caption(parser: argparse.ArgumentParser) -> None:
    known = options.settings_of_train()
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="pictures and captions (default: shapes, drawn)")
    asked = parser.add_argument_group("caption pictures, and train nothing")
    asked.add_argument("--predict", nargs="+", metavar=("RUN", "IMAGE"), help="the folder of a run, and picture files")
    options.add_flag(asked, "beams", "of beam search; 1 takes the likeliest word each time", "int", 1)
    data = parser.add_argument_group("data and model")
    options.add_flag(data, "digits", "scikit-learn's digits instead of shapes", "bool", False)
    options.add_flag(data, "preset", f"size of the model: {', '.join(PRESETS)}", "str", "tiny")
    options.add_flag(data, "fusion", f"how text sees the picture: {', '.join(FUSIONS)}", "str", "prefix")
    options.add_flag(data, "image_size", "pixels of a side (default: the preset's; of digits 16)", "int")
    options.add_flag(data, "subset", "use only so many pictures", "int")
    options.add_flag(data, "min_count", "words that are rarer are unknown", "int", "1; of a folder 5")
    options.add_flag(data, "cache", "a folder that keeps the decoded pictures for the next run", "str")
    options.add_flag(data, "dropout", options.MODEL["dropout"], "float", 0.0)
    options.add_flag(data, "scored", "held-out pictures that are captioned at the end; 0: all", "int", SCORED)
    options.add_flag(data, "output_dir", "(default: runs/caption-NAME)", "str")
    training = parser.add_argument_group("training")
    own = DEFAULTS | {"max_steps": f"{STEPS[SHAPES]}; of digits {STEPS[DIGITS]}", "epochs": f"of a folder {EPOCHS}"}
    own |= {"warmup_steps": f"{WARMUP}, at most a tenth of the updates", "min_lr": "a tenth of the learning rate"}
    for name in TRAINED:
        annotation, default = known[name]
        options.add_flag(training, name, options.TRAIN[name], annotation, own.get(name, default))


def _setting(given: dict[str, Any]) -> CaptionSetting:
    folder, digits = given.pop("folder", None), given.pop("digits", False)
    if folder is not None and digits:
        raise ValueError(f"digits are a set of their own; got the folder {folder} as well")
    data = (DIGITS if digits else SHAPES) if folder is None else os.path.abspath(folder)
    names = ("preset", "image_size", "subset", "min_count", "cache", "dropout", "fusion")
    return CaptionSetting(data, **{name: given.pop(name) for name in names if name in given})


def caption(given: dict[str, Any]) -> Reply:
    asked, beams = given.pop("predict", None), given.pop("beams", 1)
    if asked is not None:
        use_threads(given)
        if given:
            raise ValueError(
                f"predict trains nothing and takes beams and threads alone; got {', '.join(given)} as well"
            )
        return predict(asked[0], asked[1:], beams)
    from loopos.scoring.captions import score_captions

    setting = _setting(given)
    scored = given.pop("scored", SCORED)
    folder = Path(given.pop("output_dir", None) or f"runs/caption-{setting.name}")
    settings = DEFAULTS | given
    shape = settings["batch_size"], settings.get("grad_accum", 1), settings.get("seed", options.SEED)
    batches = setting.batches(*shape)
    if settings.get("max_steps") is None and settings.get("epochs") is None:
        settings |= setting.length
    total = total_steps(settings.get("max_steps"), settings.get("epochs"), batches.steps_per_epoch)
    settings = {"warmup_steps": min(WARMUP, total // 10), "min_lr": settings["learning_rate"] / 10} | settings
    config = setting.config(batches.max_tokens)
    told = settings.get("progress", True)
    if told:
        to_stderr(
            f"{setting.pictures!r}, {len(batches.rows)} pictures to learn; {config.num_parameters():,} parameters"
        )
        if getattr(setting.pictures, "left_out", None):
            to_stderr(str(setting.pictures.left_out))
    try:
        result = loopos.train(
            config, batches, eval_data=setting.held_out, output_dir=folder, callbacks=[_OldSheet()], **settings
        )
    except SystemExit as stopped:
        if stopped.code == SIGTERM:
            to_stderr(
                f"loopos caption: training was stopped by SIGTERM; {folder} has a checkpoint of it. To go on: the same "
                "command with --resume auto"
            )
        raise
    found = score_captions(result.model, setting.test, beams=beams, pictures=scored or None, batches=batches)
    sheet = _sheet(folder, setting.test, found.pictures[:SHOWN])
    last = as_logged(result.history[-1]) if result.history else {}
    data = {
        "step": result.step,
        "loss": last.get("loss"),
        "eval_loss": last.get("eval_loss"),
        "exact": found.exact,
        "pictures": len(found.pictures),
        "samples": [each._asdict() for each in found.pictures[:SHOWN]],
        "sheet": sheet,
        "stopped": result.stopped,
        "output_dir": str(folder),
    }
    return Reply(data, "\n".join(_text(result, last, found, sheet)))


def _text(result: Any, last: dict[str, Any], found: Any, sheet: str | None) -> list[str]:
    lines = [f"updates {result.step}, saved in {result.output_dir}"]
    if "eval_loss" in last:
        lines[0] += f", held-out loss {in_words(last['eval_loss'])}"
    lines.append(str(found))
    lines += [f"  {'=' if each.right else '!'} {each.said}" for each in found.pictures[:SHOWN]]
    return lines + ([] if sheet is None else [f"pictures: {sheet}"])


class _OldSheet(Callback):
    """Takes away what an earlier run left, once train holds the lock of the folder."""

    def on_train_begin(self, info: dict[str, Any]) -> None:
        from loopos.vision.sheet import SHEET

        (Path(info["output_dir"]) / SHEET).unlink(missing_ok=True)


def _sheet(folder: Path, part: Any, found: list[Any]) -> str | None:
    """Pictures beside their captions; None, and why, where Pillow is missing."""
    from loopos.vision.sheet import SHEET, Shown, write_sheet

    path = folder / SHEET
    places = {part.name(index): index for index in range(len(part))}
    try:
        shown = [Shown(part.image(places[e.name]), e.said, e.captions[0], e.right) for e in found]
        write_sheet(path, shown)
    except ImportError as error:
        to_stderr(f"no {path.name}: {error}")
        return None
    return str(path)


def predict(run: str, files: list[str], beams: int) -> Reply:
    """Captions of picture files, by the captioner of a run."""
    from loopos.vision import Captioner
    from loopos.vision.data.decoding import decode_square

    if not files:
        raise ValueError("predict takes the folder of a run and picture files: loopos caption --predict RUN IMAGE")
    model = Captioner.load(run)
    side = model.config.encoder.height
    images = np.stack([decode_square(Path(file), side, file) for file in files])
    said = model.caption(images, beams=beams)
    told = [{"image": file, "caption": text} for file, text in zip(files, said, strict=True)]
    return Reply({"captions": told}, "\n".join(f"{file}: {text}" for file, text in zip(files, said, strict=True)))
