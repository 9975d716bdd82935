"""``loopos caption``: a captioner, trained, and asked."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from loopos.files import durable
from loopos.run.messages import to_stderr
from loopos.run.metrics import as_logged
from loopos.scoring.captions import SCORES, bleu_of, score_captions
from loopos.vision import safe
from loopos.vision.captioner import Captioner
from loopos.vision.config import FUSIONS
from loopos.vision.data.decoding import decode_square
from loopos.vision.sheet import SHEET, Shown, write_sheet
from loopos.vision.standard import (
    DIGITS,
    DROPOUT,
    EPOCHS,
    PRESETS,
    SHAPES,
    STEPS,
    CaptionSetting,
    training_of,
)

from . import options, pictured, ranked
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

run.toml has tables [run], [model] and [train] of the settings below, by name. Before the first update stderr tells what
the run will take and what the quick checks of `loopos doctor` find; the training goes on. --no-doctor leaves out the
checks, --no-progress both and the bar; --dry-run tells the forecast alone."""
SAFE = f"safe, alone or as SIZE,safe: {', '.join(f'{name} {value}' for name, value in safe.SAFE.items())}"
SHOWN = 12  # pictures beside their captions
SCORED = 500  # held-out pictures, unless asked otherwise

RUN = {
    "digits": ("scikit-learn's digits instead of shapes", "bool", False),
    "subset": ("use only so many pictures", "int", None),
    "min_count": ("words that are rarer are unknown", "int", "1; of a folder 5"),
    "cache": ("a folder that keeps the decoded pictures for the next run", "str", None),
    "scored": ("held-out pictures that are captioned at the end; 0: all", "int", SCORED),
    "num_beams": ("of beam search; 1, greedy, takes the likeliest word each time", "int", 1),
    "output_dir": ("(default: runs/caption-NAME)", "str", None),
    **pictured.TOLD,
}
MODEL = {
    "preset": (f"size of the model: {', '.join(PRESETS)}; {SAFE}", "str", "tiny"),
    "fusion": (f"how text sees the picture: {', '.join(FUSIONS)}", "str", "prefix"),
    "image_size": ("pixels of a side (default: the preset's; of digits 16)", "int", None),
    "dropout": (options.MODEL["dropout"], "float", f"0; of digits {DROPOUT[DIGITS]}"),
}
LEAST = {"subset": 1, "min_count": 1, "image_size": 1, "scored": 0, "num_beams": 1}
TABLES = {"run": ("folder", *RUN), "model": MODEL, "train": pictured.TRAINED, "ranks": ranked.RANKS}


def add_caption(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="pictures and captions (default: shapes, drawn)")
    parser.add_argument("--config", metavar="FILE", help="run.toml: these settings by name; flags win")
    asked = parser.add_argument_group("caption pictures, and train nothing")
    asked.add_argument("--predict", nargs="+", metavar=("RUN", "IMAGE"), help="the folder of a run, and picture files")
    own = {"max_steps": f"{STEPS[SHAPES]}; of digits {STEPS[DIGITS]}", "epochs": f"of a folder {EPOCHS}"}
    own["optimizer"] = "muon; of a folder adamw"
    pictured.add_flags(parser, {"data and run": RUN, "model": MODEL}, pictured.TRAINED, own)


def _setting(given: dict[str, Any]) -> CaptionSetting:
    folder, digits = given.pop("folder", None), given.pop("digits", False)
    if folder is not None and digits:
        raise ValueError(f"digits are a set of their own; got the folder {folder} as well")
    data = (DIGITS if digits else SHAPES) if folder is None else os.path.abspath(folder)
    names = ("subset", "min_count", "cache", *MODEL)
    return CaptionSetting(data, **{name: given.pop(name) for name in names if name in given})


def caption(given: dict[str, Any]) -> Reply:
    with ranked.together(given):
        return _caption(given)


