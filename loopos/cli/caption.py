"""``loopos caption``: a captioner, trained, and asked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import loopos
from loopos import checks
from loopos.files import durable
from loopos.run.callbacks import Callback
from loopos.run.messages import to_stderr
from loopos.run.metrics import as_logged
from loopos.run.schedules import total_steps
from loopos.vision.config import FUSIONS
from loopos.vision.standard import DIGITS, EPOCHS, PRESETS, SHAPES, STEPS, CaptionSetting

from . import options
from .commands import SIGTERM
from .common import in_words, use_threads
from .reply import Reply, plain

CAPTION = """Train a captioner on FOLDER: pictures and captions as of Flickr8k, Flickr30k, COCO, or your own
(docs/captioning.md); without FOLDER on coloured shapes that are drawn on the spot, with --digits on scikit-learn's
digits. It ends with the share of held-out pictures that get one of their captions, BLEU (sacrebleu), and
OUTPUT_DIR/captions.png; the scores are kept as caption_scores.json.

  loopos caption
  loopos caption flickr8k --preset nano_8gb --epochs 5 --batch-size 8 --subset 5000
  loopos caption --config run.toml
  loopos caption --predict runs/caption-shapes picture.png --num-beams 4

run.toml has tables [run], [model] and [train] of the settings below, by name."""
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


RUN = {
    "digits": ("scikit-learn's digits instead of shapes", "bool", False),
    "subset": ("use only so many pictures", "int", None),
    "min_count": ("words that are rarer are unknown", "int", "1; of a folder 5"),
    "cache": ("a folder that keeps the decoded pictures for the next run", "str", None),
    "scored": ("held-out pictures that are captioned at the end; 0: all", "int", SCORED),
    "num_beams": ("of beam search; 1, greedy, takes the likeliest word each time", "int", 1),
    "output_dir": ("(default: runs/caption-NAME)", "str", None),
}
MODEL = {
    "preset": (f"size of the model: {', '.join(PRESETS)}", "str", "tiny"),
    "fusion": (f"how text sees the picture: {', '.join(FUSIONS)}", "str", "prefix"),
    "image_size": ("pixels of a side (default: the preset's; of digits 16)", "int", None),
    "dropout": (options.MODEL["dropout"], "float", 0.0),
}
TABLES = {"run": ("folder", *RUN), "model": MODEL, "train": TRAINED}


def add_caption(parser: argparse.ArgumentParser) -> None:
    known = options.settings_of_train()
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="pictures and captions (default: shapes, drawn)")
    parser.add_argument("--config", metavar="FILE", help="run.toml: these settings by name; flags win")
    asked = parser.add_argument_group("caption pictures, and train nothing")
    asked.add_argument("--predict", nargs="+", metavar=("RUN", "IMAGE"), help="the folder of a run, and picture files")
    for title, table in (("data and run", RUN), ("model", MODEL)):
        group = parser.add_argument_group(title)
        for name, (text, annotation, default) in table.items():
            options.add_flag(group, name, text, annotation, default)
    training = parser.add_argument_group("training")
    own = DEFAULTS | {"max_steps": f"{STEPS[SHAPES]}; of digits {STEPS[DIGITS]}", "epochs": f"of a folder {EPOCHS}"}
    own |= {"warmup_steps": f"{WARMUP}, at most a tenth of the updates", "min_lr": "a tenth of the learning rate"}
    for name in TRAINED:
        annotation, default = known[name]
        options.add_flag(training, name, options.TRAIN[name], annotation, own.get(name, default))


def _check(asked: Mapping[str, Any]) -> None:
    """Types of what a file may give and what loopos.train does not check."""
    for name in ("folder", "cache", "output_dir"):
        value = asked.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise ValueError(f"{name} must be the name of a folder, got {checks.shown(value)}")
    for name, low in (("subset", 1), ("min_count", 1), ("image_size", 1), ("scored", 0), ("num_beams", 1)):
        if asked.get(name) is not None:
            checks.integer("caption", name, asked[name], low=low)
    for name in ("digits", "progress"):
        if name in asked:
            checks.boolean("caption", name, asked[name])


def _setting(given: dict[str, Any]) -> CaptionSetting:
    folder, digits = given.pop("folder", None), given.pop("digits", False)
    if folder is not None and digits:
        raise ValueError(f"digits are a set of their own; got the folder {folder} as well")
    data = (DIGITS if digits else SHAPES) if folder is None else os.path.abspath(folder)
    names = ("subset", "min_count", "cache", *MODEL)
    return CaptionSetting(data, **{name: given.pop(name) for name in names if name in given})


def caption(given: dict[str, Any]) -> Reply:
    asked = given.pop("predict", None)
    if asked is not None:
        beams = given.pop("num_beams", 1)
        use_threads(given)
        if given:
            raise ValueError(
                f"predict trains nothing and takes num_beams and threads alone; got {', '.join(given)} as well"
            )
        return predict(asked[0], asked[1:], beams)
    path = given.pop("config", None)
    given = (options.read_config(path, TABLES) if path is not None else {}) | given
    _check(given)
    setting = _setting(given)
    scored, beams = given.pop("scored", SCORED), given.pop("num_beams", 1)
    folder = Path(given.pop("output_dir", None) or f"runs/caption-{setting.name}")
    settings = DEFAULTS | given
    shape = settings["batch_size"], settings.get("grad_accum", 1), settings.get("seed", options.SEED)
    batches = setting.batches(*shape)
    if settings.get("max_steps") is None and settings.get("epochs") is None:
        settings |= setting.length
    total = total_steps(settings.get("max_steps"), settings.get("epochs"), batches.steps_per_epoch)
    settings.setdefault("warmup_steps", min(WARMUP, total // 10))
    if settings.get("min_lr") is None and isinstance(settings["learning_rate"], int | float):
        settings["min_lr"] = settings["learning_rate"] / 10
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
            config, batches, eval_data=setting.held_out, output_dir=folder, callbacks=[_OldScores()], **settings
        )
    except SystemExit as stopped:
        if stopped.code == SIGTERM:
            to_stderr(
                f"loopos caption: training was stopped by SIGTERM; {folder} has a checkpoint of it. To go on: the same "
                "command with --resume auto"
            )
        raise
    return _scored(result, setting, batches, beams, scored or None, folder)


def _scored(result: Any, setting: CaptionSetting, batches: Any, beams: int, scored: int | None, folder: Path) -> Reply:
    """Scores on held-out pictures, kept in the folder of the run, and pictures beside their captions."""
    from loopos.scoring.captions import SCORES, bleu_of, score_captions

    found = score_captions(result.model, setting.test, beams=beams, pictures=scored, batches=batches)
    try:
        found = found._replace(bleu=bleu_of([e.said for e in found.pictures], [e.captions for e in found.pictures]))
    except ImportError as error:
        to_stderr(f"no BLEU: {error}")
    last = as_logged(result.history[-1]) if result.history else {}
    scores = {"exact": found.exact, "bleu": found.bleu, "pictures": len(found.pictures), "num_beams": beams}
    scores["samples"] = [each._asdict() for each in found.pictures[:SHOWN]]
    durable.write_json(folder / SCORES, plain({"step": result.step, "says": str(found)} | scores))
    sheet = _sheet(folder, setting.test, found.pictures[:SHOWN])
    data = {"step": result.step, "loss": last.get("loss"), "eval_loss": last.get("eval_loss"), **scores}
    data |= {"sheet": sheet, "stopped": result.stopped, "output_dir": str(folder)}
    return Reply(data, "\n".join(_text(result, last, found, sheet)))


def _text(result: Any, last: dict[str, Any], found: Any, sheet: str | None) -> list[str]:
    lines = [f"updates {result.step}, saved in {result.output_dir}"]
    if "eval_loss" in last:
        lines[0] += f", held-out loss {in_words(last['eval_loss'])}"
    lines.append(str(found))
    lines += [f"  {'=' if each.right else '!'} {each.said}" for each in found.pictures[:SHOWN]]
    return lines + ([] if sheet is None else [f"pictures: {sheet}"])


class _OldScores(Callback):
    """Takes away what an earlier run left, once train holds the lock of the folder."""

    def on_train_begin(self, info: dict[str, Any]) -> None:
        from loopos.scoring.captions import SCORES
        from loopos.vision.sheet import SHEET

        for name in (SHEET, SCORES):
            (Path(info["output_dir"]) / name).unlink(missing_ok=True)


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
