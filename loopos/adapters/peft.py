"""PEFT's folders: adapter_config.json and adapter_model.safetensors, read and written without peft.

Which modules an adapter stands on is told by its tensors; the names and regular expressions of the settings are not
run. Every setting is accounted for: taken, without effect on the numbers, or refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.checks import shown
from loopos.errors import CheckpointError
from loopos.hf.classes import SCORE
from loopos.hf.folder import refuse_nonfinite
from loopos.hf.linears import Linear
from loopos.hf.tensors import NATIVE, cast

from . import files, patterns
from .files import SETTINGS, WEIGHTS
from .lora import LoRA
from .parts import MAGNITUDE, A, B
from .targets import names_of, spell

PREFIX = "base_model.model."
KINDS = {f"{A}.weight": A, f"{B}.weight": B, "lora_magnitude_vector": MAGNITUDE}
_TASK, _CLASSES = "CAUSAL_LM", "SEQ_CLS"
_HEADS = ("score", "classifier")  # what peft trains whole beside a classifier's adapter, by either name
_NEUTRAL = {  # settings that would change the numbers: what they must be; other unknown ones must be empty
    "bias": ("none",),
    "task_type": (_TASK, _CLASSES),
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),  # others (pissa, olora, ...) change the base as well
}
_WHY = {
    "bias": "with it peft trained biases of the base, which belong to no adapter",
    "init_lora_weights": "with it peft changed the base, or froze a matrix; save_pretrained(FOLDER, "
    "path_initial_model_for_weight_conversion=START) in peft turns pissa, olora or corda into one that stands on the "
    "base as it was",
}
_HARMLESS = frozenset(
    """
    auto_mapping base_model_name_or_path corda_config eva_config exclude_modules fan_in_fan_out inference_mode
    layers_pattern layers_to_transform lora_ga_config megatron_core peft_version qalora_group_size revision
    runtime_config target_modules
    """.split()  # noqa: SIM905 (a list would take a line each)
)


class Read(NamedTuple):
    """arrays: by the names of parameters."""

    spec: LoRA
    chosen: list[Linear]
    arrays: dict[str, np.ndarray]


def read(
    folder: Path, linears: Sequence[Linear], dtype: str, beside: Mapping[str, tuple[int, ...]] | None = None
) -> Read:
    """The adapter in ``folder``, for a model that has ``linears``; widened or rounded to ``dtype``. beside: the shapes
    of what learns with it, by name.

    FileNotFoundError where a file is missing; ValueError naming a setting that is not supported; CheckpointError for a
    file that is malformed, and for tensors that do not fit the model."""
    path, file = folder / SETTINGS, folder / WEIGHTS
    settings = _settings(path, files.read_settings(folder))
    if not file.exists() and (folder / "adapter_model.bin").exists():
        raise CheckpointError(
            folder,
            f"the adapter is a pickle, adapter_model.bin, which can run code and is not read; save it as {WEIGHTS}",
        )
    tensors = files.read_tensors(folder)
    by_module = {each.module: each for each in linears}
    found: dict[str, dict[str, np.ndarray]] = {}
    arrays = _beside(file, tensors, beside or {}, dtype)
    strange, left_out = [], ""
    for name, tensor in tensors.items():
        module, kind = _split(name, by_module)
        if module is None or kind is None:
            strange.append(name)
            continue
        left_out = "" if name.startswith(f"{PREFIX}{module}.") else f"{module.partition('.')[0]}."
        found.setdefault(module, {})[kind] = _numbers(file, name, tensor, dtype)
    if strange or not found:
        what = f"the tensors {', '.join(strange[:4])}{' and more' if strange[4:] else ''}" if strange else "no tensors"
        raise CheckpointError(
            file,
            f"it holds {what}, and this model has the modules {', '.join(_short(linears))} of {len(linears)} matrices "
            f"such as {linears[0].module}: the adapter belongs to another base",
        )
    if settings["task_type"] == _CLASSES and not beside:
        raise ValueError(f"load_adapter: {path}: task_type {_CLASSES!r} is of a classifier, and it has no head of one")
    chosen = [each for each in linears if each.module in found]
    spec = _spec(path, settings, spell(linears, chosen), chosen, left_out)
    for each in chosen:
        _check(file, each, found[each.module], spec)
        arrays |= {f"{each.name}.{kind}": _ours(each, kind, array) for kind, array in found[each.module].items()}
    return Read(spec, chosen, arrays)


def write(
    folder: Path,
    spec: LoRA,
    linears: Sequence[Linear],
    chosen: Sequence[Linear],
    parameters: Mapping[str, np.ndarray],
    *,
    base: str | None,
    transposed: bool,
    labels: Sequence[str] = (),
) -> None:
    """Writes what peft opens on the base in transformers, both files together or none. parameters: of the adapter, by
    name. base: where that base is. transposed: it stores its matrices so (GPT-2). labels: of a classifier, whose head
    is among ``parameters``. NonFiniteError for a number that is NaN or infinite."""
    names = {
        f"{each.name}.{kind}": f"{PREFIX}{each.module}.{theirs}" for each in chosen for theirs, kind in KINDS.items()
    }
    own = {name: parameters[name] for name in names if name in parameters}
    head = {f"{PREFIX}{SCORE}": np.asarray(parameters[SCORE])} if labels else {}
    refuse_nonfinite("save_adapter", own | head)
    of = {each.name: each for each in chosen}
    tensors = head
    for name, array in own.items():
        linear, _, kind = name.rpartition(".")
        tensors[names[name]] = np.asarray(array) if kind == A else of[linear].to_file(array)
    settings = {
        "peft_type": "LORA",
        "task_type": _CLASSES if labels else _TASK,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": spec.rank,
        "lora_alpha": _whole(spec.alpha),
        "lora_dropout": spec.dropout,
        "target_modules": list(names_of(linears, chosen)),
        "use_rslora": spec.rslora,
        "use_dora": spec.dora,
        "fan_in_fan_out": transposed,
        "bias": "none",
        "init_lora_weights": True,
        "modules_to_save": list(_HEADS) if labels else None,
        "rank_pattern": dict(spec.rank_pattern),
        "alpha_pattern": {key: _whole(alpha) for key, alpha in spec.alpha_pattern.items()},
    }
    files.write(folder, settings, tensors, labels)


def _whole(alpha: float) -> float:
    """As an integer where it is one, as peft writes it."""
    return int(alpha) if float(alpha).is_integer() else alpha


def _settings(path: Path, given: Any) -> dict[str, Any]:
    """What of adapter_config.json makes a :class:`LoRA`. A default is peft's."""
    if not isinstance(given, dict):
        raise CheckpointError(path, f"expected a JSON object, got {shown(given)}")
    left = dict(given)
    kind = left.pop("peft_type", None)
    if kind != "LORA":
        raise ValueError(f"load_adapter: {path}: peft_type {shown(kind)} is not supported; it must be 'LORA'")
    taken = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "use_rslora": False, "use_dora": False}
    taken |= dict.fromkeys(patterns.NAMES)
    taken = {key: left.pop(key, default) for key, default in taken.items()}
    whole = left.get("modules_to_save")
    if isinstance(whole, list) and set(map(str, whole)) <= set(_HEADS):  # whether it is there the tensors tell
        del left["modules_to_save"]
    for key, value in left.items():
        if key in _HARMLESS or value in (None, False) or value in ({}, [], "") or value in _NEUTRAL.get(key, ()):
            continue
        wanted = " or ".join(map(repr, _NEUTRAL.get(key, (None,))))
        why = f" ({_WHY[key]})" if key in _WHY else ""
        raise ValueError(f"load_adapter: {path}: {key} {shown(value)} is not supported; it must be {wanted}{why}")
    return taken | {"task_type": given.get("task_type")}


