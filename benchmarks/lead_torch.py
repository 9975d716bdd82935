"""PyTorch programs that diverge by nature under loopos.watch, and healthy ones, for lead_time.py.

The rates were written down before any of them ran: two where the rate rises, one where it is there at once. Those whose
loss does not double within 600 steps do not count. A rate rises by a scheduler of PyTorch, or by hand (``by hand`` in
the name: then nobody knows where it goes).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import lead_text
import torch
from torch.nn import functional
from watch_cost import GPT, Block

import loopos

STEPS = 600
V, T, B = 256, 32, 8
Run = dict[str, Any]


class PostNorm(Block):
    """The norm after the branch, as in the first transformer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = self.first(x + self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        return self.second(x + self.down(functional.gelu(self.up(x))))


class Recurrent(torch.nn.Module):
    """An LSTM of characters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(V, 32)
        self.body, self.head = torch.nn.LSTM(32, 48, batch_first=True), torch.nn.Linear(48, V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.tokens(ids))[0])


class Gated(torch.nn.Module):
    """A GRU of characters, which nothing was tried on but in TUNING."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(V, 24)
        self.body, self.head = torch.nn.GRU(24, 40, batch_first=True), torch.nn.Linear(40, V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.tokens(ids))[0])


class Convolved(torch.nn.Module):
    """Two causal convolutions over characters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(V, 20)
        self.first, self.second = torch.nn.Conv1d(20, 48, 4), torch.nn.Conv1d(48, 48, 4)
        self.head = torch.nn.Linear(48, V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids).transpose(1, 2)
        for layer in (self.first, self.second):
            x = torch.relu(layer(functional.pad(x, (3, 0))))
        return self.head(x.transpose(1, 2))


class Window(torch.nn.Module):
    """A perceptron that sees the last eight characters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(V, 16)
        self.up, self.mid, self.down = torch.nn.Linear(128, 64), torch.nn.Linear(64, 64), torch.nn.Linear(64, V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        seen = functional.pad(self.tokens(ids), (0, 0, 7, 0)).unfold(1, 8, 1).flatten(2)
        return self.down(torch.tanh(self.mid(torch.relu(self.up(seen)))))


def _gpt(block: type[Block] = Block, scale: float = 1.0, size: tuple[int, int, int] = (2, 2, 32)) -> torch.nn.Module:
    """size: layers, heads, width."""
    model = GPT(*size, V, T)
    if block is not Block:
        model.blocks = torch.nn.ModuleList(block(32, 2) for _ in range(2))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= scale
    return model


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "gpt": _gpt,
    "gpt, norm after the branch": lambda: _gpt(PostNorm),
    "gpt, weights 5 times too large": lambda: _gpt(scale=5.0),
    "lstm": Recurrent,
    "window": Window,
    "gpt, one layer of 16": lambda: _gpt(size=(1, 2, 16)),
    "gpt, three layers of 48, weights 4 times too large": lambda: _gpt(scale=4.0, size=(3, 4, 48)),
    "gru": Gated,
    "convolutions": Convolved,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


def _to(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / steps))


class ByHand:
    def __init__(self, optimizer: torch.optim.Optimizer, rate: float):
        self._optimizer, self._rate, self._t = optimizer, rate, 0
        self.step()

    def step(self) -> None:
        self._t += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * min(1.0, self._t / STEPS)


def scheduler(optimizer: torch.optim.Optimizer, kind: str | None, rate: float) -> Any:
    if kind == "rising":
        return _to(optimizer, STEPS)
    if kind == "by hand":
        return ByHand(optimizer, rate)
    if kind == "one cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=STEPS + 1, pct_start=0.8)
    if kind == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10_000)
    return None


RISING = [  # what is wrong, model, optimizer, its settings, schedule, the two rates
    ("rate", "gpt", "adamw", {}, "rising", (0.1, 0.3)),
    ("rate", "gpt", "sgd", {"momentum": 0.9}, "rising", (0.3, 1.0)),
    ("rate", "gpt, norm after the branch", "adamw", {}, "rising", (0.1, 0.3)),
    ("rate", "gpt", "adamw", {"bf16": True}, "one cycle", (0.1, 0.3)),
    ("rate", "lstm", "adam", {"betas": (0.9, 0.9999)}, "rising", (0.1, 0.3)),
    ("rate", "window", "sgd", {"momentum": 0.9, "nesterov": True}, "by hand", (1.0, 3.0)),
    ("init", "gpt, weights 5 times too large", "sgd", {"momentum": 0.9}, "by hand", (0.3, 1.0)),
    ("row", "gpt", "adamw", {"bad": True}, "one cycle", (0.1, 0.3)),
    ("eps", "gpt", "adam", {"betas": (0.9, 0.5), "eps": 1e-20}, "rising", (0.01, 0.03)),
    ("decay", "gpt", "adamw", {"weight_decay": 2000.0}, "rising", (0.003, 0.01)),
]
AT_ONCE = [
    ("warm-up", "gpt", "adamw", {}, None, 0.3),
    ("warm-up", "gpt", "sgd", {}, None, 3.0),
    ("warm-up", "lstm", "sgd", {"momentum": 0.9}, None, 1.0),
    ("warm-up", "window", "rmsprop", {}, None, 0.1),
    ("warm-up", "window", "adam", {}, None, 0.3),
]
TUNING_RISING = [  # those that a bound may be chosen on: other models, seeds and rates
    ("rate", "gpt, one layer of 16", "adamw", {}, "rising", (0.1, 1.0)),
    ("rate", "gpt, one layer of 16", "sgd", {"momentum": 0.9}, "by hand", (1.0, 4.0)),
    ("rate", "gru", "adam", {}, "rising", (0.2, 1.0)),
    ("rate", "gru", "sgd", {"momentum": 0.9}, "by hand", (2.0, 8.0)),
    ("rate", "gru", "rmsprop", {}, "by hand", (0.1, 0.5)),
    ("rate", "convolutions", "sgd", {"momentum": 0.9}, "by hand", (0.5, 2.0)),
    ("rate", "convolutions", "sgd", {"momentum": 0.9}, "rising", (0.7, 3.0)),
    ("rate", "convolutions", "sgd", {}, "by hand", (5.0, 20.0)),
    ("rate", "convolutions", "adamw", {}, "one cycle", (0.1, 0.5)),
    ("init", "gpt, three layers of 48, weights 4 times too large", "sgd", {"momentum": 0.9}, "by hand", (0.5, 2.0)),
    ("init", "gpt, three layers of 48, weights 4 times too large", "sgd", {}, "rising", (3.0, 10.0)),
    ("row", "gpt, one layer of 16", "adamw", {"bad": True}, "by hand", (0.3, 1.0)),
    ("decay", "convolutions", "adamw", {"weight_decay": 1000.0}, "by hand", (0.006, 0.02)),
]
TUNING_AT_ONCE = [
    ("warm-up", "gpt, one layer of 16", "sgd", {}, None, 2.0),
    ("warm-up", "gru", "adam", {}, None, 0.3),
    ("warm-up", "convolutions", "sgd", {"momentum": 0.9}, None, 0.3),
]


