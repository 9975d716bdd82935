"""Every setting as a flag and as a key of run.toml, from the places where they are defined: ModelConfig and train."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from loopos import checks
from loopos.adapters import LoRA, Modulated
from loopos.adapters.kinds import KINDS
from loopos.choices import ACTIVATIONS, ATTENTION_BIASES, GATES, NORM_PLACEMENTS, NORMS, POSITIONS, QK_NORMS
from loopos.config import ModelConfig
from loopos.files import kinds
from loopos.optim.rules import RULES
from loopos.optim.training import settings_of
from loopos.precision import DTYPES, PRECISIONS, WEIGHTS, Arithmetic
from loopos.run.distill import LAYERS, LOSSES, Distill
from loopos.run.schedules import SCHEDULES
from loopos.run.settings import MOMENTS, OPTIMIZERS, POLICIES, TASKS
from loopos.training import train

from . import ranked
from .near import near

# The command line's own defaults: a model that learns a text in about two minutes on two cores.
MODEL_DEFAULTS = {"context_length": 64, "n_layer": 4, "n_head": 4, "d_model": 128}
TRAIN_DEFAULTS = {
    "batch_size": 12,
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "betas": (0.9, 0.99),
}
TUNING_DEFAULTS = {"batch_size": 2, "learning_rate": 1e-4}  # of a model that is there (init) on examples
ADAPTER_RATE = 2e-4  # the learning rate of an adapter on a model that is there
TUNING_EPOCHS, TUNING_SEQ_LEN = 3, 512
SMALL = {"vocab_size": 29, "context_length": 8, "n_layer": 2, "n_head": 2, "d_model": 16}  # for gradcheck
NEW_TOKENS = 200
SEED = inspect.signature(train).parameters["seed"].default
STEPS = 2000  # unless max_steps or epochs say otherwise
HELD_OUT = 0.1
SAMPLE = 300
TEMPERATURE = 0.8

METRICS, ANSWER_TOKENS = ("perplexity", "choice", "exact"), 64

CHOICES = {
    "metric": METRICS,
    "norm": NORMS,
    "activation": tuple(ACTIVATIONS),
    "position": POSITIONS,
    "attention_bias": ATTENTION_BIASES,
    "qk_norm": QK_NORMS,
    "norm_placement": NORM_PLACEMENTS,
    "optimizer": OPTIMIZERS,
    "moments": tuple(MOMENTS),
    "lr_schedule": SCHEDULES,
    "on_nonfinite": POLICIES,
    "task": TASKS,
    "distill_loss": LOSSES,
    "distill_layers": LAYERS,
    "adapter": tuple(KINDS),
    "adapter_gate": GATES,
} | ranked.CHOICES
PRECISION = {"dtype": DTYPES, "weights": WEIGHTS, "precision": PRECISIONS}  # loopos.precision refuses others by name


def _users(setting: str) -> str:
    return ", ".join(rule for rule in RULES if setting in settings_of(rule))


MODEL = {
    "vocab_size": "number of token ids (default: the tokenizer's)",
    "context_length": "most tokens of one sequence",
    "n_layer": "blocks",
    "n_head": "attention heads",
    "d_model": "width of the residual stream",
    "n_kv_head": "key/value heads (default: n_head)",
    "d_ff": "hidden width of the feed-forward (default: 4 d_model)",
    "norm": "normalisation",
    "activation": "of the feed-forward",
    "position": "how positions are told apart",
    "bias": "biases in linear layers and layer norms",
    "tie_embeddings": "the output head is the token embedding",
    "dropout": "probability of dropping, while training",
    "norm_eps": "added to the variance",
    "rope_theta": "base of the rotary frequencies",
    "head_dim": "width of one attention head (default: d_model / n_head)",
    "sliding_window": "tokens that a token sees, itself included (default: all before it)",
    "attention_bias": "biases of attention: of all its projections, of q, k and v alone (default: all with --bias)",
    "mlp_bias": "biases of the feed-forward (default: as --bias)",
    "qk_norm": "rms norm of queries and keys: of each head, of all heads together",
    "norm_placement": "norms before what a branch does, after it, or both",
    "norm_unit_offset": "norms multiply by 1 + weight",
    "parallel_residual": "attention and feed-forward side by side",
    "embedding_scale": "token embeddings are multiplied by it",
    "attention_scale": "of the scores; 0: 1 / sqrt(width of a head)",
    "rotary_dim": "elements of a head that rope turns; 0: all",
    "local_rope_theta": "rope_theta of layers with a sliding window; 0: rope_theta",
}
# A list with an entry a layer, an object, or what the data say is nothing to type as a flag.
WITHOUT_FLAG = ("rope_scaling", "layer_types", "rope_layers", "labels")
TRAIN = {
    "eval_data": "text or ids to score instead of held-out ones",
    "tokenizer": "ids of a text: bytes (of UTF-8), chars, or the path of a tokenizer.json",
    "max_steps": "updates in all",
    "epochs": "passes over the data; with max_steps, whichever ends first",
    "batch_size": "sequences of one micro-batch",
    "seq_len": "tokens of one sequence (default: context_length)",
    "grad_accum": "micro-batches of one update",
    "optimizer": "update rule; muon: for the matrices inside the blocks, AdamW for the rest",
    "learning_rate": "the peak",
    "muon_lr": "the peak for the matrices that follow Muon",
    "lr_schedule": "how it falls to min_lr",
    "warmup_steps": "updates in which it climbs to the peak",
    "min_lr": "where it ends",
    "weight_decay": "on tensors of two or more dimensions",
    "betas": f"of {_users('betas')}",
    "eps": f"of {_users('eps')}",
    "max_grad_norm": "larger gradients are scaled down to this norm; none: never",
    "label_smoothing": "share of each target spread over the vocabulary, of the training loss alone",
    "mask_prompt": "of examples: learn completions and the assistant's turns alone",
    "pack": "of examples: several share a row and do not see each other",
    "task": "the next token; dpo: pairs {prompt, chosen, rejected}; classify: {text, label} (docs/tasks.md)",
    "label_column": "for classify: which name of a record, or column, has the class",
    "dpo_beta": "for dpo: how far the answers may leave those of the reference; larger keeps them nearer",
    "regularization_lambda": "adds so much times the sum of the squares of all trained weights to the loss",
    "on_nonfinite": "what a NaN or infinity does",
    "seed": "of weights, order of the data and dropout",
    "threads": "threads to compute with",
    "moments": "how the optimizer keeps them: float32, or half or a quarter of the memory (docs/precision.md)",
    "precision": "of the products, at least; bf16x3 learns as float32 does (docs/precision.md; default: float32)",
    "log_every": "updates between two lines of metrics.jsonl",
    "eval_every": "updates between two evaluations",
    "save_every": "updates between two checkpoints",
    "eval_tokens": "tokens that one evaluation scores, spread evenly over the held-out ones; none: all",
    "keep_best": "keep the checkpoint of the lowest held-out loss as OUTPUT_DIR/best",
    "patience": "stop after so many evaluations in a row without a better one",
    "output_dir": "folder for checkpoints and metrics.jsonl",
    "resume": "auto, or a folder: go on from its newest good checkpoint",
    "progress": "the progress bar, and what is told before it",
} | ranked.SHARED
RUN = {
    "text": "file to learn: text, examples (.jsonl, .csv, .parquet, a folder), .npy or uint16 .bin ids "
    "(default: the help texts that every Python carries)",
    "held_out": "share of the text, from its end, that is scored and not learned; 0: none",
    "init": "start from the weights in this folder: of a run, or of a Hugging Face model (docs/models.md)",
    "streaming": "TEXT is a folder of text files, of which each batch reads its own pieces: no more is in memory",
    "share_embeddings": "the output head is the token embedding, as --tie-embeddings; of init it must be so already",
    "freeze": "parameters that keep their values: patterns of names, with commas (tok_embed.*,blocks.0.*)",
    "export": "at the end, write a Hugging Face folder here",
    "sample": "tokens of text to print at the end; 0: none",
    "dtype": "of the weights",
    "weights": "hold the matrices of init as this; below float32 they are frozen, and an adapter is trained",
    "base": "where init is a run with an adapter: the folder of its base, if that moved",
    "doctor": "the quick checks before the first update",
    "dry_run": "tell what the run will take in memory and time, and train nothing",
    "tensorboard": "folder for TensorBoard's event files (pip install 'loopos[track]')",
    "wandb": "project of Weights & Biases, logged offline (pip install wandb)",
}


OBJECTIVE = {
    "distill": "learn a teacher's answers: self (the model without its adapter), or the folder of a model",
    "distill_loss": "kl: of the logits; or of the hidden states",
    "distill_layers": "which hidden states: of the final norm, or of each block",
    "distill_temperature": "of kl",
    "distill_weight": "what the teacher's loss is multiplied by",
    "distill_cross_entropy": "what the usual loss beside it is multiplied by",
    "reference": "for dpo: the folder of the model to compare with (default: the model without its adapter)",
}
ADAPTER = {
    "lora_rank": "train LoRA matrices of this rank beside a frozen model (docs/adapters.md)",
    "lora_alpha": "what they add is multiplied by alpha / rank",
    "lora_dropout": "probability of dropping their input, while training",
    "lora_targets": "all-linear, attention, or names of modules with commas (q_proj,v_proj)",
    "adapter": "which kind: lora, or modulated, what attention does to the input of each feed-forward",
    "adapter_rank": "rank of the adapter; of lora the same as --lora-rank",
    "adapter_gate": "of a modulated one: what multiplies; sigmoid and tanh begin as 1",
    "safe_mode": "of a modulated one: no gate, the added part alone",
    "rslora": "multiply by alpha / root of rank instead",
    "dora": "learn the lengths of the rows apart from their directions",
}


def _optional(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    parse.__name__ = f"{kind.__name__} (or none)"  # argparse names it in its errors
    return parse


def settings_of_train() -> dict[str, tuple[str, Any]]:
    """(annotation as text, default) of every setting of ModelConfig and train; the default is the command line's."""
    known = {f.name: (str(f.type), None if f.default is MISSING else f.default) for f in fields(ModelConfig)}
    known |= {name: (str(p.annotation), p.default) for name, p in inspect.signature(train).parameters.items()}
    own = MODEL_DEFAULTS | TRAIN_DEFAULTS | {"max_steps": f"{STEPS}, or by epochs", "min_lr": "learning_rate / 10"}
    own["warmup_steps"] = f"{TRAIN_DEFAULTS['warmup_steps']}, or a tenth of a shorter run"
    return {name: (annotation, own.get(name, default)) for name, (annotation, default) in known.items()}


