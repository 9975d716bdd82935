"""The round of the doctor for a captioner, and for a classifier of pictures: checks in the order of what each rests
on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np

from loopos.run.kinds import kind_of
from loopos.run.settings import TrainSettings
from loopos.vision.captioner import Captioner
from loopos.vision.config import CaptionerConfig, VisionConfig
from loopos.vision.encoder import ImageEncoder

from . import (
    check_data,
    check_forward,
    check_gradient,
    check_machine,
    check_pictures,
    check_plan,
    check_task,
    check_update,
)
from .patient import Patient
from .plan import Plan
from .report import FAIL, Check, skipped
from .seen import PicturePatient

Examination = Callable[[Any], Check | Iterator[Check]]
OF_BOTH: list[tuple[str, Examination]] = [
    ("machine", check_machine.check_machine),
    ("pictures", check_pictures.pixels),
    ("initial loss", check_forward.initial_loss),
    ("picture matters", check_pictures.matters),
    ("picture visible", check_pictures.visible),
    ("guards", check_forward.guards),
    ("train and evaluation", check_forward.one_loss),
    ("gradient reaches", check_gradient.reach),
    ("updates", check_update.moves),
    ("gradcheck", check_gradient.whole_model),
    ("overfit a batch", check_update.overfit),
]
OF_CAPTIONS: list[tuple[str, Examination]] = [
    ("causality", check_forward.causality),
    ("padding", check_forward.padding),
    ("generation", check_pictures.generation),
]
OF_ENCODERS: list[tuple[str, Examination]] = [("rows see the picture", check_pictures.rows_see)]
FULL_ONLY = {"overfit a batch"}
OF_DATA = {"pictures", "initial loss", "updates", "overfit a batch"}  # tell nothing of pictures that are made up
ASIDE = {"threads": None, "eval_every": None, "save_every": None, "keep_best": False, "patience": None}
ASIDE |= {"precision": None, "label_smoothing": 0.0}

KINDS = (Captioner, ImageEncoder, CaptionerConfig, VisionConfig)


def of_pictures(model: Any) -> bool:
    """Whether the doctor looks at it with this round."""
    return isinstance(model, KINDS)


def examine(
    model: Any, data: Any, given: dict[str, Any], settings: TrainSettings, quick: bool, examined: Callable[..., Any]
) -> Iterator[Check]:
    """The checks of a run of ``model``, or of one of its configuration, with data, eval_data and tokenizer as
    loopos.train is given them. examined: what makes a finding of whatever an examination does."""
    if data is None:
        yield from _alone(model, settings, quick, examined)
        return
    original, kind = model, kind_of(model)
    sources, config = kind.open(model, data, given.get("eval_data"), given.get("tokenizer"), settings, False)
    if isinstance(model, kind.config):
        model = kind.model(config, seed=settings.seed, precision=settings.precision)
    captions = isinstance(model, Captioner)
    examinations = _examinations(captions, FULL_ONLY if quick else set())
    try:
        patient = PicturePatient(model, sources.train, asdict(settings) | ASIDE, quick)
        plan = Plan(original, config, sources, settings, given.get("eval_data") is data)
        yield from _of_data(patient, plan, captions)
    except IndexError as error:
        yield Check("labels", str(error), "ids and labels in range", FAIL, "look at vocab_size, or num_classes")
        yield from (skipped(name, "there is no batch to look at") for name, _ in examinations)
        return
    yield check_plan.schedule(plan)
    yield check_plan.decay(plan)
    for name, examination in examinations:
        yield from examined(name, examination, patient)


def _of_data(patient: Patient, plan: Plan, captions: bool) -> Iterator[Check]:
    pairs, found = check_data.check_data(patient, plan.total)
    if captions:
        yield from found
        return
    yield next(each for each in found if each.name == "labels")
    yield check_task.classes(pairs, tuple(str(k) for k in range(patient.vocab)), "pictures")


def _examinations(captions: bool, without: set[str]) -> list[tuple[str, Examination]]:
    every = OF_BOTH[:-2] + (OF_CAPTIONS if captions else OF_ENCODERS) + OF_BOTH[-2:]
    return [each for each in every if each[0] not in without]


def _alone(model: Any, settings: TrainSettings, quick: bool, examined: Callable[..., Any]) -> Iterator[Check]:
    """Without data: on pictures, ids and classes that are made up."""
    source = MadeUp(model)
    if isinstance(model, ImageEncoder) and not model.config.num_classes:
        alone = SimpleNamespace(model=SimpleNamespace(whole=model, images=source.images, parameters=model.parameters))
        for name, examination in (OF_BOTH[0], *OF_ENCODERS):
            yield from examined(name, examination, alone)
        return
    patient = PicturePatient(model, source, asdict(settings) | ASIDE, quick)
    for name, examination in _examinations(isinstance(model, Captioner), OF_DATA):
        yield from examined(name, examination, patient)


class MadeUp:
    """A source of one batch of noise, for a model of pictures."""

    steps_per_epoch, rows = 1, 4

    def __init__(self, model: Any):
        rng, vision = np.random.default_rng(0), model.vision
        self.images = rng.integers(0, 256, (self.rows, *vision.image_size, vision.channels)).astype(np.uint8)
        if isinstance(model, Captioner):
            time = min(model.config.context_length, 16)
            self._batch: tuple = (*rng.integers(0, model.config.vocab_size, (2, self.rows, time)), self.images)
        else:
            self._batch = self.images, rng.integers(0, max(1, vision.num_classes), self.rows)

    def batch(self, step: int, micro: int = 0) -> tuple:
        return self._batch
