"""TrainCheck's silent bugs (OSDI '25), those that one process can have, made again as small programs.

Each is written from the description of its bug, in our own words and code, twice: with the bug and without. ``SILENT``
names for each the check that has to speak and words of its line that name the cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .program import Program


@dataclass(frozen=True)
class Bug:
    """check: which one of the doctor's speaks; cause: words that its line or advice must hold to name the cause;
    origin: what was reported."""

    make: Any
    check: str
    cause: tuple[str, ...]
    origin: str
    new: bool = False  # of the six that TrainCheck found, not of the twenty


def _adam(model: nn.Module, rate: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate)


def _classes(rows: int = 12, width: int = 8, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, width), torch.randint(0, classes, (rows,))


def _scores(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def pytorch_forum_84911(bug: bool) -> Program:
    """All layers but the batch norms are frozen: "bn" not in name, where "head" was meant."""
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 6, 3))
    model.add_module("bn", nn.BatchNorm2d(6))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flat", nn.Flatten())
    model.add_module("head", nn.Linear(6, 5))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ("bn" in name) if bug else ("head" in name or "bn" in name)
    batch = torch.randn(8, 3, 8, 8), torch.randint(0, 5, (8,))
    return Program(model, torch.optim.SGD(model.parameters(), 0.01), batch, _scores)


def stackoverflow_60335387(bug: bool) -> Program:
    """optimizer.zero_grad() is missing."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    program = Program(model, _adam(model, 1e-4), _classes(), _scores)

    def step() -> None:
        if not bug:
            program.optimizer.zero_grad()
        _scores(model, program.batch).backward()
        program.optimizer.step()

    program.step = step
    return program


def stackoverflow_67180955(bug: bool) -> Program:
    """Every worker of the loader draws the same augmentation."""
    model = nn.Linear(8, 4)
    clean, labels = _classes()
    generators = [torch.Generator().manual_seed(0 if bug else worker) for worker in range(4)]
    batches = [(clean + torch.randn(clean.shape, generator=each), labels) for each in generators]
    return Program(model, _adam(model), batches[0], _scores, more={"batches": batches})


class _Walks(nn.Module):
    """A model whose initialisation walks over its modules."""

    def __init__(self, bug: bool):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(3))
        self.head = nn.Linear(8, 4)
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=bug):
                if name.endswith("weight"):
                    nn.init.normal_(parameter, std=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def transformers_17877(bug: bool) -> Program:
    """Initialisation is invoked again and again on the same parameters."""
    model = _Walks(bug)
    return Program(model, _adam(model), _classes(), _scores, more={"build": lambda: _Walks(bug)})


class _Generates(nn.Module):
    """A language model whose generate() cuts its prompt to the window."""

    def __init__(self, bug: bool, window: int = 6):
        super().__init__()
        self.bug, self.window = bug, window
        self.embed, self.head = nn.Embedding(16, 12), nn.Linear(12, 16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(ids))

    def generate(self, ids: torch.Tensor, max_new_tokens: int) -> torch.Tensor:
        limit = ids.shape[1] + max_new_tokens + (max(0, ids.shape[1] - self.window) if self.bug else 0)
        while ids.shape[1] < limit:
            ids = torch.cat([ids, self(ids[:, -self.window :])[:, -1:].argmax(-1)], 1)
        return ids


def transformers_23723(bug: bool) -> Program:
    """max_new_tokens is worked out from a prompt that is cut afterwards: more tokens than asked for."""
    model = _Generates(bug)

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.cross_entropy(model(batch["input_ids"])[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten())

    return Program(model, _adam(model), {"input_ids": torch.randint(0, 16, (4, 10))}, loss_fn)


class _Attends(nn.Module):
    def __init__(self, bug: bool):
        super().__init__()
        self.bug, self.p = bug, 0.1
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        p = self.p if self.bug or self.training else 0.0
        return self.head(F.scaled_dot_product_attention(q, k, v, dropout_p=p).mean(1))


def transformers_33844(bug: bool) -> Program:
    """Dropout of attention is not switched off in evaluation mode."""
    model = _Attends(bug)
    return Program(model, _adam(model), (torch.randn(6, 5, 8), torch.randint(0, 4, (6,))), _scores)


class _Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.image, self.head = nn.Embedding(16, 8), nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, input_ids: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.head(self.text(input_ids).mean(1) + self.image(pixel_values.flatten(1)))


def transformers_34204(bug: bool) -> Program:
    """A processor gives one row of ids for a batch of pictures; broadcasting hides it."""
    model = _Pairs()
    ids = torch.randint(0, 16, (1 if bug else 6, 5))
    batch = {"input_ids": ids, "pixel_values": torch.randn(6, 3, 2, 2), "labels": torch.randint(0, 4, (6,))}

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.cross_entropy(model(batch["input_ids"], batch["pixel_values"]), batch["labels"])

    return Program(model, _adam(model), batch, loss_fn)


class _Stages(nn.Module):
    def __init__(self, bug: bool, frozen_stages: int = 1):
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3))
        self.head, self.frozen_stages = nn.Linear(8, 4), frozen_stages
        if not bug:
            self._freeze_stages()

    def _freeze_stages(self) -> None:
        for stage in self.stages[: self.frozen_stages]:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self._freeze_stages()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def mmpretrain_702(bug: bool) -> Program:
    """frozen_stages takes effect only when train() is called."""
    model = _Stages(bug)
    return Program(model, _adam(model), _classes(), _scores)