def _run(
    seed: int, kind: str, model: str, optimizer: str, more: dict[str, Any], schedule: str | None, rate: float
) -> Run:
    wrong = {
        "row": ", a bad row",
        "eps": ", eps 1e-20 and a second beta of 0.5",
        "decay": f", decay {more.get('weight_decay', 0):g}",
    }.get(kind, "")
    how = {"rising": "rising to", "by hand": "rising by hand to", None: "at once"}.get(schedule, f"{schedule} to")
    return {
        "name": f"{model}, {optimizer}{wrong}{', bf16' if more.get('bf16') else ''}, {how} {rate:g}",
        "kind": kind,
        "seed": seed,
        "model": model,
        "optimizer": optimizer,
        "more": more,
        "schedule": schedule,
        "rate": rate,
    }


def _runs(seed: int, times: float, rising: list[Any] = RISING, at_once: list[Any] = AT_ONCE) -> list[Run]:
    """times: of the rates in both lists."""
    rows = [(*row[:5], rate) for row in rising for rate in row[5]] + at_once
    return [_run(seed + at, *row[:5], times * row[5]) for at, row in enumerate(rows)]


TUNING = _runs(600, 1.0, TUNING_RISING, TUNING_AT_ONCE)
DIVERGING, FRESH = _runs(200, 1.0), _runs(400, 2.0)
HEALTHY = {
    name: _run(1, "healthy", *row)
    for name, row in {
        "gpt, adamw": ("gpt", "adamw", {}, "cosine", 1e-3),
        "gpt, sgd": ("gpt", "sgd", {"momentum": 0.9}, "cosine", 0.1),
        "lstm, adam": ("lstm", "adam", {}, None, 3e-3),
        "window, rmsprop": ("window", "rmsprop", {}, None, 1e-3),
    }.items()
}


class Program:
    """A training loop; ``train`` runs it. watched: under loopos.watch."""

    def __init__(self, run: Run, watched: bool = True):
        torch.manual_seed(run["seed"])
        more = dict(run["more"])
        self.bad, self.bf16 = more.pop("bad", False), more.pop("bf16", False)
        self.model = MODELS[run["model"]]()
        self.optimizer = OPTIMIZERS[run["optimizer"]](self.model.parameters(), lr=run["rate"], **more)
        self.schedule = scheduler(self.optimizer, run["schedule"], run["rate"])
        self.ids = torch.from_numpy(lead_text.made_up())
        self.draw = torch.Generator().manual_seed(run["seed"])
        self.watch = loopos.watch(self.model, self.optimizer, policy="halt") if watched else None

    def loss(self) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.model(self.x)
        return functional.cross_entropy(logits.float().flatten(0, 1), self.y.flatten())

    def step(self) -> float:
        at = torch.randint(len(self.ids) - T - 1, (B,), generator=self.draw)
        rows = self.ids[at[:, None] + torch.arange(T + 1)]
        self.x, self.y = rows[:, :-1].clone(), rows[:, 1:].clone()
        if self.bad:
            self.x[-1], self.y[-1] = 3, torch.randint(0, V, (T,), generator=self.draw)
        if self.watch is not None:
            loss = self.watch.step(self.loss)
        else:
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return float(loss)


class Trained:
    def __init__(self) -> None:
        from lead_time import Losses

        self.losses = Losses()
        self.alarms: list[str] = []
        self.first: int | None = None


def train(run: Run, steps: int | None = None, watched: bool = True) -> Trained:
    """steps: of a healthy program; None: it ends when its loss has doubled, after STEPS at most."""
    torch.set_num_threads(1)
    found = Trained()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = Program(run, watched)
        try:
            for _ in range(steps or STEPS):
                if found.losses.add(program.step()) and steps is None:
                    break
        except loopos.NonFiniteError:
            found.losses.add(math.inf)
    if program.watch is not None:
        program.watch.close()
        found.alarms = [each.sentence for each in program.watch.findings]
        found.first = program.watch.findings[0].step if program.watch.findings else None
    return found
