"""The round of the doctor for a captioner, and for a classifier of pictures: checks in the order of what each rests
on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

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
FULL_ONLY = {"overfit a batch"}
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
    original, kind = model, kind_of(model)
    sources, config = kind.open(model, data, given.get("eval_data"), given.get("tokenizer"), settings, False)
    if isinstance(model, kind.config):
        model = kind.model(config, seed=settings.seed, precision=settings.precision)
    captions = isinstance(model, Captioner)
    examinations = OF_BOTH[:-2] + (OF_CAPTIONS if captions else []) + OF_BOTH[-2:]
    examinations = [each for each in examinations if not (quick and each[0] in FULL_ONLY)]
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