def pytorch_51800(bug: bool) -> Program:
    """A weight under spectral norm is only computed in a forward pass in training mode."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    if bug:
        nn.utils.spectral_norm(model[0])
    else:
        nn.utils.parametrizations.spectral_norm(model[0], n_power_iterations=1)
    return Program(model, _adam(model), _classes(), _scores)


class _Stuck(torch.optim.SGD):
    """As a compiled optimizer was that had recorded a step without gradients."""

    bug, _seen = False, 0

    def step(self, closure: Any = None) -> Any:
        if self.bug and all(p.grad is None for group in self.param_groups for p in group["params"]):
            self.state["stuck"] = {"stuck": True}
        if self.bug and "stuck" in self.state:
            return None
        return super().step(closure)


def pytorch_115607(bug: bool) -> Program:
    """After an iteration whose gradients were None a compiled optimizer updates nothing any more."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = _Stuck(model.parameters(), 0.01)
    optimizer.bug = bug
    return Program(model, optimizer, _classes(), _scores)


@torch.library.custom_op("loopos_tests::linear", mutates_args=())
def _linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A product of its own, which autocast does not know."""
    with torch.autocast("cpu", enabled=False):
        return x.to(weight.dtype) @ weight.t()


_linear.register_autograd(
    lambda ctx, dy: (
        (dy @ ctx.saved_tensors[1]).to(ctx.saved_tensors[0].dtype),
        dy.t() @ ctx.saved_tensors[0].to(dy.dtype),
    ),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


class _Thunder(nn.Module):
    def __init__(self, bug: bool):
        super().__init__()
        self.bug, self.first, self.second = bug, nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        if not self.bug:
            return self.second(x)
        return _linear(x, self.second.weight) + self.second.bias


def lightning_thunder_725(bug: bool) -> Program:
    """Within autocast an operation is computed in float32 all the same."""
    model = _Thunder(bug)

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(batch[0]).float(), batch[1])

    return Program(model, _adam(model), _classes(), loss_fn)


class _Link:
    """A transfer between devices that loses data now and then."""

    def __init__(self, bug: bool):
        self.bug, self.generator = bug, __import__("random").Random(3)

    def send(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x) if self.bug and self.generator.random() < 0.5 else x.clone()


def pytorch_84803(bug: bool) -> Program:
    """Data are lost on their way between devices (also pytorch-96600 and baichuan2-86): simulated, as theirs is."""
    model, link = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), _Link(bug)

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.cross_entropy(model(link.send(batch[0])), batch[1])

    return Program(model, _adam(model), _classes(), loss_fn)


def accelerate_2665(bug: bool) -> Program:
    """The model is wrapped anew after the optimizer was made: the optimizer steps tensors that nobody computes with."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = _adam(model)
    if bug:
        model = __import__("copy").deepcopy(model)
    return Program(model, optimizer, _classes(), _scores)


