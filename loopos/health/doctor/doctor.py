"""loopos.doctor: seconds of looking before hours of training.

Every check measures something, says what was expected, and gives a verdict; each has a test that plants the fault it is
for. Weights, optimizers and generators are bit for bit what they were afterwards.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from loopos import checks, precision
from loopos.config import ModelConfig
from loopos.covariance.config import CovarianceConfig
from loopos.covariance.network import CovarianceNetwork
from loopos.data.sources import open_sources
from loopos.distributed.opening import open_ranks
from loopos.errors import NonFiniteError
from loopos.model import Model
from loopos.run.adapting import adapter_of, give_classes, put_on
from loopos.run.computed import compute_in
from loopos.run.kinds import kind_of
from loopos.run.objectives import ANOTHER, check_teacher
from loopos.run.settings import TrainSettings
from loopos.threads import threads as using_threads
from loopos.training import default_settings, train
from loopos.vision.config import CaptionerConfig, VisionConfig

from . import (
    check_adapter,
    check_content,
    check_data,
    check_forward,
    check_gradient,
    check_labels,
    check_live,
    check_machine,
    check_plan,
    check_precision,
    check_ranks,
    check_steps,
    check_task,
    check_update,
    check_width,
    covariance,
    pictures,
)
from .patient import NotApplicable, Patient, randomness_kept
from .plan import Plan
from .report import FAIL, SKIPPED, Check, DoctorReport, skipped
from .task import Task

__all__ = ["Check", "DoctorReport", "doctor"]

_Examination = Callable[[Patient], Check | Iterator[Check]]
EXAMINATIONS: list[tuple[str, _Examination]] = [  # in the order of what each rests on
    ("machine", check_machine.check_machine),
    ("initial loss", check_task.initial_loss),
    ("regularization", check_task.regularization),
    ("causality", check_forward.causality),
    ("guards", check_forward.guards),
    ("growth forward", check_forward.growth),
    ("adapter", check_adapter.check_adapter),
    ("teacher", check_task.teacher),
    ("train and evaluation", check_forward.one_loss),
    ("growth backward", check_gradient.backward_growth),
    ("gradient reaches", check_gradient.reach),
    ("updates", check_update.moves),
    ("padding", check_forward.padding),
    ("generation", check_forward.cache),
    ("precision", check_precision.check_precision),
    ("accumulation", check_live.accumulation),
    ("several updates", check_steps.check_steps),
    ("logged loss", check_live.logged_loss),
    ("settings", check_live.check_settings),
    ("gradcheck", check_gradient.whole_model),
    ("overfit a batch", check_update.overfit),
    ("width", check_width.coordinates),
]
FULL_ONLY = {"overfit a batch", "width"}
ASIDE = {"threads": None, "eval_every": None, "save_every": None, "keep_best": False, "patience": None}
ASIDE |= {"precision": None}  # a model has its own, and small siblings are float64
ASIDE |= {"label_smoothing": 0.0}  # losses are compared with those of the model, which are without it
ELSEWHERE = {
    "adapter",
    "eval_data",
    "callbacks",
    "output_dir",
    "resume",
    "progress",
    "tokenizer",
}  # of train, not in TrainSettings


def doctor(
    model: Model | ModelConfig | Any,
    data: Any,
    *,
    quick: bool = False,
    trainer: Callable[..., Any] | None = None,
    **settings: Any,
) -> DoctorReport:
    """Check model, data, settings and machine before a training; a report with one line a check.

    model     a Model; a ModelConfig, from which one is built with the seed; or any object with ``parameters()`` (live
              views by name), ``loss(ids, targets)`` and ``loss_and_grads(ids, targets)``. What it has besides
              (``forward``, ``generate``, ``config`` with the fields of ModelConfig, a constructor ``(config, seed=,
              dtype=)``, ``activations(ids)``: the stream before the first block and after each) lets more be checked.
              Or a Captioner, an ImageEncoder with classes, or the configuration of one: with checks of pictures. Or
              a CovarianceNetwork or its configuration: with checks of the matrices of its pipeline
    data      as for :func:`loopos.train`; None, of a model of pictures alone: pictures are made up
    distributed  as of loopos.train, among the settings: all processes call this at the same time, are compared, and
              have the same report, which the first one makes
    settings  keywords of :func:`loopos.train`, so that one dict serves both, eval_data and tokenizer among them; those
              about files and callbacks are accepted and not used
    quick     the round that ``loopos train`` makes first: a batch cut shorter, no learning of a batch by heart, and no
              update of a model of more than 20 million weights
    trainer   what will train, if not loopos.train: called in the same way, on small models

    The batch is the run's first, cut down to what can be afforded. Checks of code rather than of weights are made on a
    small model of the same class and family. Weights and random generators are put back bit for bit, and no optimizer
    of yours is used. A verdict is "ok", "warn", "fail", or "skipped" with the reason; ``report.ok`` is that none
    failed. A label or id out of range is a failed check; arguments that loopos.train refuses raise the same TypeError,
    ValueError or OSError here. The thresholds stand at the head of the modules ``check_*`` beside this one.
    """
    ranks = open_ranks(settings.pop("distributed", None))
    if ranks.size == 1:
        return _report(model, data, quick, trainer, settings)
    with ranks.agreed():
        kept = _settings(settings)
        if isinstance(model, kind_of(model).config):
            model = kind_of(model).model(model, seed=kept.seed, precision=kept.precision)
        compared = check_ranks.check_ranks(ranks, model, data, kept, settings)

        def whole() -> DoctorReport:
            report = _report(model, data, quick, trainer, settings, lambda: ranks.at(0))
            return replace(report, checks=(compared, *report.checks))

        return ranks.share(whole)


def _report(
    model: Any,
    data: Any,
    quick: bool,
    trainer: Callable[..., Any] | None,
    settings: dict[str, Any],
    told: Callable[[], None] = lambda: None,
) -> DoctorReport:
    """Of this process. told: is called after each check, as others may wait."""
    began = time.perf_counter()
    quick = checks.boolean("doctor", "quick", quick)
    if trainer is not None and not callable(trainer):
        raise TypeError(f"doctor: trainer must be called as loopos.train is, got {checks.shown(trainer)}")
    kept, original, teacher = _settings(settings), model, settings.get("teacher")
    check_teacher(teacher, kept, Model)
    if isinstance(model, ModelConfig):
        model = Model(model, seed=kept.seed, precision=kept.precision)
    elif isinstance(model, CaptionerConfig | VisionConfig | CovarianceConfig):
        original = model = kind_of(model).model(model, seed=kept.seed, precision=kept.precision)
    if isinstance(model, CovarianceNetwork):
        with using_threads(kept.threads), randomness_kept(), ExitStack() as undo:
            compute_in(model, kept.precision, undo)
            found = list(covariance.examine(model, data, kept, quick, _examined))
        return DoctorReport(tuple(found), time.perf_counter() - began, quick)
    for method in ("parameters", "loss", "loss_and_grads"):
        if not callable(getattr(model, method, None)) or isinstance(model, type):
            raise TypeError(
                f"doctor: model must be a Model, a ModelConfig or have {method}(), got {checks.shown(model)}"
            )
    with using_threads(kept.threads), randomness_kept(), ExitStack() as undo:
        if pictures.of_pictures(original):
            compute_in(model, kept.precision, undo)
            found = list(pictures.examine(original, data, settings, kept, quick, _examined))
            return DoctorReport(tuple(found), time.perf_counter() - began, quick)
        if isinstance(model, Model):
            compute_in(model, kept.precision, undo)
            put_on(model, adapter_of(model, settings.get("adapter")), kept.seed, undo)
        elif kept.task != "lm" or teacher is not None or settings.get("adapter") is not None:
            raise TypeError("doctor: a teacher, an adapter and other tasks than 'lm' are for a loopos.Model")
        precision.refuse_training("doctor", model)
        found = []
        for check in _examine(original, model, data, settings, kept, trainer, quick, undo):
            found.append(check)
            told()
    return DoctorReport(tuple(found), time.perf_counter() - began, quick)


def _settings(given: dict[str, Any]) -> TrainSettings:
    """Those of train, with its defaults and its checks."""
    known = inspect.signature(train).parameters
    unknown = [name for name in given if name not in known or name in ("model", "data")]
    if unknown:
        raise TypeError(f"doctor: {', '.join(unknown)} is no setting of loopos.train")
    kept = {name: value for name, value in given.items() if name not in ELSEWHERE}
    if isinstance(kept.get("teacher"), Model):
        kept["teacher"] = ANOTHER
    return default_settings(**kept)


def _examine(
    original: Any,
    model: Any,
    data: Any,
    given: dict[str, Any],
    settings: TrainSettings,
    trainer: Any,
    quick: bool,
    undo: ExitStack,
) -> Iterator[Check]:
    """undo: takes from the model again what the run would put on it."""
    config = getattr(model, "config", None)
    vocab = getattr(config, "vocab_size", 2**63 - 1)
    context = getattr(config, "context_length", 2**63 - 1 if settings.seq_len is None else settings.seq_len)
    plain = asdict(settings) | ASIDE
    examinations = [each for each in EXAMINATIONS if not (quick and each[0] in FULL_ONLY)]
    try:
        sources = open_sources(
            data,
            given.get("eval_data"),
            tokenizer=given.get("tokenizer"),
            own=lambda: getattr(model, "tokenizer", None),
            vocab_size=vocab,
            context_length=context,
            labels=getattr(config, "labels", ()),
            **settings.reading(),
        )
        if labels := getattr(sources.train, "labels", ()):
            give_classes(model, labels, settings.seed, undo)
            config = model.config
        plan = Plan(original, config, sources, settings, given.get("eval_data") is data)
        task = None
        if settings.teacher is not None or settings.task == "dpo":
            task = Task(model, given.get("teacher"), settings, getattr(sources.train, "seq_len", 1))
        patient = Patient(model, sources.train, plain, trainer, quick, task)
        pairs, found = check_data.check_data(patient, plan.total)
        found += check_content.check_content(plan, pairs)
        if (audit := getattr(sources.train, "audit", None)) is not None:
            found.append(check_labels.label_audit(audit))
        found += [check_task.answers(pairs)] if settings.task == "dpo" else []
        found += [check_task.classes(pairs, labels)] if labels else []
        found += check_plan.check_plan(plan)
    except IndexError as error:  # an id or a label that is out of range: nothing can be computed with it
        yield Check("labels", str(error), "ids and labels in range", FAIL, "look at the tokenizer and at vocab_size")
        yield from (skipped(name, "there is no batch to look at") for name, _ in examinations)
        return
    yield from found
    for name, examination in examinations:
        yield from _examined(name, examination, patient)


def _examined(name: str, examination: _Examination, patient: Patient) -> Iterable[Check]:
    """What an examination finds. A number that is not finite, and an error of the code, are findings too."""
    found: list[Check] = []
    try:
        result = examination(patient)
        for check in [result] if isinstance(result, Check) else result:
            found.append(check)
    except NotApplicable as reason:
        found.append(Check(name, str(reason), "", SKIPPED))
    except MemoryError as error:
        found.append(Check(name, f"not enough memory: {error}", "", SKIPPED))
    except NonFiniteError as error:
        advice = "loopos train will stop at this; the birth says where to look"
        found.append(Check(name, str(error), "finite numbers", FAIL, advice))
    except Exception as error:  # of the model, the trainer or the data looked at; the other checks go on
        advice = "this is an error in the code looked at, or a method that does not keep to loopos.Model's contract"
        found.append(Check(name, f"{type(error).__name__}: {error}", "no exception", FAIL, advice))
    return found
