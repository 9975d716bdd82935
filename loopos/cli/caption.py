"""``loopos caption``: a captioner, trained, and asked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import loopos
from loopos.run.callbacks import Callback
from loopos.run.messages import to_stderr
from loopos.run.metrics import as_logged
from loopos.run.schedules import total_steps

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
PRESETS = ("tiny", "nano_8gb")
SHOWN = 12  # pictures beside their captions
SCORED = 500  # held-out pictures, unless asked otherwise
TRAINED = (
    "max_steps", "epochs", "batch_size", "grad_accum", "optimizer", "learning_rate", "muon_lr", "lr_schedule",
    "warmup_steps", "min_lr", "weight_decay", "betas", "eps", "max_grad_norm", "label_smoothing", "on_nonfinite",
    "seed", "threads", "log_every", "eval_every", "save_every", "eval_tokens", "keep_best", "patience",
    "resume", "progress",
)  # fmt: skip
DEFAULTS = {"batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.05, "betas": (0.9, 0.99)}
STEPS = {"shapes": 1500, "digits": 800}  # of the sets that are made on the spot; else epochs
EPOCHS = 5


class Setting(NamedTuple):
    """name: of the set; pictures: it; steps: updates unless asked otherwise, of a set that is made on the spot; config:
    of a captioner for a vocabulary and its longest caption."""

    name: str
    pictures: Any
    steps: int | None
    preset: str
    dropout: float

    def config(self, vocab_size: int, longest: int) -> Any:
        from dataclasses import replace

        from loopos.vision import CaptionerConfig

        length = max(longest, 16)
        if self.preset == "nano_8gb":
            config = CaptionerConfig.nano_8gb(vocab_size, max(longest, 40))
        else:
            config = CaptionerConfig.tiny(vocab_size, length)
        side = self.pictures.image_size
        encoder = replace(config.encoder, image_size=side, patch_size=min(config.encoder.patch_size, side // 4))
        config = replace(config, encoder=encoder)
        if self.dropout:
            both = {part: replace(getattr(config, part), dropout=self.dropout) for part in ("encoder", "decoder")}
            config = replace(config, **both)
        return config


def add_caption(parser: argparse.ArgumentParser) -> None:
    known = options.settings_of_train()
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="pictures and captions (default: shapes, drawn)")
    asked = parser.add_argument_group("caption pictures, and train nothing")
    asked.add_argument("--predict", nargs="+", metavar=("RUN", "IMAGE"), help="the folder of a run, and picture files")
    options.add_flag(asked, "beams", "of beam search; 1 takes the likeliest word each time", "int", 1)
    data = parser.add_argument_group("data and model")
    options.add_flag(data, "digits", "scikit-learn's digits instead of shapes", "bool", False)
    options.add_flag(data, "preset", f"size of the model: {', '.join(PRESETS)}", "str", "tiny")
    options.add_flag(data, "image_size", "pixels of a side (default: the preset's; of digits 16)", "int")
    options.add_flag(data, "subset", "use only so many pictures", "int")
    options.add_flag(data, "min_count", "words that are rarer are unknown", "int", "1; of a folder 5")
    options.add_flag(data, "cache", "a file that keeps the decoded pictures for the next run", "str")
    options.add_flag(data, "dropout", options.MODEL["dropout"], "float", 0.0)
    options.add_flag(data, "scored", "held-out pictures that are captioned at the end; 0: all", "int", SCORED)
    options.add_flag(data, "output_dir", "(default: runs/caption-NAME)", "str")
    training = parser.add_argument_group("training")
    own = DEFAULTS | {"max_steps": f"{STEPS['shapes']}; of digits {STEPS['digits']}", "epochs": f"of a folder {EPOCHS}"}
    for name in TRAINED:
        annotation, default = known[name]
        options.add_flag(training, name, options.TRAIN[name], annotation, own.get(name, default))


def _opened(given: dict[str, Any]) -> Setting:
    from loopos.vision import CaptionFolder, Digits, Shapes

    folder, digits, preset = given.pop("folder", None), given.pop("digits", False), given.pop("preset", "tiny")
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    if folder is not None and digits:
        raise ValueError(f"digits are a set of their own; got the folder {folder} as well")
    subset, cache = given.pop("subset", None), given.pop("cache", None)
    side = given.pop("image_size", 16 if digits else {"tiny": 64, "nano_8gb": 224}[preset])
    dropout = given.pop("dropout", 0.0)
    if folder is not None:
        pictures = CaptionFolder(folder, subset=subset, image_size=side, cache=cache)
        return Setting(Path(folder).resolve().name, pictures, None, preset, dropout)
    if digits:
        return Setting("digits", Digits(side), STEPS["digits"], preset, dropout)
    shapes = Shapes(20_000 if subset is None else subset, image_size=side)
    return Setting("shapes", shapes, STEPS["shapes"], preset, dropout)


def caption(given: dict[str, Any]) -> Reply:
    asked, beams = given.pop("predict", None), given.pop("beams", 1)
    if asked is not None:
        use_threads(given)
        return predict(asked[0], asked[1:], beams)
    from loopos.scoring.captions import score_captions
    from loopos.vision import CaptionBatches, WordVocabulary

    setting = _opened(given)
    scored, least = given.pop("scored", SCORED), given.pop("min_count", 5 if setting.steps is None else 1)
    folder = Path(given.pop("output_dir", None) or f"runs/caption-{setting.name}")
    part = setting.pictures.part("train")
    words = WordVocabulary.of((c for i in range(len(part)) for c in part.captions(i)), min_count=least)
    settings = DEFAULTS | given
    batches = CaptionBatches(
        part,
        words,
        batch_size=settings["batch_size"],
        grad_accum=settings.get("grad_accum", 1),
        seed=settings.get("seed", options.SEED),
        max_tokens=None,
    )
    if settings.get("max_steps") is None and settings.get("epochs") is None:
        settings |= {"epochs": EPOCHS} if setting.steps is None else {"max_steps": setting.steps}
    total = total_steps(settings.get("max_steps"), settings.get("epochs"), batches.steps_per_epoch)
    settings = {"warmup_steps": min(100, total // 10), "min_lr": settings["learning_rate"] / 10} | settings
    config = setting.config(words.vocab_size, batches.max_tokens)
    told = settings.get("progress", True)
    if told:
        to_stderr(f"{setting.pictures!r}, {len(part)} pictures to learn; {config.num_parameters():,} parameters")
        if getattr(setting.pictures, "left_out", None):
            to_stderr(str(setting.pictures.left_out))
    held_out = setting.pictures.part("valid" if "valid" in setting.pictures.parts else "test")
    try:
        result = loopos.train(
            config, batches, eval_data=held_out, output_dir=folder, callbacks=[_OldSheet()], **settings
        )
    except SystemExit as stopped:
        if stopped.code == SIGTERM:
            to_stderr(
                f"loopos caption: training was stopped by SIGTERM; {folder} has a checkpoint of it. To go on: the same "
                "command with --resume auto"
            )
        raise
    found = score_captions(
        result.model, setting.pictures.part("test"), beams=beams, pictures=scored or None, batches=batches
    )
    sheet = _sheet(folder, setting.pictures.part("test"), found.pictures[:SHOWN])
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
