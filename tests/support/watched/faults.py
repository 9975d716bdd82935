"""Faults whose place and cause are known beforehand, in real architectures: what loopos.watch is measured with.

A fault is planted at a random element of a random module's output, chosen so that the element reaches the loss, and its
operation is named by who plants it; natural ones (``faults_natural``) come out of the arithmetic, and where they do is
computed apart, in float64.
"""

# ruff: noqa: E501 (one row a plant)

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from . import healthy_examples, healthy_layers, models
from .layers import Recurrent
from .program import Program


@dataclass
class Truth:
    """op: without "aten.", overload and underscore; index: into its output; module: where it is called, None: anywhere;
    cause: the class; one of several where the words of two would be right; line: a piece of the program's line."""

    op: str
    index: tuple[int, ...] | None
    cause: tuple[str, ...]
    phase: str = "forward"
    module: str | None = None
    tensor: str | None = None
    line: str | None = None


@dataclass
class Case:
    name: str
    program: Program
    truth: Truth


Y = torch.Tensor


def _at(y: Y, index: tuple[int, ...], value: float, rest: float) -> Y:
    c = torch.full_like(y, rest).detach()
    c[index] = value
    return c


def _all_masked(y: Y, i: tuple[int, ...]) -> Y:
    scores = torch.zeros_like(y).detach()
    scores[i[:-1]] = float("-inf")
    return y + scores.softmax(-1)


def _sqrt_at_zero(y: Y, i: tuple[int, ...]) -> Y:
    return y + (y * _at(y, i, 0.0, 1e-3)).square().sum(-1, keepdim=True).mul(_at(y, i, 0.0, 1.0)).sqrt()


def _backward_twice(y: Y, i: tuple[int, ...]) -> Y:
    big = _at(y, i, 1e30, 1.0)
    if y.requires_grad:
        y.register_hook(lambda g: g * big * big)
    return y


# name: (what is done to an output y at element i, operation, classes of the cause, phase)
PLANTS: dict[str, tuple[Callable[[Y, tuple[int, ...]], Y], str, tuple[str, ...], str]] = {
    "log of 0": (lambda y, i: y - _at(y, i, 0.0, 1.0).log(), "log", ("log 0",), "forward"),
    "log of a negative number": (lambda y, i: y + _at(y, i, -1.0, 1.0).log(), "log", ("outside the domain",), "forward"),
    "root of a negative number": (lambda y, i: y + _at(y, i, -2.0, 0.0).sqrt(), "sqrt", ("negative root",), "forward"),
    "exp": (lambda y, i: y + _at(y, i, 100.0, -90.0).exp(), "exp", ("exp overflow",), "forward"),
    "expm1": (lambda y, i: y + _at(y, i, 200.0, 0.0).expm1(), "expm1", ("exp overflow",), "forward"),
    "0/0": (lambda y, i: y * (_at(y, i, 0.0, 1.0) / _at(y, i, 0.0, 1.0)), "div", ("0/0",), "forward"),
    "1/0": (lambda y, i: y + _at(y, i, 0.0, 1e9).reciprocal(), "reciprocal", ("x/0",), "forward"),
    "rsqrt of 0": (lambda y, i: y + _at(y, i, 0.0, 1e9).rsqrt(), "rsqrt", ("x/0",), "forward"),
    "product": (lambda y, i: y + _at(y, i, 1e30, 0.0) * _at(y, i, 1e30, 0.0), "mul", ("product overflow",), "forward"),
    "square": (lambda y, i: y + _at(y, i, 1e20, 0.0).pow(2), "pow", ("product overflow",), "forward"),
    "sum": (lambda y, i: y + (_at(y, i, 3e38, 0.0) + _at(y, i, 3e38, 0.0)), "add", ("sum overflow",), "forward"),
    "fraction of a power": (lambda y, i: y + _at(y, i, -1.0, 0.0).pow(0.5), "pow", ("negative root", "outside the domain"), "forward"),
    "acos": (lambda y, i: y + _at(y, i, 1.0000002, 1.0).acos(), "acos", ("outside the domain",), "forward"),
    "cast to float16": (lambda y, i: y + _at(y, i, 1e5, 0.0).half().float(), "_to_copy", ("cast overflow",), "forward"),
    "a number of the program": (lambda y, i: y.masked_fill(_at(y, i, 1.0, 0.0) > 0, float("nan")), "masked_fill", ("input not finite",), "forward"),
    "product in place": (lambda y, i: y + _at(y, i, 1e30, 0.0).mul_(_at(y, i, 1e30, 0.0)), "mul", ("product overflow",), "forward"),
    "quotient in place": (lambda y, i: y + _at(y, i, 1.0, 0.0).div_(_at(y, i, 0.0, 1.0)), "div", ("x/0",), "forward"),
    "backward, product": (_backward_twice, "mul", ("product overflow",), "backward"),
    "backward, root of 0": (lambda y, i: y + (y * _at(y, i, 0.0, 1.0)).abs().mul(_at(y, i, 0.0, 1.0)).add(_at(y, i, 0.0, 1.0)).sqrt(), "div", ("x/0",), "backward"),
    "backward, power of 0": (lambda y, i: y + (y.square() * _at(y, i, 0.0, 1.0) + _at(y, i, 0.0, 1.0)).pow(0.5), "pow", ("x/0",), "backward"),
    "backward, log near 0": (lambda y, i: y + 0.1 * (y.square() * _at(y, i, 0.0, 1.0) + _at(y, i, 1e-44, 1.0)).log(), "div", ("product overflow",), "backward"),
    "row of which all is masked": (_all_masked, "_softmax", ("all-masked row",), "forward"),
}  # fmt: skip


