"""What each command does. A command takes the options that were given and returns a :class:`Reply`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import loopos
from loopos import build_info
from loopos.adapters import merge
from loopos.config import ModelConfig
from loopos.data.examples.data import ExampleData
from loopos.data.examples.data import find as find_examples
from loopos.data.reading import load, train_eval_split
from loopos.data.sources import open_sources
from loopos.data.text_folder import TextFolder
from loopos.distributed.opening import open_ranks
from loopos.generation.stopping import decoding
from loopos.gradients.gradcheck import check_model
from loopos.hf.settings import family_of
from loopos.run.alike import read_alike
from loopos.run.callbacks import Callback
from loopos.run.computed import Computed
from loopos.run.messages import to_stderr
from loopos.run.metrics import as_logged
from loopos.run.schedules import total_steps

from . import (
    adapter,
    checkup,
    folders,
    forecast,
    objective,
    options,
    origin,
    pictures,
    ranked,
    reader,
    stored,
    streamed,
)
from .common import SIGTERM, in_words, use_threads
from .forecast import Forecaster
from .reply import Reply

TRAIN = """Train a model on TEXT: a text; examples, a .jsonl, .csv or .parquet file or a folder with train.jsonl and
valid.jsonl, each {"prompt", "completion"}, {"messages"} or {"text"}; or token ids in a .npy or uint16 .bin file.
Without TEXT, on the help texts that every Python carries, which takes about two minutes on two cores. The last tenth is
held out, unless a folder has its own; its loss and a sample of what the model writes are printed at the end.

  loopos train
  loopos train novel.txt --output-dir runs/novel --save-every 500
  loopos train novel.txt --output-dir runs/novel --resume auto
  loopos train --config run.toml --max-steps 500
  loopos train questions.jsonl --init FOLDER --output-dir runs/tuned

With examples and --init other defaults hold: --epochs 3 --batch-size 2 --seq-len 512 --learning-rate 1e-4.