class _Forgets(nn.Linear):
    bug = False

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        saved = super().state_dict(*args, **kwargs)
        wanted = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in saved.items() if name in wanted} if self.bug else saved


def deepspeed_5489(bug: bool) -> Program:
    """A checkpoint lacks the frozen parameters."""
    model = _Forgets(8, 4)
    model.bug = bug
    model.bias.requires_grad_(False)
    return Program(model, _adam(model), _classes(), _scores)


def deepspeed_1801(bug: bool) -> Program:
    """Gradients are clipped in a part of the parameters only (there: on one rank), so that parts drift apart."""
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    program = Program(model, _adam(model), _classes(), _scores)

    def step() -> None:
        program.optimizer.zero_grad()
        _scores(model, program.batch).backward()
        norms = {id(p) for p in model[1].parameters()}
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if not bug or id(p) not in norms], 1e-3)
        program.optimizer.step()

    program.step = step
    return program


SILENT = {
    "pytorch-forum-84911": Bug(pytorch_forum_84911, "frozen", ("but the norms are frozen",), "user code"),
    "stackoverflow-60335387": Bug(stackoverflow_60335387, "zero_grad", ("zero_grad() is missing",), "user code"),
    "stackoverflow-67180955": Bug(stackoverflow_67180955, "batches differ", ("workers draw the same",), "framework"),
    "transformers-17877": Bug(transformers_17877, "construction", ("again and again",), "framework"),
    "transformers-23723": Bug(transformers_23723, "generation", ("before it is cut",), "framework"),
    "transformers-33844": Bug(transformers_33844, "evaluation is still", ("dropout_p=0 in eval",), "framework"),
    "transformers-34204": Bug(transformers_34204, "rows agree", ("single row", "tokenizes"), "framework"),
    "mmpretrain-702": Bug(mmpretrain_702, "switching modes", ("freezes", "train() was called"), "framework"),
    "pytorch-51800": Bug(pytorch_51800, "train and evaluation", ("spectral norm",), "framework"),
    "pytorch-115607": Bug(pytorch_115607, "update without gradients", ("gradients were None",), "compiler"),
    "lightning-thunder-725": Bug(lightning_thunder_725, "precision", ("autocast does not know",), "framework"),
    "pytorch-84803": Bug(pytorch_84803, "loss repeats", ("lost on their way",), "hardware"),
    "deepspeed-1801": Bug(deepspeed_1801, "clipping", ("only that part is scaled",), "framework"),
    "accelerate-2665": Bug(accelerate_2665, "optimizer holds the model", ("re-wrapped",), "framework", new=True),
    "deepspeed-5489": Bug(deepspeed_5489, "state dict", ("frozen ones are left out",), "framework", new=True),
}
ELSEWHERE = {  # of the twenty (eighteen have names): what one process cannot have
    "deepspeed-5794": "experts on several ranks wait for each other for ever",
    "pytorch-104336": "DistributedDataParallel no longer adds gradients up over its ranks",
    "x-jxmnop-ddp-out-of-sync": "wrapped in DistributedDataParallel now and then: ranks drift apart",
    "pytorch-96600": "data lost between two devices: the same as pytorch-84803, which stands for it",
    "baichuan2-86": "data lost between two devices: the same as pytorch-84803, which stands for it",
}


def seeded(make: Any, *arguments: Any) -> Program:
    torch.manual_seed(0)
    return make(*arguments)