def _caption(given: dict[str, Any]) -> Reply:
    asked = given.pop("predict", None)
    if asked is not None:
        ranked.refuse("caption --predict")
        beams = given.pop("num_beams", 1)
        use_threads(given)
        if given:
            raise ValueError(
                f"predict trains nothing and takes num_beams and threads alone; got {', '.join(given)} as well"
            )
        return predict(asked[0], asked[1:], beams)
    path = given.pop("config", None)
    given = (options.read_config(path, TABLES) if path is not None else {}) | given
    ranks = ranked.take(given)
    if behind := ranked.behind(ranks):
        given["progress"] = False  # the first process tells
    pictured.check("caption", given, LEAST)
    run = {name: given.pop(name) for name in pictured.TOLD if name in given}
    given, of_preset = safe.applied(given)
    setting = _setting(given)
    scored, beams = given.pop("scored", SCORED), given.pop("num_beams", 1)
    settings = training_of(setting.data, given) | {"output_dir": f"runs/caption-{setting.name}"} | given | ranks
    shape = settings["batch_size"], settings.get("grad_accum", 1), settings.get("seed", options.SEED)
    batches = setting.batches(*shape)
    settings = pictured.with_schedule(settings, setting.length, batches.steps_per_epoch)
    settings["eval_data"] = setting.held_out
    config = setting.config(batches.max_tokens)
    model = Captioner(config, seed=settings.get("seed", options.SEED), precision=settings.get("precision"))
    for sentence in of_preset if run.get("dry_run", False) or settings.get("progress", True) else ():
        to_stderr(sentence)
    if not behind:
        _bring(bleu=setting.data != DIGITS)
    if getattr(setting.pictures, "left_out", None) and (run.get("dry_run", False) or settings.get("progress", True)):
        to_stderr(str(setting.pictures.left_out))
    if run.get("dry_run", False):
        return pictured.dry_run(model, batches, settings, run.get("doctor", True))
    if settings.get("progress", True):
        to_stderr(
            f"{setting.pictures!r}, {len(batches.rows)} pictures to learn; {config.num_parameters():,} parameters"
        )
    left, doctor = (SHEET, SCORES), run.get("doctor", True)
    result, expected = pictured.train("caption", model, batches, settings, setting.to_dict(), left, doctor)
    if behind:
        return Reply({}, None)
    return _scored(result, setting, batches, beams, scored or None, expected)


def _bring(bleu: bool) -> None:
    """Imports what the end of a run needs: what is missing is told before the training, and the forecast counts what
    is there."""
    for name, what in (("PIL.Image", SHEET), *([("sacrebleu", "BLEU")] if bleu else [])):
        try:
            import_module(name)
        except ImportError as error:
            to_stderr(f"the end of this run will have no {what}: {error}; pip install 'loopos[vision]'")


def _scored(
    result: Any, setting: CaptionSetting, batches: Any, beams: int, scored: int | None, expected: dict[str, Any] | None
) -> Reply:
    """Scores on held-out pictures, kept in the folder of the run, and pictures beside their captions. expected: of the
    forecast."""
    folder = Path(result.output_dir)
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
    data |= {"forecast": expected, "sheet": sheet, "stopped": result.stopped, "output_dir": str(folder)}
    return Reply(data, "\n".join(_text(result, last, found, sheet)))


def _text(result: Any, last: dict[str, Any], found: Any, sheet: str | None) -> list[str]:
    lines = [f"updates {result.step}, saved in {result.output_dir}"]
    if "eval_loss" in last:
        lines[0] += f", held-out loss {in_words(last['eval_loss'])}"
    lines.append(str(found))
    lines += [f"  {'=' if each.right else '!'} {each.said}" for each in found.pictures[:SHOWN]]
    return lines + ([] if sheet is None else [f"pictures: {sheet}"])


def _sheet(folder: Path, part: Any, found: list[Any]) -> str | None:
    """Pictures beside their captions; None, and why, where Pillow is missing."""
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
    if not files:
        raise ValueError("predict takes the folder of a run and picture files: loopos caption --predict RUN IMAGE")
    model = Captioner.load(run)
    side = model.config.encoder.height
    images = np.stack([decode_square(Path(file), side, file) for file in files])
    said = model.caption(images, beams=beams)
    told = [{"image": file, "caption": text} for file, text in zip(files, said, strict=True)]
    return Reply({"captions": told}, "\n".join(f"{file}: {text}" for file, text in zip(files, said, strict=True)))