def add_flag(group: Any, name: str, help_text: str, annotation: str, default: Any = None) -> None:
    """One flag; its type follows from the annotation, its help ends with the default."""
    if default is not None:
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        help_text += f" (default: {shown})"
    keywords: dict[str, Any] = {"help": help_text}
    if annotation in ("bool", "bool | None"):
        keywords["action"] = argparse.BooleanOptionalAction
    elif name in CHOICES:
        keywords["choices"] = CHOICES[name]
    elif name in PRECISION:
        keywords["metavar"] = f"{{{','.join(PRECISION[name])}}}"
    elif annotation.startswith("tuple"):
        keywords |= {"type": float, "nargs": 2, "metavar": ("B1", "B2")}
    else:
        kind = int if annotation.startswith("int") else float if annotation.startswith("float") else str
        keywords |= {"type": _optional(kind) if "None" in annotation else kind, "metavar": kind.__name__[0].upper()}
    group.add_argument("--" + name.replace("_", "-"), dest=name, **keywords)


def add_train(parser: argparse.ArgumentParser) -> None:
    settings = settings_of_train()
    parser.add_argument("text", nargs="?", metavar="TEXT", help=RUN["text"])
    parser.add_argument("--config", metavar="FILE", help="run.toml: these settings by name; flags win")
    run = parser.add_argument_group("run")
    add_flag(run, "held_out", RUN["held_out"], "float", HELD_OUT)
    add_flag(run, "init", RUN["init"], "str")
    add_flag(run, "streaming", RUN["streaming"], "bool", False)
    add_flag(run, "share_embeddings", RUN["share_embeddings"], "bool")
    add_flag(run, "freeze", RUN["freeze"], "str")
    add_flag(run, "export", RUN["export"], "str")
    add_flag(run, "sample", RUN["sample"], "int", SAMPLE)
    add_flag(run, "dtype", RUN["dtype"], "str", "float32")
    add_flag(run, "weights", RUN["weights"], "str", "as dtype")
    add_flag(run, "base", RUN["base"], "str")
    add_flag(run, "doctor", RUN["doctor"], "bool", True)
    add_flag(run, "dry_run", RUN["dry_run"], "bool", False)
    add_flag(run, "tensorboard", RUN["tensorboard"], "str")
    add_flag(run, "wandb", RUN["wandb"], "str")
    training = parser.add_argument_group("training")
    for name, help_text in TRAIN.items():
        annotation, default = settings[name]
        add_flag(training, name, help_text, annotation, "learning_rate" if name == "muon_lr" else default)
    ranked.add(parser.add_argument_group("several processes"), add_flag)
    adapter = parser.add_argument_group("adapter")
    known = {f"lora_{each.name}": (str(each.type), each.default) for each in fields(LoRA)}
    known |= {f"adapter_{each.name}": (str(each.type), each.default) for each in fields(Modulated)}
    plain = {"adapter": ("str", None), "lora_rank": ("int", None), "adapter_rank": ("int", None)}
    for name, help_text in ADAPTER.items():
        long = f"adapter_{name}" if name == "safe_mode" else f"lora_{name}"
        add_flag(adapter, name, help_text, *(plain.get(name) or known.get(name) or known[long]))
    objective = parser.add_argument_group("teacher")
    spec = {f"distill_{each.name}": each for each in fields(Distill)}
    for name, help_text in OBJECTIVE.items():
        each = spec.get(name)
        add_flag(objective, name, help_text, *(("str", None) if each is None else (str(each.type), each.default)))
    model = parser.add_argument_group("model")
    for name, help_text in MODEL.items():
        add_flag(model, name, help_text, *settings[name])


