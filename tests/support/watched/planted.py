"""Faults that the doctor of a program is for, each planted into a healthy program: (make, check, words of its line)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .healthy_examples import classify, next_token, pictures, tokens
from .healthy_layers import mlp, rows
from .layers import Causal, Convolutional, Heads, Recurrent, Residual
from .program import Program


def adam(model: nn.Module, rate: float = 1e-3, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), rate, **more)


def plain(model: nn.Module | None = None, loss: Callable[..., Any] = classify, **more: Any) -> Program:
    model = mlp() if model is None else model
    return Program(model, adam(model), rows(), loss, **more)


def part_of_the_parameters() -> Program:
    program = plain()
    program.optimizer = adam(program.model[0])
    return program


def copied_model() -> Program:
    program = plain()
    program.model = copy.deepcopy(program.model)
    return program


def parameters_replaced() -> Program:
    """load by assignment: the model has other tensors afterwards."""
    program = plain()
    program.model.load_state_dict({k: v.clone() for k, v in program.model.state_dict().items()}, assign=True)
    for name, parameter in list(program.model.named_parameters()):
        module = program.model.get_submodule(name.rpartition(".")[0])
        setattr(module, name.rpartition(".")[2], nn.Parameter(parameter.detach().clone()))
    return program


def all_frozen() -> Program:
    program = plain()
    program.model.requires_grad_(False)
    return program


def head_copied_not_tied() -> Program:
    model = Recurrent(tie=False)
    with torch.no_grad():
        model.decoder.weight.copy_(model.encoder.weight)
    return Program(model, adam(model), tokens(), next_token)


def ties_lost() -> Program:
    from . import models

    model, batch, loss = models.gpt2()
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    return Program(model.train(), adam(model), batch, loss)


def rate_of_zero() -> Program:
    program = plain()
    program.optimizer = adam(program.model, 0.0)
    return program


def decay_flips_signs() -> Program:
    program = plain()
    program.optimizer = adam(program.model, 0.1, weight_decay=25.0)
    return program


def rate_rewrites() -> Program:
    program = plain()
    program.optimizer = adam(program.model, 0.5)
    return program


def rate_stays_0() -> Program:
    program = plain()
    program.more = {"scheduler": torch.optim.lr_scheduler.LambdaLR(program.optimizer, lambda step: step // 10**6)}
    return program


def scheduler_of_another() -> Program:
    program = plain()
    other = torch.optim.SGD(program.model.parameters(), 0.1)
    program.more = {"scheduler": torch.optim.lr_scheduler.StepLR(other, 3)}
    return program


def detached_loss() -> Program:
    return plain(loss=lambda m, b: F.cross_entropy(m(b[0]).detach(), b[1]))


def detached_inside() -> Program:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(torch.relu(self.one(x)).detach())

    return plain(Cut())


def unused_module() -> Program:
    model = mlp()
    model.extra = nn.Linear(3, 3)
    model.forward = lambda x: model[2](model[1](model[0](x)))
    return plain(model)


def clamp_kills() -> Program:
    return plain(loss=lambda m, b: F.cross_entropy((m(b[0]) + 500).clamp(-100, 100), b[1]))


def constant_weights() -> Program:
    model = mlp()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    return plain(model)


def maximizes() -> Program:
    program = plain()
    program.optimizer = torch.optim.SGD(program.model.parameters(), 0.1, maximize=True)
    return program


def unseeded() -> Program:
    import os

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        noise = torch.tensor([each / 255 for each in os.urandom(8)])
        return F.cross_entropy(model(batch[0] + noise), batch[1])

    return plain(loss=loss)


def dropout_in_evaluation() -> Program:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(F.dropout(self.one(x), 0.3))

    return plain(Drops())


def dropout_never_called() -> Program:
    model = Convolutional()
    for module in (model.dropout1, model.dropout2):
        module.train = lambda mode=True, module=module: module
        module.training = False
    optimizer = adam(model)
    return Program(model, optimizer, pictures(), lambda m, b: F.nll_loss(m(b[0]), b[1]))


def other_path_in_training() -> Program:
    class Normalises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x if self.training else F.normalize(x, dim=1))

    return plain(Normalises())


def labels_all_masked() -> Program:
    from . import models

    model, batch, loss = models.gpt2()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    return Program(model.train(), adam(model), batch, loss)


def label_out_of_range() -> Program:
    program = plain()
    program.batch = program.batch[0], program.batch[1] + 3
    return program


def softmax_twice() -> Program:
    return plain(nn.Sequential(*mlp(), nn.Softmax(1)))


def _shifted(offset: int) -> Callable[..., Any]:
    def loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        logits = model(ids)
        logits = logits[:, : logits.shape[1] - offset] if offset else logits
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, offset:].reshape(-1))

    return loss


def not_shifted() -> Program:
    model = Causal()
    return Program(model, adam(model), tokens(), _shifted(0))


def shifted_twice() -> Program:
    model = Causal()
    return Program(model, adam(model), tokens(), _shifted(2))


def huge_first_loss() -> Program:
    model = mlp()
    with torch.no_grad():
        model[2].weight.mul_(300)
    return plain(model)


def not_causal() -> Program:
    class Sees(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attention, self.head = nn.Embedding(20, 12), Heads(), nn.Linear(12, 20)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.attention(self.embed(ids)))

    model = Sees()
    return Program(model, adam(model), tokens(), next_token)


def rows_mixed() -> Program:
    """A reshape without a transpose mixes the rows of a batch."""

    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(torch.tanh(self.one(x)).t().reshape(x.shape))

    return plain(Mixes())


def float16_weights() -> Program:
    model = mlp().half()
    x, y = rows()
    return Program(model, adam(model), (x.half(), y), lambda m, b: F.cross_entropy(m(b[0]).float(), b[1]))


def bf16_updates_lost() -> Program:
    model = mlp().bfloat16()
    x, y = rows()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    return Program(model, optimizer, (x.bfloat16(), y), lambda m, b: F.cross_entropy(m(b[0]).float(), b[1]))


def autocast_of_nothing() -> Program:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(batch[0].double() @ model.weight.t().double(), batch[1])

    return plain(nn.Linear(8, 4, bias=False), loss)


def nan_in_the_batch() -> Program:
    program = plain()
    program.batch[0][3, 2] = float("nan")
    return program


def pixels_not_scaled() -> Program:
    model = Residual()
    return Program(
        model, adam(model), (torch.randint(0, 256, (8, 3, 8, 8)).float(), torch.randint(0, 5, (8,))), classify
    )


def loss_writes_into_the_batch() -> Program:
    return plain(loss=lambda m, b: F.cross_entropy(m(b[0].sub_(0.1)), b[1]))


def loss_is_zero() -> Program:
    return plain(loss=lambda m, b: 0 * F.cross_entropy(m(b[0]), b[1]))


def _loop(change: Callable[[Program, Callable[[], torch.Tensor]], Callable[[], Any]], model: Any = None) -> Program:
    program = plain(model)

    def backward() -> torch.Tensor:
        loss = classify(program.model, program.batch)
        loss.backward()
        return loss

    program.step = change(program, backward)
    return program


def zero_grad_after_backward() -> Program:
    def change(program: Program, backward: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (backward(), program.optimizer.zero_grad(), program.optimizer.step())

    return _loop(change)


def never_steps() -> Program:
    return _loop(lambda program, backward: lambda: (program.optimizer.zero_grad(), backward()))


def scheduler_first() -> Program:
    def change(program: Program, backward: Callable[[], Any]) -> Callable[[], Any]:
        scheduler = torch.optim.lr_scheduler.StepLR(program.optimizer, 5)
        program.more = {"scheduler": scheduler}
        return lambda: (program.optimizer.zero_grad(), backward(), scheduler.step(), program.optimizer.step())

    return _loop(change)


def trains_in_evaluation_mode() -> Program:
    def change(program: Program, backward: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (program.model.eval(), program.optimizer.zero_grad(), backward(), program.optimizer.step())

    return _loop(change, nn.Sequential(*mlp(), nn.BatchNorm1d(4)))


def clips_after_the_update() -> Program:
    def change(program: Program, backward: Callable[[], Any]) -> Callable[[], Any]:
        clip = lambda: nn.utils.clip_grad_norm_(program.model.parameters(), 1.0)  # noqa: E731
        return lambda: (program.optimizer.zero_grad(), backward(), program.optimizer.step(), clip())

    return _loop(change)


def targets_broadcast() -> Program:
    batch = torch.randn(8, 8), torch.randn(8)
    model = nn.Linear(8, 1)
    return Program(model, adam(model), batch, lambda model, batch: F.mse_loss(model(batch[0]), batch[1]))


PLANTED: list[tuple[Callable[[], Program], str, str]] = [
    (part_of_the_parameters, "optimizer holds the model", "2.weight"),
    (copied_model, "optimizer holds the model", "old tensors"),
    (parameters_replaced, "optimizer holds the model", "old tensors"),
    (all_frozen, "frozen", "requires_grad=False"),
    (head_copied_not_tied, "weights tied", "encoder.weight and decoder.weight"),
    (ties_lost, "weights tied", "lm_head.weight"),
    (rate_of_zero, "rate", "rate of 0"),
    (rate_stays_0, "rate", "still 0 after"),
    (decay_flips_signs, "weight decay", "flips signs"),
    (rate_rewrites, "size of an update", "lower it"),
    (scheduler_of_another, "scheduler", "another optimizer"),
    (detached_loss, "gradients reach", "no graph"),
    (detached_inside, "gradients reach", "one.weight"),
    (unused_module, "gradients reach", "never called"),
    (clamp_kills, "gradients reach", "clamp"),
    (constant_weights, "symmetry", "random"),
    (maximizes, "direction", "maximize"),
    (unseeded, "loss repeats", "nobody seeds"),
    (dropout_in_evaluation, "evaluation is still", "F.dropout"),
    (dropout_never_called, "dropout is live", "dropout1"),
    (other_path_in_training, "train and evaluation", "self.training"),
    (labels_all_masked, "labels", "every label is masked"),
    (label_out_of_range, "loss", "out of bounds"),
    (softmax_twice, "labels", "softmax"),
    (not_shifted, "next token", "shift"),
    (shifted_twice, "next token", "shifted again"),
    (huge_first_loss, "initial loss", "uniform"),
    (not_causal, "causality", "mask"),
    (rows_mixed, "batch invariance", "transpose"),
    (float16_weights, "precision", "eps"),
    (bf16_updates_lost, "updates are not rounded away", "bfloat16"),
    (autocast_of_nothing, "precision", "no product"),
    (nan_in_the_batch, "inputs", "[3, 2]"),
    (pixels_not_scaled, "inputs", "255"),
    (loss_writes_into_the_batch, "batch is left alone", "in-place"),
    (targets_broadcast, "shapes in the loss", "(8, 1) and (8,)"),
    (loss_is_zero, "loss is not 0", "labels"),
    (zero_grad_after_backward, "gradients at the update", "between backward and step"),
    (never_steps, "loop updates", "never called"),
    (scheduler_first, "scheduler", "optimizer.step() first"),
    (trains_in_evaluation_mode, "mode of the loop", "model.train()"),
    (clips_after_the_update, "clipping", "before"),
]