def _of_example(make: Callable[[], Program]) -> Callable[[], tuple[Any, Any, Any]]:
    def parts() -> tuple[Any, Any, Any]:
        program = make()
        return program.model, program.batch, program.loss_fn

    parts.__name__ = make.__name__
    return parts


ARCHITECTURES = {
    "GPT-2": models.gpt2,
    "Llama": models.llama,
    "ViT": models.vit,
    "T5": models.t5,
    "Whisper": models.whisper,
    "CLIP": models.clip,
    "BERT": models.bert,
    "nn.Transformer": _of_example(healthy_examples.translation),
    "conv net": _of_example(healthy_examples.mnist),
    "LSTM": lambda: (Recurrent("LSTM", tie=False), healthy_examples.tokens(), healthy_examples.next_token),
    "covariance": _of_example(healthy_layers.covariance),
}


def _sites(model: nn.Module, batch: Any, loss: Any) -> list[tuple[str, Any]]:
    """(module, gradient of its output): modules that give one real tensor whose elements reach the loss."""
    kept: list[tuple[str, Y]] = []

    def hook(name: str) -> Callable[..., None]:
        def see(_: Any, __: Any, output: Any) -> None:
            if isinstance(output, Y) and output.requires_grad and output.dtype == torch.float32 and output.ndim > 1:
                output.retain_grad()
                kept.append((name, output))

        return see

    hooks = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    loss(model, batch).backward()
    for each in hooks:
        each.remove()
    model.zero_grad()
    names = [name for name, _ in kept]
    return [(name, y.grad) for name, y in kept if names.count(name) == 1 and y.grad is not None and bool(y.grad.any())]


def planted(architecture: str, plant: str, number: int = 0) -> Case:
    """One fault, at a place that the number decides."""
    torch.manual_seed(number)
    chance = random.Random(f"{architecture} {plant} {number}")
    model, batch, loss = ARCHITECTURES[architecture]()
    model.train()
    for module in model.modules():  # what reaches the loss does not depend on chance
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    change, op, cause, phase = PLANTS[plant]
    sites = _sites(model, batch, loss)
    for _ in range(20):
        name, gradient = chance.choice(sites)
        live = gradient.abs().reshape(-1)
        at = chance.choice((live > 1e-3 * live.max()).nonzero()[:, 0].tolist())
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), gradient.shape))
        hook = model.get_submodule(name).register_forward_hook(lambda _, __, y, i=index: change(y, i))
        if _is_bad(model, batch, loss):
            break
        hook.remove()  # what was planted vanished again, as an inf may in a relu
    if plant == "row of which all is masked":
        index = (*index[:-1], 0)
    program = Program(model, torch.optim.AdamW(model.parameters(), 1e-3), batch, loss)
    return Case(f"{architecture}: {plant}, at {name}", program, Truth(op, index, cause, phase))


def weight_not_finite(architecture: str, number: int = 0) -> Case:
    torch.manual_seed(number)
    chance = random.Random(f"{architecture} {number}")
    model, batch, loss = ARCHITECTURES[architecture]()
    found = [(n, p) for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "coder" not in n[:8]]
    found = found or [(n, p) for n, p in model.named_parameters() if p.ndim == 2]
    name, parameter = chance.choice(found)
    index = tuple(chance.randrange(size) for size in parameter.shape)
    with torch.no_grad():
        parameter[index] = chance.choice([float("nan"), float("inf"), float("-inf")])
    program = Program(model.train(), torch.optim.AdamW(model.parameters(), 1e-3), batch, loss)
    truth = Truth("parameter", index, ("weight not finite",), tensor=name)
    return Case(f"{architecture}: {name} is {parameter[index].item()}", program, truth)