def add_eval(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    parser.add_argument("text", nargs="?", metavar="TEXT", help="file to score (default: the part train holds out)")
    add_flag(parser, "metric", "what is measured", "str", METRICS[0])
    parser.add_argument("--compare", nargs="+", metavar="FOLDER", help="other models on the same TEXT, in one table")
    add_flag(parser, "max_new_tokens", f"of an answer, for exact (default: {ANSWER_TOKENS})", "int")
    for name, kind, text in (("batch_size", int, "sequences at a time"), ("seq_len", int, TRAIN["seq_len"])):
        add_flag(parser, name, text, kind.__name__)
    add_flag(parser, "held_out", "score only this share of TEXT, from its end", "float")
    add_flag(parser, "tokenizer", TRAIN["tokenizer"] + " (default: the run's)", "str")
    add_flag(parser, "threads", TRAIN["threads"], "int")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen."""
    add_flag(parser, "temperature", "0 takes the likeliest token each time", "float", TEMPERATURE)
    add_flag(parser, "top_k", "choose among the k likeliest only", "int")
    add_flag(parser, "top_p", "choose among the likeliest that together reach p", "float")
    add_flag(parser, "min_p", "choose among those that are at least p times as likely as the likeliest", "float")
    add_flag(parser, "repetition_penalty", "above 1: tokens that were there already are less likely", "float", 1.0)
    add_flag(parser, "seed", "of the choices", "int", 0)


SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`add_sampling` brought, but for the seed, as the keywords of generation."""
    return {"temperature": TEMPERATURE} | {name: given[name] for name in SAMPLING if name in given}


def add_ends(parser: argparse.ArgumentParser) -> None:
    """Where a text ends."""
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be given again")
    parser.add_argument("--eos", metavar="I,I", help="ids that end a text; none: no id does (default: the folder's)")


def add_gradcheck(parser: argparse.ArgumentParser) -> None:
    for name, help_text in MODEL.items():
        add_flag(parser, name, help_text, settings_of_train()[name][0])
    add_flag(parser, "seed", "of weights, ids and directions", "int", 0)
    add_flag(parser, "threads", TRAIN["threads"], "int")


def add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="a run, a checkpoint or a Hugging Face folder")
    _add_opening(parser)


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a run, one of its checkpoints, or a Hugging Face folder")
    _add_opening(parser)
    add_flag(parser, "precision", TRAIN["precision"], "str")