Before the first update stderr tells what the run will take, the label audit of examples, and what the quick checks of
`loopos doctor` find; the training goes on. --no-doctor leaves out the checks, --no-progress all three and the bar.
With --json the first two are lines of JSON, also under --no-progress. The audit is kept as audit.json in output_dir;
--dry-run tells the forecast alone."""
GRADCHECK = """Compare the gradients of whole models with differences in float64: of two small models, or of one of the
size given. Exit code 1 when they disagree."""
INFO = """Print version, instruction set, threads and how the core was built; with FOLDER, what that folder holds, and
which of its weights have numbers that are not finite."""


class Prepared(NamedTuple):
    """What a training is to be: the model before it, the ids or examples to learn, the keywords of loopos.train, and
    the options that are about the run as a whole."""

    model: loopos.Model
    data: np.ndarray | ExampleData | TextFolder
    tokenizer: Any
    settings: dict[str, Any]
    run: dict[str, Any]
    learned: origin.Origin


def prepare(given: dict[str, Any]) -> Prepared:
    """From the options of ``loopos train``, those of a run.toml included."""
    path = given.pop("config", None)
    asked = (options.read_config(path) if path is not None else {}) | given
    options.check(asked)
    spec = adapter.take(asked)
    run = {name: asked.pop(name) for name in options.RUN if name in asked}
    shape = {name: asked.pop(name) for name in options.MODEL if name in asked}
    ranks = ranked.started(asked)
    taught = objective.take(asked, run.get("dtype"), asked.get("precision")) | ranked.take(asked)
    tuning = run.get("init") is not None and find_examples(run.get("text")) is not None
    settings = options.TRAIN_DEFAULTS | (options.TUNING_DEFAULTS if tuning else {})
    if spec is not None and run.get("init") is not None:
        settings["learning_rate"] = options.ADAPTER_RATE
    settings |= asked | taught
    if settings.get("max_steps") is None and settings.get("epochs") is None:
        settings |= {"epochs": options.TUNING_EPOCHS} if tuning else {"max_steps": options.STEPS}
    if settings.get("min_lr") is None and isinstance(settings["learning_rate"], int | float):
        settings["min_lr"] = settings["learning_rate"] / 10

    init, reading = run.get("init"), settings.pop("tokenizer", None)
    opened = {name: run.get(name) for name in ("dtype", "weights", "base")} | {"precision": settings.get("precision")}
    starting = None if init is None else folders.load(init, **opened)
    streaming = run.get("streaming", False)
    held_out, scored = 0 if streaming else run.get("held_out", options.HELD_OUT), settings.get("eval_data")
    learned = origin.Origin.of(run.get("text"), held_out if scored is None else 0, scored)
    texts = not all(reader.holds_ids(path) for path in (run.get("text"), scored or run.get("text")))
    tokenizer = reading if starting is None or not texts else reader.reader(init, starting, reading)
    if streaming:
        tokenizer = streamed.tokenizer(tokenizer)
        data: Any = None  # once the model has told how long a row is
    else:
        text = origin.source(learned.text)
        if ranks.size > 1:
            ranks.same(read_alike(tokenizer, text, None if scored is None else Path(scored)))
        data, tokenizer = load(text, "bytes" if reading == "bytes" else tokenizer, ranks=ranks)
    if scored is not None:
        settings["eval_data"], _ = load(Path(scored), tokenizer, "eval_data", ranks)
    elif isinstance(data, ExampleData) and data.valid:  # which train takes by itself
        learned = learned._replace(held_out=0.0, eval_data=os.path.abspath(data.valid[0]))
    elif held_out != 0:
        data, settings["eval_data"] = train_eval_split(data, held_out)
    _share(run.get("share_embeddings"), shape, starting)
    model = _model(shape, starting, tokenizer, settings, run.get("dtype"))
    for pattern in (run.get("freeze") or "").split(","):
        if pattern.strip():
            model.freeze(pattern.strip())
    if spec not in (None, model.adapter):  # init may be a run that has it
        model.add_adapter(spec, seed=settings.get("seed", options.SEED))
    if tuning or (streaming and starting is not None):
        settings.setdefault("seq_len", min(options.TUNING_SEQ_LEN, model.config.context_length))
    if streaming:
        data = streamed.folder(run.get("text"), tokenizer, settings, model.config)
    if "warmup_steps" not in asked:
        settings["warmup_steps"] = _warmup(settings, data, tokenizer, model.config)
    return Prepared(model, data, tokenizer, settings, run, learned)


def _warmup(settings: dict[str, Any], data: Any, tokenizer: Any, config: ModelConfig) -> int:
    """The default, or a tenth of a run so short that it would not leave the warm-up. Settings that cannot be are left
    for train to refuse."""
    most = options.TRAIN_DEFAULTS["warmup_steps"]
    try:
        per_epoch = None
        if isinstance(data, TextFolder):
            per_epoch = len(data)
        elif not isinstance(data, ExampleData):
            windows = (len(data) - 1) // (settings.get("seq_len") or config.context_length)
            per_epoch = -(-windows // (settings["batch_size"] * settings.get("grad_accum", 1)))
        elif settings.get("epochs") is not None:
            names = ("seq_len", "batch_size", "grad_accum", "mask_prompt", "pack", "progress", "task", "label_column")
            asked = {name: settings[name] for name in names if name in settings}
            sizes = {"vocab_size": config.vocab_size, "context_length": config.context_length}
            per_epoch = open_sources(
                data._replace(valid=()),
                tokenizer=tokenizer,
                ranks=open_ranks(settings.get("distributed")),  # which come here together
                **sizes,
                **asked,
            ).train.steps_per_epoch
        return min(most, total_steps(settings.get("max_steps"), settings.get("epochs"), per_epoch) // 10)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return most


class _Lines(Callback):
    """Prints the label audit of examples, the history while it is made and what the monitor finds, as lines of JSON."""

    def __init__(self, emit: Callable[[Any], None]):
        self._emit = emit

    def on_train_begin(self, info: dict[str, Any]) -> None:
        if info["audit"] is not None:
            self._emit({"event": "audit"} | info["audit"].to_dict())

    def on_log(self, info: dict[str, Any]) -> None:
        self._emit({"event": "log"} | {name: value for name, value in as_logged(info).items() if name != "model"})

    def on_alarm(self, info: dict[str, Any]) -> None:
        self._emit({"event": "finding"} | {name: value for name, value in info.items() if name != "model"})


def train(given: dict[str, Any]) -> Reply:
    with ranked.together(given):
        return _train(given)


def _train(given: dict[str, Any]) -> Reply:
    emit = given.pop("emit", None)
    model, data, tokenizer, settings, run, learned = prepare(given)
    if run.get("export") is not None:
        _check_export(run["export"], model)
    if ranked.behind(settings):
        if not run.get("dry_run", False):
            loopos.train(model, data, tokenizer=tokenizer, **settings)
        return Reply({}, None)
    if run.get("dry_run", False):
        settings.pop("distributed", None)  # of this process
        found = forecast.of_run(model, data, tokenizer, settings, run.get("doctor", True))
        return Reply({"event": "forecast"} | found.to_dict(), str(found))
    companion = origin.Companion(learned)
    callbacks: list[Any] = [companion, *_trackers(run)]
    told = settings.get("progress", True)
    looks = run.get("doctor", True) and told  # without progress nothing is printed, so not looked
    if told or emit is not None:
        say = to_stderr if emit is None else (lambda found: emit({"event": "forecast"} | found.to_dict()))
        callbacks.append(Forecaster(model, say, looks))
    if looks:
        callbacks.append(checkup.Checkup(data, tokenizer, settings))
    if emit is not None:
        callbacks.append(_Lines(emit))
    try:
        result = loopos.train(model, data, tokenizer=tokenizer, callbacks=callbacks, **settings)
    except SystemExit as stopped:
        if stopped.code == SIGTERM:
            to_stderr(f"loopos train: {companion.stop_message()}")
        raise

    print(_summary(result, companion.evaluated))
    if result.classes is not None:
        print(objective.table(result.classes))
    if result.history:
        print(f"verdict: {result.verdict}")
    if result.findings:
        print(f"alarms: {len(result.findings)}, the first at {result.findings[0]}")
    if run.get("export") is not None:
        if result.model.adapter is not None:
            print(f"adapter merged: {result.model.merge_adapter()}")
        result.model.save_pretrained(run["export"])
        print(f"Hugging Face folder: {run['export']}")
    sample = None
    goes_on = isinstance(data, np.ndarray) and tokenizer is not None  # examples are asked, not gone on with
    if run.get("sample", options.SAMPLE) and goes_on and tokenizer.vocab_size <= model.config.vocab_size:
        print("sample:")
        written = folders.continued(
            result.model, data[-1:], run.get("sample", options.SAMPLE), temperature=options.TEMPERATURE
        )
        print(sample := decoding(tokenizer)(written[1:].tolist()))
    return Reply(_told(result) | {"export": run.get("export"), "sample": sample})


def _trackers(run: dict[str, Any]) -> list[Any]:
    from loopos.callbacks import TensorBoard, WandB

    asked = ((TensorBoard, run.get("tensorboard")), (WandB, run.get("wandb")))
    return [make(name) for make, name in asked if name is not None]


def _told(result: loopos.TrainResult) -> dict[str, Any]:
    """The last line of JSON: how the run ended."""
    last = as_logged(result.history[-1]) if result.history else {}
    verdict = {"kind": result.verdict.kind, "says": result.verdict.says} if result.history else None
    return {
        "event": "result",
        "step": result.step,
        "loss": last.get("loss"),
        "eval_loss": last.get("eval_loss"),
        "best": result.best,
        "classes": result.classes,
        "stopped": result.stopped,
        "output_dir": result.output_dir,
        "verdict": verdict,
        "findings": len(result.findings),
    }


def _check_export(folder: str, model: loopos.Model) -> None:
    """Refuse before the training what merge_adapter or save_pretrained would refuse after it."""
    try:
        if model.adapter is not None:
            merge.refuse(model.adapter, model.weights)
        family_of(model.config)
    except ValueError as error:
        raise ValueError(f"export: {str(error).removeprefix('save_pretrained: ')}") from None
    path = Path(folder).absolute()
    while not path.is_dir():
        if path.exists() or path.is_symlink():
            raise ValueError(f"export: {folder!r} cannot be made a folder: {path} is not one")
        path = path.parent


def _model(
    shape: dict[str, Any], starting: folders.Loaded | None, tokenizer: Any, settings: dict[str, Any], dtype: str | None
) -> loopos.Model:
    if starting is not None:
        if shape:
            raise ValueError(f"init brings the model's shape with it; got {', '.join(shape)} as well")
        return starting.model
    shape = options.MODEL_DEFAULTS | shape
    if shape.get("vocab_size") is None:
        if tokenizer is None:
            raise ValueError("vocab_size must be given (--vocab-size) when the data are token ids")
        shape["vocab_size"] = tokenizer.vocab_size
    seed = settings.get("seed", options.SEED)
    return loopos.Model(ModelConfig(**shape), seed=seed, dtype=dtype or "float32", precision=settings.get("precision"))


def _share(asked: bool | None, shape: dict[str, Any], starting: folders.Loaded | None) -> None:
    """--share-embeddings, which is tie_embeddings of a new model, and a fact of one that is there."""
    if asked is None:
        return
    if starting is None:
        if shape.setdefault("tie_embeddings", asked) != asked:
            raise ValueError("train: share_embeddings and tie_embeddings say the same thing, and contradict each other")
    elif starting.model.config.tie_embeddings != asked:
        has = "has a head of its own" if asked else "has the token embedding as its head"
        raise ValueError(f"train: share_embeddings={asked}, and the model of init {has}; leave it out")


def _summary(result: loopos.TrainResult, evaluated: dict[str, Any]) -> str:
    if not result.history:
        return f"the run was already complete: {result.step} updates"
    last = as_logged(result.history[-1])
    scored = f"loss of the last {last['loss']:.4f}" if "loss" in last else "no loss: the last had no target"
    text = f"updates {result.step}, {scored}"
    if "eval_loss" in last:
        plain = "eval_accuracy" not in last and "eval_reward_accuracy" not in last  # nats a token, and a perplexity
        text += f", held-out loss {in_words(last['eval_loss']) if plain else format(last['eval_loss'], '.4f')}"
        if "eval_reward_accuracy" in last:
            accuracy, margin = last["eval_reward_accuracy"], last["eval_reward_margin"]
            text += f", the chosen answer preferred in {accuracy:.1%} of its pairs, by {margin:.3g} on average"
        if plain and evaluated.get("eval_share", 1) < 1:
            share, seconds = evaluated["eval_share"], evaluated["eval_seconds"]
            text += f" over {evaluated['eval_tokens']} tokens ({share:.2g} of the held-out ones, {seconds:.1f} s)"
    if result.best is not None and result.best["step"] != result.step:
        text += f", the best was {result.best['eval_loss']:.4f} after {result.best['step']}"
    if result.stopped == "patience":
        text += ", stopped because none was better since (patience)"
    return text if result.output_dir is None else f"{text}; saved in {result.output_dir}"


def gradcheck(given: dict[str, Any]) -> Reply:
    use_threads(given)
    seed = given.pop("seed", 0)
    report = check_model(ModelConfig(**options.SMALL | given) if given else None, seed=seed)
    told = {"passed": report.passed, "max_error": report.max_error, "rtol": report.rtol, "results": report.results}
    return Reply(told, str(report), 0 if report else 1)


def info(given: dict[str, Any]) -> Reply:
    if "folder" not in given:
        for name, text in (("weights", "how to hold the matrices"), ("base", "where the base is")):
            if name in given:
                raise ValueError(f"{name} says {text} of a FOLDER; pass one")
        return Reply(build_info.configuration(), build_info.as_text(build_info.configuration()))
    if (seen := pictures.info(given["folder"])) is not None:
        return seen
    loaded = folders.load(given["folder"], **folders.opening(given))
    facts: dict[str, Any] = {"folder": given["folder"], "kind": "Hugging Face folder" if loaded.step is None else "run"}
    if loaded.step is not None:
        facts |= {"updates": loaded.step, "tokenizer": (loaded.state.get("tokenizer") or {}).get("kind")}
        facts |= {"data": f"{loaded.state['data'].get('kind')}, length {loaded.state['data'].get('length')}"}
    facts |= {"dtype": loaded.model.dtype, "parameters": loaded.model.config.num_parameters()}
    if loaded.step is not None:
        trained = Computed.recorded(loaded.state)
        facts |= {"precision": trained.precision, "products": trained.products}
    if loaded.model.adapter is not None:
        facts["adapter"] = str(loaded.model.adapter)
    bad = {name: int((~np.isfinite(view)).sum()) for name, view in loaded.model.parameters().items()}
    if any(bad.values()):
        facts["not_finite"] = [f"{name} ({count})" for name, count in bad.items() if count]
    facts |= stored.facts(loaded.model)
    config = loaded.model.config.to_dict()
    first = list(config).index("attention_bias")  # from here on what few models have: told where this one has it
    plain = ModelConfig.from_dict(dict(list(config.items())[:first])).to_dict()
    seldom = {name for name in list(config)[first:] if config[name] == plain[name]}
    facts |= config
    told = {name: value for name, value in facts.items() if name not in seldom}
    return Reply(facts, build_info.as_text(told | stored.by_part(facts.get("storage_errors", {}))))