def _is_bad(model: nn.Module, batch: Any, loss: Any) -> bool:
    """Whether the loss or a gradient is not finite; an inf may vanish in a relu."""
    value = loss(model, batch)
    value.backward()
    bad = not bool(value.isfinite()) or any(
        not bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None
    )
    model.zero_grad()
    return bad


def linear_overflow(architecture: str, number: int = 0) -> Case:
    """Weights of one unit of a linear layer are so large that its output overflows; where, says float64."""
    import copy

    torch.manual_seed(number)
    chance = random.Random(f"{architecture} linear {number}")
    model, batch, loss = ARCHITECTURES[architecture]()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    kinds = {"Linear", "Conv1D"}
    gradients = dict(_sites(model, batch, loss))
    sites = [name for name in gradients if type(model.get_submodule(name)).__name__ in kinds]
    for name in chance.sample(sites, len(sites)):
        module = model.get_submodule(name)
        tied = sum(p is module.weight for p in dict(model.named_parameters(remove_duplicate=False)).values()) > 1
        if tied:
            continue
        weight = module.weight if type(module).__name__ == "Linear" else module.weight.t()
        unit = chance.randrange(weight.shape[0])
        with torch.no_grad():
            before = weight[unit].clone()
            weight[unit] = weight[unit].sign() * 2e38 * (0.5 + torch.rand(weight.shape[1]))
        seen: list[tuple[Y, Y]] = []
        double = copy.deepcopy(model).double()
        double.get_submodule(name).register_forward_hook(
            lambda _, x, y, seen=seen: seen.append((x[0].detach(), y.detach()))
        )
        loss(double, _double(batch))
        x, y = (each.reshape(-1, each.shape[-1]) for each in seen[0])
        limit = float(torch.finfo(torch.float32).max)
        wide = (weight[unit].double().abs() * x.abs()).sum(1)  # no order of summation overflows below
        row = int((wide > 0.99 * limit).to(torch.uint8).argmax())
        sure = float(y[row, unit].abs()) > 1.01 * limit and float(weight[unit].abs().max()) < limit
        reaches = bool(gradients[name].reshape(-1, y.shape[-1])[row].any())
        if sure and reaches and _is_bad(model, batch, loss):
            truth = Truth("linear", (row, unit), ("product overflow", "sum overflow"), module=name)
            program = Program(model, torch.optim.AdamW(model.parameters(), 1e-3), batch, loss)
            return Case(f"{architecture}: a unit of {name} overflows", program, truth)
        with torch.no_grad():
            weight[unit] = before
    raise LookupError(f"no linear layer of {architecture} overflows")


def _double(batch: Any) -> Any:
    def wide(t: Y) -> Y:
        return t.double() if t.is_floating_point() else t.to(torch.complex128) if t.is_complex() else t

    if isinstance(batch, Y):
        return wide(batch)
    if isinstance(batch, dict):
        return {key: _double(value) for key, value in batch.items()}
    return tuple(_double(each) for each in batch)


def input_not_finite(architecture: str, number: int = 0) -> Case:
    torch.manual_seed(number)
    chance = random.Random(f"{architecture} input {number}")
    model, batch, loss = ARCHITECTURES[architecture]()
    key = next(k for k in ("pixel_values", "input_features", 0) if (k in batch if isinstance(batch, dict) else k == 0))
    tensor = batch[key]
    index = tuple(chance.randrange(size) for size in tensor.shape)
    tensor[index] = float("nan")
    program = Program(model.train(), torch.optim.AdamW(model.parameters(), 1e-3), batch, loss)
    return Case(f"{architecture}: {key} of the batch is NaN", program, Truth("input", index, ("input not finite",)))


def every_planted(each: int = 3) -> list[Case]:
    """Every plant in ``each`` architectures, in turn."""
    names = list(ARCHITECTURES)
    cases, turn = [], 0
    for plant in PLANTS:
        for _ in range(each):
            cases.append(planted(names[turn % len(names)], plant, turn))
            turn += 1
    return cases


def every_written() -> list[Case]:
    cases = [weight_not_finite(name) for name in ARCHITECTURES]
    cases += [input_not_finite(name) for name in ("ViT", "Whisper", "CLIP", "conv net", "covariance")]
    return cases + [linear_overflow(name) for name in ARCHITECTURES if name not in ("conv net", "LSTM")]
