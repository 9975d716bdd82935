"""``loopos replay`` of a watched program's bundle.

Without the program: the operation where the number was born is done again from its operands. With a module named by the
user the whole step is: its function ``loopos_replay()`` gives the model, and a function of (model, *inputs) that gives
the loss, or None where the model does. A model of transformers needs no such function. Nothing else is imported.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from loopos.errors import Birth, CheckpointError

from .bundle import WatchBundle, read, versions
from .calls import Buffers, Call, Randomness
from .encoding import decode, to_tensor
from .rerun import rerun

_ATEN = "aten."


@dataclass(frozen=True)
class WatchReplay:
    """What :func:`replay` found. reproduced: the value, or with a program the birth, is the same; also the truth of
    this object. value: of the operation done again, None where it could not be; birth: of the step done again, else the
    recorded one; says: sentences."""

    reproduced: bool
    step: int
    birth: Birth
    value: float | None
    says: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.reproduced

    def __str__(self) -> str:
        return "\n  ".join([f"step {self.step} of a watched program", str(self.birth), *self.says])


def replay(path: Any, module: str | None = None) -> WatchReplay:
    """Open a bundle and do it again. module: the only one that may be imported for it, by its name.

    Raises FileNotFoundError when there is no bundle, CheckpointError when it is damaged, ValueError when the module
    does not give what is needed."""
    bundle = read(path)
    apart = _apart(bundle.about["build"])
    notes = [*bundle.about["notes"], *([f"recorded with {apart}, so bits may differ"] if apart else [])]
    if module is not None:
        return _whole(bundle, module, notes)
    value = _operation(bundle)
    birth = bundle.birth
    if value is None:
        says = "its operands were not kept, or it is no operation: --import MODULE repeats the whole step"
        return WatchReplay(False, birth.step or 0, birth, None, (says, *notes))
    same = value == birth.value or (math.isnan(value) and math.isnan(birth.value))
    said = f"{birth.op} done again from its operands gives {value}: {'reproduced' if same else 'not reproduced'}"
    more = "--import MODULE repeats the whole step"
    return WatchReplay(same, birth.step or 0, birth, value, (said, more, *notes))


def _operation(bundle: WatchBundle) -> float | None:
    """The element of the birth, by the operation done again. Only operations of aten are looked up."""
    told, birth = bundle.about["operation"], bundle.birth
    if told is None:
        return None
    name, overload = str(told["name"]), str(told["overload"])
    if not name.startswith(_ATEN) or not name[len(_ATEN) :].isidentifier() or not overload.isidentifier():
        raise CheckpointError(bundle.path, f"no operation of PyTorch: {name}.{overload}")
    try:
        function = getattr(getattr(torch.ops.aten, name[len(_ATEN) :]), overload)
        args, kwargs = (decode(told[part], bundle.arrays, bundle.path) for part in ("args", "kwargs"))
        with torch.no_grad():
            output = function(*args, **kwargs)
        output = output[_output(birth)] if isinstance(output, (tuple, list)) else output
        element = output[birth.index]
    except CheckpointError:
        raise
    except (AttributeError, TypeError, ValueError, LookupError, RuntimeError) as error:
        raise CheckpointError(bundle.path, f"{name} cannot be done again: {error}") from error
    if element.is_complex():
        element = element.imag if "imaginary" in birth.place else element.real
    return float(element)


def _output(birth: Birth) -> int:
    _, found, number = birth.tensor.rpartition("(output ")
    return int(number.rstrip(")")) if found else 0


def _whole(bundle: WatchBundle, module: str, notes: list[str]) -> WatchReplay:
    model, loss = _program(bundle, module)
    _load(bundle, model)
    calls = [_call(bundle, told, number, model, loss) for number, told in enumerate(bundle.about["calls"])]
    if not calls:
        raise CheckpointError(bundle.path, "no call of the model was seen in this step: it cannot be repeated")
    found = rerun(model, calls, list(model.parameters()), bundle.birth.step or 0)
    if found.birth is None:
        says = ("the step done again is finite: not reproduced", *found.notes, *notes)
        return WatchReplay(False, bundle.about["step"], bundle.birth, None, says)
    names = ("op", "phase", "index", "cause_class", "module")
    apart = [name for name in names if getattr(found.birth, name) != getattr(bundle.birth, name)]
    same = not apart and not found.notes
    said = "the whole step done again: " + ("reproduced" if same else "not reproduced")
    said += f"; another {', '.join(apart)} than recorded: {bundle.birth}" if apart else ""
    return WatchReplay(same, bundle.about["step"], found.birth, found.birth.value, (said, *found.notes, *notes))


def _program(bundle: WatchBundle, module: str) -> tuple[torch.nn.Module, Callable[..., Any] | None]:
    """(the model, what gives the loss) that the module makes."""
    named, config = str(bundle.about["model"]), bundle.about["config"]
    imported = importlib.import_module(module)
    make = getattr(imported, "loopos_replay", None)
    if callable(make):
        made = make()
        model, loss = made if isinstance(made, tuple) else (made, None)
        if not isinstance(model, torch.nn.Module):
            raise ValueError(
                f"replay: {module}.loopos_replay() must give a torch.nn.Module, got {type(model).__name__}"
            )
        return model, loss
    inside, _, name = named.partition(":")
    if isinstance(config, dict) and (inside == module or inside.startswith(f"{module}.")) and name.isidentifier():
        kind = getattr(importlib.import_module(inside), name, None)
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module) and hasattr(kind, "config_class"):
            return kind(kind.config_class.from_dict(config)), None
    raise ValueError(
        f"replay: module {module} must have a function loopos_replay() that gives the model ({named}), or the model "
        "and a function of (model, *inputs) that gives the loss"
    )


def _load(bundle: WatchBundle, model: torch.nn.Module) -> None:
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    dtypes = bundle.about["dtypes"]
    if strange := set(state) ^ set(dtypes):
        raise ValueError(f"replay: this is not the model of the bundle: {', '.join(sorted(strange)[:4])}")
    evaluating = set(bundle.about["evaluating"])
    with torch.no_grad():
        for name, tensor in state.items():
            saved = to_tensor(bundle.arrays[f"weights.{name}"], dtypes[name])
            if saved.shape != tensor.shape:
                raise ValueError(f"replay: {name} has the shape {tuple(tensor.shape)}, there {tuple(saved.shape)}")
            tensor.data = saved
    for name, each in model.named_modules():
        each.training = name not in evaluating


def _call(bundle: WatchBundle, told: Any, number: int, model: torch.nn.Module, loss: Any) -> Call:
    args, kwargs = (decode(told[part], bundle.arrays, bundle.path) for part in ("args", "kwargs"))
    autocast = [
        (device, getattr(torch, dtype)) for device, dtype in told["autocast"] if dtype in ("bfloat16", "float16")
    ]
    call = Call(
        (lambda: model(*args, **kwargs)) if loss is None else (lambda: loss(model, *args, **kwargs)),
        (args, kwargs),
        Buffers(model),
    )
    arrays, (kind, *rest), (version, following) = bundle.arrays, told["numpy"], told["python"]
    rest = [float.fromhex(each) if isinstance(each, str) else each for each in rest]
    state = Randomness.__new__(Randomness)
    state.cpu, state.cuda = torch.from_numpy(arrays[f"random.{number}.torch"].copy()), []
    state.numpy = (kind, arrays[f"random.{number}.numpy"], *rest)
    words = tuple(int(word) for word in arrays[f"random.{number}.python"])
    state.python = (version, words, None if following is None else float.fromhex(following))
    call.randomness, call.autocast = state, autocast
    call.loss = None if told["loss"] is None else torch.tensor(float.fromhex(told["loss"]))
    return call


def _apart(recorded: dict[str, str]) -> str:
    here = versions()
    return ", ".join(
        f"{name} {was} (here {here[name]})" for name, was in recorded.items() if here.get(name, was) != was
    )