def _add_opening(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "weights", "hold the matrices in memory as this (default: as the folder has them)", "str")
    add_base(parser)


def add_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", metavar="FOLDER", help="of an adapter, or a run with one: where its base is")


def check(settings: Mapping[str, Any]) -> None:
    """Types and ranges of the settings that ModelConfig and loopos.train do not check by name before the training."""
    names = ("text", "init", "base", "export", "eval_data", "output_dir", "resume", "freeze", "tensorboard", "wandb")
    for name in names:
        value = settings.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            what = {"freeze": "patterns of names, with commas", "wandb": "the name of a project"}.get(
                name, "the name of a file or folder"
            )
            raise ValueError(f"train: {name} must be {what}, got {checks.shown(value)}")
    if not isinstance(settings.get("tokenizer", ""), str | None):
        named = checks.shown(settings["tokenizer"])
        raise TypeError(
            f"train: tokenizer must be one of 'bytes', 'chars', got {named}; or the path of a tokenizer.json"
        )
    if settings.get("dtype") is not None:
        Arithmetic.of("train", settings["dtype"], None, settings.get("precision"))
    if settings.get("base") is not None and settings.get("init") is None:
        raise ValueError("train: base says where the base of init is (--init RUN), and there is no init")
    if settings.get("weights") is not None and settings.get("init") is None:
        raise ValueError(
            "train: weights says how to hold the model of init (--init FOLDER); a new one is trained whole"
        )
    for name in ("progress", "doctor", "dry_run", "keep_best", "mask_prompt", "pack", "streaming", "share_embeddings"):
        if name in settings:
            checks.boolean("train", name, settings[name])
    if "held_out" in settings:
        checks.real("train", "held_out", settings["held_out"], low=0, below=1)
    if "sample" in settings:
        checks.integer("train", "sample", settings["sample"], low=0)