def _beside(
    file: Path, tensors: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> dict[str, np.ndarray]:
    """Takes what learned with the adapter out of ``tensors``. CheckpointError where it is missing or has other
    shapes."""
    arrays = {}
    for name, shape in shapes.items():
        spelt = [each for each in tensors if each.removeprefix(PREFIX).replace(".modules_to_save", "") == name]
        if not spelt or tensors[spelt[0]].array.shape != shape:
            got = tensors[spelt[0]].array.shape if spelt else "none"
            raise CheckpointError(
                file,
                f"this model's head of classes is {name} {shape}, and the adapter has {got}: it is of another model",
            )
        arrays[name] = _numbers(file, spelt[0], tensors.pop(spelt[0]), dtype)
    return arrays


def _spec(path: Path, settings: Mapping[str, Any], targets: Any, chosen: Sequence[Linear], left_out: str) -> LoRA:
    """left_out: what the file's names of modules lack in front. A key of a pattern that names none of ``chosen`` is
    left out; in peft it has no effect."""
    options = {"rslora": settings["use_rslora"], "dora": settings["use_dora"]}
    given = {name: patterns.below(left_out, settings[name]) for name in patterns.NAMES}
    try:
        spec = LoRA(settings["r"], settings["lora_alpha"], settings["lora_dropout"], targets, **options, **given)
        return replace(spec, **{name: patterns.used(getattr(spec, name), chosen) for name in patterns.NAMES})
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, str(error)) from None


def _split(name: str, modules: Mapping[str, Linear]) -> tuple[str | None, str | None]:
    """Module and kind of a tensor's name. A base that was saved without its head lacks the first word of a module."""
    for theirs, kind in KINDS.items():
        if name.startswith(PREFIX) and name.endswith(f".{theirs}"):
            module = name[len(PREFIX) : -len(theirs) - 1]
            fitting = (each for each in modules if each == module or each.partition(".")[2] == module)
            return next(fitting, None), kind
    return None, None


def _numbers(file: Path, name: str, tensor: Any, dtype: str) -> np.ndarray:
    array = tensor.array
    if tensor.dtype == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif tensor.dtype not in (*NATIVE, "F16"):
        raise CheckpointError(file, f"{name} must be F64, F32, F16 or BF16, got {tensor.dtype}")
    return cast(file, name, array, dtype)


def _check(file: Path, linear: Linear, got: Mapping[str, np.ndarray], spec: LoRA) -> None:
    rank, _ = spec.of_module(linear.module)
    expected = {A: (rank, linear.columns), B: (linear.rows, rank)} | ({MAGNITUDE: (linear.rows,)} if spec.dora else {})
    shapes = {kind: array.shape for kind, array in got.items()}
    if shapes != expected:
        told = ", ".join(f"{kind} {shape}" for kind, shape in shapes.items())
        wanted = ", ".join(f"{kind} {shape}" for kind, shape in expected.items())
        raise CheckpointError(
            file,
            f"{linear.module} has {told}, and this model and {SETTINGS} need {wanted}: the adapter belongs to another "
            "base, or its two files to different adapters",
        )


def _ours(linear: Linear, kind: str, array: np.ndarray) -> np.ndarray:
    return array if kind == A else linear.from_file(array)


def _short(linears: Sequence[Linear]) -> list[str]:
    return list(dict.fromkeys(each.module.rpartition(".")[2] for each in linears))
