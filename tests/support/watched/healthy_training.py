"""Healthy ways to train: precisions, accumulation, checkpointing, averages, several optimizers, adapters, real
architectures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from . import models
from .healthy_examples import classify, next_token, pictures, tokens
from .healthy_layers import mlp, rows
from .layers import Causal, Recurrent, Residual, Vision
from .program import Program


def of_architecture(make: Callable[..., Any]) -> Callable[[], Program]:
    def program() -> Program:
        model, batch, loss = make()
        return Program(model.train(), torch.optim.AdamW(model.parameters(), 1e-3), batch, loss)

    program.__name__ = make.__name__
    return program


def bf16_autocast() -> Program:
    model, batch, loss = models.gpt2()

    def within(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(model, batch)

    return Program(model.train(), torch.optim.AdamW(model.parameters(), 1e-3), batch, within)


def fp16_scaler() -> Program:
    """GradScaler begins at a scale that overflows, skips, and halves it: as it should."""
    model = Vision()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=4)
    program = Program(model, torch.optim.AdamW(model.parameters(), 1e-3), pictures(), classify)

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.float16):
            return classify(model, batch)

    def step() -> torch.Tensor:
        program.optimizer.zero_grad()
        loss = loss_fn(model, program.batch)
        scaler.scale(loss).backward()
        scaler.unscale_(program.optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(program.optimizer)
        scaler.update()
        return loss

    program.loss_fn, program.step = loss_fn, step
    program.scaler = scaler
    return program


def accumulation() -> Program:
    model = Causal()
    program = Program(model, torch.optim.AdamW(model.parameters(), 1e-3), tokens(8), next_token)
    count = [0]

    def step() -> torch.Tensor:
        loss = next_token(model, program.batch[2 * (count[0] % 4) :][:2]) / 4
        loss.backward()
        count[0] += 1
        if count[0] % 4 == 0:
            program.optimizer.step()
            program.optimizer.zero_grad()
        return loss

    program.step = step
    return program


def warm_up() -> Program:
    """The first rate is 0; gradients are clipped; weights of norms do not decay."""
    model = Causal()
    flat = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1]}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, 3e-3, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 5))
    program = Program(model, optimizer, tokens(), next_token, more={"scheduler": scheduler})

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = next_token(model, program.batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        return loss

    program.step = step
    return program


def checkpointed() -> Program:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.1)) for _ in range(3))
            self.head = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = x + checkpoint(block, x, use_reentrant=False)
            return self.head(x)

    model = Kept()
    return Program(model, torch.optim.AdamW(model.parameters(), 1e-3), rows(), classify)


def checkpointed_gpt2() -> Program:
    model, batch, loss = models.gpt2(use_cache=False)
    model.train().gradient_checkpointing_enable()
    return Program(model, torch.optim.AdamW(model.parameters(), 1e-3), batch, loss)


def averaged() -> Program:
    """An exponential moving average beside the model."""
    model = mlp()
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    program = Program(model, torch.optim.AdamW(model.parameters(), 1e-3), rows(), classify)

    def step() -> torch.Tensor:
        loss = program.plain_step()
        average.update_parameters(model)
        return loss

    program.step = step
    return program


def teacher() -> Program:
    model, old = mlp(), mlp().requires_grad_(False)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.no_grad():
            wanted = (old(batch[0]) / 2).softmax(1)
        return F.kl_div((model(batch[0]) / 2).log_softmax(1), wanted, reduction="batchmean") * 4

    return Program(model, torch.optim.AdamW(model.parameters(), 1e-3), rows(), loss)


def target_network() -> Program:
    model = mlp()
    target = copy.deepcopy(model).requires_grad_(False)
    batch = torch.randn(16, 8), torch.randint(0, 4, (16,)), torch.randn(16), torch.randn(16, 8)

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        chosen = model(b[0]).gather(1, b[1][:, None])[:, 0]
        return F.smooth_l1_loss(chosen, b[2] + 0.9 * target(b[3]).max(1).values)

    return Program(model, torch.optim.RMSprop(model.parameters(), 1e-3), batch, loss)


def two_optimizers() -> Program:
    model = Causal()
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "encoder" in name]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    optimizers = [torch.optim.Muon(matrices, 1e-3), torch.optim.AdamW(rest, 1e-3)]
    return Program(model, optimizers, tokens(), next_token)


def sparse() -> Program:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(30, 8, sparse=True), nn.Linear(8, 3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids).mean(1))

    model = Words()
    optimizers = [
        torch.optim.SparseAdam(model.embed.parameters(), 1e-2),
        torch.optim.Adam(model.head.parameters(), 1e-2),
    ]
    return Program(model, optimizers, (torch.randint(0, 30, (6, 5)), torch.randint(0, 3, (6,))), classify)


def new_head() -> Program:
    """A frozen backbone in evaluation mode, and a head."""
    model = Residual()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("head" in name)
    return Program(model, torch.optim.SGD(model.head.parameters(), 0.1, momentum=0.9), pictures(3), classify)


def low_rank() -> Program:
    from peft import LoraConfig, get_peft_model

    model, batch, loss = models.gpt2()
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=["c_attn"], fan_in_fan_out=True))
    wanted = [p for p in model.parameters() if p.requires_grad]
    return Program(model.train(), torch.optim.AdamW(wanted, 1e-2), batch, loss)


def float64() -> Program:
    model = mlp().double()
    x, y = rows()
    return Program(model, torch.optim.AdamW(model.parameters(), 1e-3), (x.double(), y), classify)


def bf16_weights() -> Program:
    """SGD at a rate whose updates bfloat16 can hold."""
    model = mlp().bfloat16()
    x, y = rows()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        return F.cross_entropy(model(b[0].bfloat16()).float(), b[1])

    return Program(model, torch.optim.SGD(model.parameters(), 0.2), (x, y), loss)


def compiled() -> Program:
    model = mlp()
    whole = torch.compile(model, backend="eager")
    return Program(whole, torch.optim.AdamW(whole.parameters(), 1e-3), rows(), classify)


def label_smoothing() -> Program:
    model = mlp()

    def loss(model: nn.Module, b: Any) -> torch.Tensor:
        return F.cross_entropy(model(b[0]), b[1], label_smoothing=0.1, weight=torch.tensor([1.0, 2.0, 1.0, 0.5]))

    return Program(model, torch.optim.NAdam(model.parameters(), 1e-3), rows(), loss)


def _with(optimizer: Callable[..., Any], **settings: Any) -> Callable[[], Program]:
    def program() -> Program:
        model = Recurrent(tie=False)
        return Program(model, optimizer(model.parameters(), **settings), tokens(), next_token)

    program.__name__ = optimizer.__name__.lower()
    return program


def weight_ema_in_buffer() -> Program:
    """Codes of a VQ-VAE: buffers that forward itself updates, a straight-through gradient."""

    class Codes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Linear(8, 4), nn.Linear(4, 8)
            self.register_buffer("codes", torch.randn(6, 4))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z = self.into(x)
            near = torch.cdist(z.detach(), self.codes).argmin(1)
            q = self.codes[near].clone()
            if self.training:
                one = F.one_hot(near, 6).float()
                mean = one.t() @ z.detach() / one.sum(0)[:, None].clamp_min(1)
                self.codes.lerp_(torch.where(one.sum(0)[:, None] > 0, mean, self.codes), 0.1)
            return self.out(z + (q - z).detach()), F.mse_loss(z, q)

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        made, commit = model(x)
        return F.mse_loss(made, x) + 0.25 * commit

    model = Codes()
    return Program(model, torch.optim.AdamW(model.parameters(), 1e-3), torch.randn(12, 8), loss)


EXAMPLES = (
    *(of_architecture(make) for make in models.ALL),
    bf16_autocast, fp16_scaler, accumulation, warm_up, checkpointed, checkpointed_gpt2, averaged, teacher,
    target_network, two_optimizers, sparse, new_head, low_rank, float64, bf16_weights, compiled, label_smoothing,
    weight_ema_in_buffer, _with(torch.optim.Adagrad, lr=1e-2), _with(torch.optim.Adamax, lr=1e-3),
    _with(torch.optim.ASGD, lr=1e-2), _with(torch.optim.RAdam, lr=1e-3), _with(torch.optim.Adafactor, lr=1e-2),
)  # fmt: skip