TABLES = {"run": RUN, "train": TRAIN, "model": MODEL, "adapter": ADAPTER, "objective": OBJECTIVE, "ranks": ranked.RANKS}


def read_config(path: str, tables: Mapping[str, Collection[str]] = TABLES) -> dict[str, Any]:
    """The settings of a run.toml: at the top level or in ``tables``, whose names and settings are given. A key that is
    no setting, one given twice, or a file that is not TOML: ValueError."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib

    data = Path(path).read_bytes()
    if (kind := kinds.kind_of(data[: kinds.HEAD])) is not None:
        raise ValueError(f"{path}: not a TOML file: this is {kind}")
    try:
        content = tomllib.loads(data.decode("utf-8-sig"))  # editors on Windows put a mark in front
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from None
    everything = [name for known in tables.values() for name in known]
    settings: dict[str, Any] = {}
    for where, values in (("", content), *((key, content[key]) for key in tables if key in content)):
        if not isinstance(values, Mapping):
            raise ValueError(f"{path}: {where} must be a table, [{where}]")
        known = tables.get(where, everything)
        for key, value in values.items():
            if not where and key in tables:
                continue
            if key not in known:
                place = f"in [{where}]" if where else "at the top level"
                meant = near(key, known)
                guess = "" if meant is None else f"; did you mean {meant}?"
                listed = f"{' There' if guess else '; there'} are {', '.join(sorted(known))}"
                raise ValueError(f"{path}: unknown setting {key!r} {place}{guess}{listed}")
            if key in settings:
                raise ValueError(f"{path}: {key} is given twice")
            settings[key] = None if value == "none" else value
    return settings
