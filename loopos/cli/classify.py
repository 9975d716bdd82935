"""``loopos classify``: a classifier of pictures, trained, scored, and asked."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from loopos.run.messages import to_stderr
from loopos.run.metrics import as_logged
from loopos.vision.config import VisionConfig
from loopos.vision.data.classes import ClassFolder
from loopos.vision.data.parts import Part
from loopos.vision.data.sources import held_out_part
from loopos.vision.encoder import ImageEncoder
from loopos.vision.opening import open_pictures
from loopos.vision.standard import DIGITS, DROPOUT, training_of

from . import options, pictured, ranked
from .common import use_threads
from .objective import table
from .reply import Reply

CLASSIFY = """Train a ViT to classify the pictures of FOLDER, which has a folder of them for each class; without FOLDER
scikit-learn's digits. Of FOLDER a tenth of the pictures is held out for evaluation and a tenth for the end, unless it
has train/, valid/ and test/; of the digits one fifth, for both. It ends with the accuracy and the confusion matrix of
the held-out pictures.

  loopos classify
  loopos classify flowers --image-size 64 --epochs 20
  loopos classify flowers --evaluate runs/classify-flowers
  loopos classify --predict runs/classify-flowers picture.png

--predict and --evaluate take a folder of transformers' ViT as well. run.toml has tables [run], [model] and [train] of
the settings below, by name."""
WARP = ClassFolder.augment.warp
RUN = {
    "subset": ("use only so many pictures", "int", None),
    "warp": ("pictures learned from are turned, stretched and shifted by up to this share of a side", "float", WARP),
    "output_dir": ("(default: runs/classify-NAME)", "str", None),
    **pictured.TOLD,
}
MODEL_DEFAULTS = {"image_size": 64, "patch_size": 8, "n_layer": 4, "n_head": 4, "d_model": 128, "dropout": 0.0}
DIGITS_MODEL = {"image_size": 16, "patch_size": 4, "n_layer": 3, "d_model": 96, "dropout": DROPOUT[DIGITS]}
_TOLD = {"image_size": "pixels of a side", "patch_size": "pixels of a patch's side"} | options.MODEL
MODEL = {
    name: (_TOLD[name], "float" if name == "dropout" else "int", f"{usual}; of digits {DIGITS_MODEL.get(name, usual)}")
    for name, usual in MODEL_DEFAULTS.items()
}
TRAINED = tuple(name for name in pictured.TRAINED if name != "eval_tokens")
TABLES = {"run": ("folder", *RUN), "model": MODEL, "train": TRAINED, "ranks": ranked.RANKS}
EPOCHS = 30
STEPS = 3500  # of digits
BATCH = 64  # pictures at a time


def add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="a folder for each class (default: digits)")
    parser.add_argument("--config", metavar="FILE", help="run.toml: these settings by name; flags win")
    asked = parser.add_argument_group("ask a model, and train nothing")
    asked.add_argument("--predict", nargs="+", metavar=("MODEL", "IMAGE"), help="a run, or a ViT, and picture files")
    asked.add_argument("--evaluate", metavar="MODEL", help="a run, or a ViT: its accuracy on what FOLDER holds out")
    own = {"epochs": f"{EPOCHS}; of digits max_steps {STEPS}", "optimizer": "adamw; of digits muon"}
    pictured.add_flags(parser, {"data and run": RUN, "model": MODEL}, TRAINED, own)


def classify(given: dict[str, Any]) -> Reply:
    with ranked.together(given):
        return _classify(given)


def _classify(given: dict[str, Any]) -> Reply:
    predicting, scoring = given.pop("predict", None), given.pop("evaluate", None)
    if predicting is not None or scoring is not None:
        ranked.refuse("classify --predict or --evaluate")
    if predicting is not None:
        use_threads(given)
        if given or scoring is not None:
            raise ValueError(f"predict takes threads alone; got {', '.join([*given, *(['evaluate'] * bool(scoring))])}")
        return predict(predicting[0], predicting[1:])
    if scoring is not None:
        use_threads(given)
        folder, subset = given.pop("folder", None), given.pop("subset", None)
        if given:
            raise ValueError(f"evaluate takes FOLDER, subset and threads alone; got {', '.join(given)} as well")
        return evaluate(scoring, folder, subset)
    path = given.pop("config", None)
    given = (options.read_config(path, TABLES) if path is not None else {}) | given
    ranks = ranked.take(given)
    if behind := ranked.behind(ranks):
        given["progress"] = False  # the first process tells
    pictured.check("classify", given, {"subset": 1, "image_size": 1, "patch_size": 1})
    data, subset = given.pop("folder", None), given.pop("subset", None)
    run = {name: given.pop(name) for name in pictured.TOLD if name in given}
    warp = given.pop("warp", None)
    shape = {name: given.pop(name) for name in MODEL if given.get(name) is not None}
    data = DIGITS if data is None else os.path.abspath(data)
    shape = MODEL_DEFAULTS | (DIGITS_MODEL if data == DIGITS else {}) | shape
    pictures = pictured.labelled(data, shape["image_size"], subset)
    classes = pictures.classes
    if warp is not None:
        pictures.augment = pictures.augment._replace(warp=warp)
    settings = training_of(data, given) | {"output_dir": f"runs/classify-{Path(data).name}"} | given | ranks
    settings["eval_data"] = held_out = held_out_part(pictures)
    train = pictures.part("train")
    steps = -(-len(train) // (settings["batch_size"] * settings.get("grad_accum", 1)))
    length = {"max_steps": STEPS} if data == DIGITS else {"epochs": EPOCHS}
    settings = pictured.with_schedule(settings, length, steps)
    config = VisionConfig(**shape, num_classes=len(classes))
    model = ImageEncoder(config, seed=settings.get("seed", options.SEED), precision=settings.get("precision"))
    if run.get("dry_run", False):
        return pictured.dry_run(model, train, settings, run.get("doctor", True))
    if settings.get("progress", True):
        to_stderr(
            f"{pictures!r}, {len(train)} pictures to learn, {len(held_out)} to evaluate, {len(classes)} classes; "
            f"{config.num_parameters():,} parameters"
        )
        if getattr(pictures, "left_out", None):
            to_stderr(str(pictures.left_out))
    about = {"data": data, "image_size": shape["image_size"], "subset": subset, "classes": list(classes)}
    result, expected = pictured.train("classify", model, train, settings, about, (), run.get("doctor", True))
    if behind:
        return Reply({}, None)
    found = _scored(result.model, held_out_part(pictures, "test"), classes)
    last = as_logged(result.history[-1]) if result.history else {}
    data_ = {"step": result.step, "loss": last.get("loss"), "eval_loss": last.get("eval_loss"), **found}
    data_ |= {"forecast": expected, "stopped": result.stopped, "output_dir": str(result.output_dir)}
    text = f"updates {result.step}, saved in {result.output_dir}\n{table(found)}"
    return Reply(data_, text)


def _scored(model: ImageEncoder, part: Part, classes: tuple[str, ...]) -> dict[str, Any]:
    """accuracy, pictures, labels, and the confusion matrix: of each class a row, by what was said of its pictures."""
    labels, images = part.labels, part.images()
    said = np.concatenate([model.logits(images[k : k + BATCH]).argmax(-1) for k in range(0, len(images), BATCH)])
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, said), 1)
    accuracy = float((said == labels).mean())
    return {"labels": list(classes), "accuracy": accuracy, "pictures": len(labels), "confusion": confusion.tolist()}


def _opened(folder: str) -> tuple[ImageEncoder, tuple[str, ...]]:
    """A classifier and the names of its classes."""
    model = open_pictures(folder)
    if not isinstance(model, ImageEncoder) or not model.config.num_classes:
        raise ValueError(
            f"{folder} is no classifier of pictures: expected a run of loopos classify, or a folder of ViT"
        )
    return model, pictured.classes_of(folder, model)


def evaluate(folder: str, data: str | None, subset: int | None) -> Reply:
    """Accuracy of a model on the held-out pictures of FOLDER; None: of what it was trained on."""
    model, classes = _opened(folder)
    told = pictured.noted(folder) or {}
    data, subset = (os.path.abspath(data), subset) if data else (told.get("data", DIGITS), told.get("subset"))
    if model.config.height != model.config.width:
        raise ValueError(f"pictures are made squares, and those of {folder} are {model.config.image_size}")
    pictures = pictured.labelled(data, model.config.height, subset)
    if pictures.classes != classes:
        raise ValueError(
            f"{pictures!r} has the classes {', '.join(pictures.classes)}, and {folder} {', '.join(classes)}"
        )
    found = _scored(model, held_out_part(pictures, "test"), classes)
    return Reply(found | {"data": data}, f"{found['pictures']} held-out pictures of {pictures!r}\n{table(found)}")


def predict(folder: str, files: list[str]) -> Reply:
    """Classes of picture files, the likeliest of each with its probability."""
    from loopos import ops
    from loopos.vision.data.decoding import decode_square

    if not files:
        raise ValueError("predict takes a model and picture files: loopos classify --predict RUN IMAGE")
    model, classes = _opened(folder)
    images = np.stack([decode_square(Path(file), model.config.height, file) for file in files])
    shares = np.concatenate([ops.softmax(model.logits(images[k : k + BATCH])) for k in range(0, len(images), BATCH)])
    told = []
    for file, row in zip(files, shares, strict=True):
        best = np.argsort(-row, kind="stable")[:3]
        told.append(
            {"image": file, "class": classes[best[0]], "probabilities": {classes[k]: float(row[k]) for k in best}}
        )
    return Reply(
        {"classes": told},
        "\n".join(f"{e['image']}: {e['class']} ({max(e['probabilities'].values()):.1%})" for e in told),
    )
