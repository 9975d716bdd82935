"""Healthy programs around others' loops: transformers' Trainer, Lightning, accelerate, adapters of peft, averages, two
passes a step, a gradient through an update, schedules, a scaler."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from . import models
from .healthy_examples import classify, next_token, pictures, tokens
from .healthy_layers import mlp, rows
from .healthy_losses import LOSSES, plain
from .layers import Causal, Recurrent, Vision
from .program import Program


def trainer() -> Program:
    """transformers' Trainer: its optimizer, its loss, its training_step."""
    import tempfile

    from transformers import Trainer, TrainingArguments

    model, batch, _ = models.gpt2()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = TrainingArguments(folder, use_cpu=True, report_to=[], disable_tqdm=True, learning_rate=1e-3)
        runs = Trainer(model, settings, train_dataset=[batch])
    optimizer, runs.current_gradient_accumulation_steps = runs.create_optimizer(), 1

    def step() -> None:
        optimizer.zero_grad()
        runs.training_step(model, dict(batch))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return Program(model.train(), optimizer, batch, lambda m, b: runs.compute_loss(m, dict(b)), step)


def lightning() -> Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Vision()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            return classify(self, batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-3)

    module = Module()
    return Program(module, module.configure_optimizers(), pictures(), lambda m, b: m.training_step(b, 0))


def accelerated() -> Program:
    """accelerate: bfloat16, two micro-batches a step, a clip, a schedule."""
    import accelerate

    accelerate.state.AcceleratorState._reset_state(True)  # the process may have had another
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision="bf16")
    bare = mlp()
    inner = torch.optim.AdamW(bare.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(inner, 100)
    model, optimizer, schedule = accelerator.prepare(bare, inner, schedule)
    batch = rows()

    def step() -> None:
        for _ in range(2):
            with accelerator.accumulate(model):
                accelerator.backward(classify(model, batch))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

    return Program(model, optimizer, batch, classify, step, {"scheduler": schedule})


def adapter() -> Program:
    """LoRA of peft: one of its matrices begins at 0."""
    from peft import LoraConfig, get_peft_model

    model, batch, loss = models.llama()
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1))
    trained = [each for each in model.parameters() if each.requires_grad]
    return Program(model.train(), torch.optim.AdamW(trained, 1e-3), batch, loss)


def weights_averaged() -> Program:
    model = mlp()
    program = plain(model, rows(), classify)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))

    def step() -> None:
        program.plain_step()
        average.update_parameters(model)
        with torch.no_grad():
            average(program.batch[0])

    program.step = step
    return program


def two_passes() -> Program:
    """Sharpness-aware: a step up, a gradient there, back, a step down."""
    model, batch = mlp(), rows()
    program = plain(model, batch, classify)

    def step() -> None:
        program.optimizer.zero_grad()
        classify(model, batch).backward()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in model.parameters())) + 1e-12
        with torch.no_grad():
            moves = [0.05 * p.grad / norm for p in model.parameters()]
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.add_(move)
        program.optimizer.zero_grad()
        classify(model, batch).backward()
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.sub_(move)
        program.optimizer.step()

    program.step = step
    return program


def learns_to_learn() -> Program:
    """A gradient through an update (MAML)."""
    model = mlp()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        weights = dict(model.named_parameters())
        first = F.cross_entropy(torch.func.functional_call(model, weights, (b[0][:6],)), b[1][:6])
        grads = torch.autograd.grad(first, list(weights.values()), create_graph=True)
        moved = {key: p - 0.1 * g for (key, p), g in zip(weights.items(), grads, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, moved, (b[0][6:],)), b[1][6:])

    return plain(model, rows(), loss)


def quantized() -> Program:
    """Weights are rounded in the forward pass; the gradient goes straight through."""

    class Rounded(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = self.weight.detach().abs().amax(1, keepdim=True).clamp_min(1e-8) / 7
            coarse = (self.weight / scale).round().clamp(-7, 7) * scale
            return F.linear(x, self.weight + (coarse - self.weight).detach(), self.bias)

    return plain(nn.Sequential(Rounded(8, 16), nn.ReLU(), Rounded(16, 4)), rows(), classify)


def warm_restarts() -> Program:
    model = Causal()
    program = plain(model, tokens(), next_token)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(program.optimizer, 4)

    def step() -> None:
        program.optimizer.zero_grad(set_to_none=False)
        next_token(model, program.batch).backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.5)
        program.optimizer.step()
        schedule.step()

    program.step, program.more = step, {"scheduler": schedule}
    return program


def truncated() -> Program:
    """A recurrent net over pieces of a text whose state is cut from its graph."""
    model = Recurrent("LSTM", tie=True)
    return plain(model, tokens(), next_token)


def unscaled_by_hand() -> Program:
    """A loop under a GradScaler whose scale grows and is at first too large; some steps are left out."""
    model, batch = mlp(), rows()
    program = plain(model, batch, classify)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=2)

    def step() -> None:
        program.optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = classify(model, batch)
        scaler.scale(loss).backward()
        scaler.step(program.optimizer)
        scaler.update()

    program.step = step
    return program


LOOPS = (
    trainer, lightning, accelerated, adapter, weights_averaged, two_passes, learns_to_learn, quantized, warm_restarts,
    truncated, unscaled_by_hand, *LOSSES,
)  # fmt: skip
