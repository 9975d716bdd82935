"""The runs of lead_time.py: those on which the monitor's bounds were chosen, and those that nobody chose anything on.

TUNING: 20 runs whose rate rises over 1500 steps, and four healthy ones. HELD_OUT: other sizes, optimizers, seeds and
precisions. Their rates were found without a monitor: on the ladder 0.001, 0.003, 0.01, ... each takes the least at
which its loss doubled within 600 steps, and the next above it as well; where the full rate is there at once, the least
alone. The seeds are others than those of the search, so that some do not diverge: these do not count. FRESH: the same
with other seeds, twice these rates, and a rise over 400 steps. Whoever changes a bound of the monitor looks at TUNING,
and at the others once, when it is done.
"""

from __future__ import annotations

from typing import Any

SIZE = {"vocab_size": 256, "context_length": 32, "n_layer": 2, "n_head": 2, "d_model": 32}
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}
POST = {"norm_placement": "post", "norm": "rmsnorm", "position": "rope", "bias": False}
SMALL = {"n_layer": 1, "d_model": 16, "context_length": 16}
DEEP = {"n_layer": 3, "d_model": 48, "n_head": 4, "context_length": 24}
WIDE = {"n_layer": 2, "d_model": 64, "n_head": 4, "context_length": 16}
PARALLEL = {"parallel_residual": True, "tie_embeddings": False, "activation": "relu"}
STEPS, SHORT = 1500, 600  # of a run, and those over which its rate rises

Run = dict[str, Any]


def _run(name: str, kind: str, seed: int, config: dict[str, Any] | None = None, **train: Any) -> Run:
    """Of TUNING. config: fields of the ModelConfig; scale: of all matrices before the first step; bad: a row of each
    batch is nonsense. train: keywords of loopos.train."""
    return {
        "name": name,
        "kind": kind,
        "seed": seed,
        "steps": STEPS,
        "config": config or {},
        "train": {"warmup_steps": STEPS} | train,
    }


SGD = {"optimizer": "sgd"}
TUNING = [
    _run("rate, adamw, warm-up to 1", "rate", 0, learning_rate=1),
    _run("rate, adamw, warm-up to 3", "rate", 1, learning_rate=3),
    _run("rate, sgd, warm-up to 30", "rate", 0, learning_rate=30, **SGD),
    _run("rate, sgd, warm-up to 100", "rate", 1, learning_rate=100, **SGD),
    _run("rate, llama, warm-up to 0.5", "rate", 0, LLAMA, learning_rate=0.5),
    _run("rate, llama, warm-up to 3", "rate", 1, LLAMA, learning_rate=3),
    _run("rate, lion, warm-up to 0.3", "rate", 1, LLAMA, learning_rate=0.3, optimizer="lion"),
    _run("decay, adamw, rate times decay to 3", "decay", 0, learning_rate=1e-2, weight_decay=300),
    _run("decay, adamw, rate times decay to 2.5", "decay", 1, learning_rate=1e-3, weight_decay=2500),
    _run("decay, adamw, rate times decay to 4.5", "decay", 2, learning_rate=3e-3, weight_decay=1500),
    _run("decay, lion, rate times decay to 3", "decay", 0, learning_rate=3e-3, weight_decay=1000.0, optimizer="lion"),
    _run("eps 1e-30 and a second beta of 0.3", "eps", 0, learning_rate=0.1, betas=(0.9, 0.3), eps=1e-30),
    _run("eps 1e-30 and a second beta of 0.5", "eps", 1, learning_rate=0.1, betas=(0.9, 0.5), eps=1e-30),
    _run("eps 1e-30 and a second beta of 0.7", "eps", 2, learning_rate=0.1, betas=(0.9, 0.7), eps=1e-30),
    _run("weights 4 times too large", "init", 0, {"scale": 4}, learning_rate=30, **SGD),
    _run("weights 8 times too large", "init", 1, {"scale": 8}, learning_rate=30, **SGD),
    _run("weights 6 times too large", "init", 2, {"scale": 6}, learning_rate=100, **SGD),
    _run("a bad row in every batch, sgd at 20", "row", 0, {"bad": 1}, learning_rate=20, **SGD),
    _run("a bad row in every batch, sgd at 30", "row", 1, {"bad": 1}, learning_rate=30, **SGD),
    _run("a bad row in every batch, sgd at 60", "row", 2, {"bad": 1}, learning_rate=60, **SGD),
]
HEALTHY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gpt": ({}, {"learning_rate": 1e-3, "warmup_steps": 20, "max_grad_norm": 1.0}),
    "llama": (LLAMA, {"learning_rate": 3e-3, "optimizer": "adam"}),
    "dropout": ({"dropout": 0.2, "activation": "relu"}, {"learning_rate": 1e-3, "lr_schedule": "linear"}),
    "sgd": ({}, {"learning_rate": 0.3, "optimizer": "sgd"}),
}

RISING = [  # name, what is wrong, config, optimizer and the like, the two rates
    ("sgd, one layer", "rate", SMALL, SGD, (0.3, 1.0)),
    ("sgd, three layers", "rate", DEEP, SGD, (0.3, 1.0)),
    ("sgd, float64", "rate", WIDE | LLAMA | {"dtype": "float64"}, SGD, (0.3, 1.0)),
    ("sgd, dropout", "rate", DEEP | {"dropout": 0.1}, SGD | {"warmup_steps": SHORT // 2}, (0.3, 1.0)),
    ("adam, second beta 0.9999", "rate", DEEP, {"optimizer": "adam", "betas": (0.9, 0.9999)}, (0.3, 1.0)),
    ("adamw, norm after the branch", "rate", WIDE | POST, {}, (0.3, 1.0)),
    ("adamw, branches side by side", "rate", WIDE | PARALLEL, {}, (1.0, 3.0)),
    ("adamw, bf16", "rate", DEEP | LLAMA, {"precision": "bf16"}, (3.0, 10.0)),
    ("lion", "rate", WIDE, {"optimizer": "lion"}, (0.1, 0.3)),
    ("muon", "rate", DEEP | LLAMA, {"optimizer": "muon"}, (1.0, 3.0)),
    ("weights 5 times too large, sgd", "init", DEEP | {"scale": 5}, SGD, (1.0, 3.0)),
    ("weights 10 times too large, adamw", "init", SMALL | {"scale": 10}, {}, (1.0, 3.0)),
    ("a bad row, sgd", "row", DEEP | LLAMA | {"bad": 1}, SGD, (1.0, 3.0)),
    ("a bad row, adamw", "row", WIDE | {"bad": 1}, {}, (0.3, 1.0)),
    ("eps 1e-20, second beta 0.6", "eps", WIDE | LLAMA, {"betas": (0.9, 0.6), "eps": 1e-20}, (0.01, 0.03)),
    ("decay 2000, adamw", "decay", DEEP, {"weight_decay": 2000.0}, (0.003, 0.01)),
]
AT_ONCE = [  # the same, and the one rate: no warm-up
    ("no warm-up, sgd", "warm-up", WIDE, SGD, 1.0),
    ("no warm-up, adamw", "warm-up", DEEP, {}, 1.0),
    ("no warm-up, adam, llama", "warm-up", SMALL | LLAMA, {"optimizer": "adam"}, 3.0),
    ("no warm-up, lion, llama", "warm-up", DEEP | LLAMA, {"optimizer": "lion"}, 0.1),
]


def _runs(seed: int, warmup: int, times: float) -> list[Run]:
    """times: of the rates in RISING and AT_ONCE."""
    rows = [(*row[:4], rate, warmup) for row in RISING for rate in row[4]] + [(*row, 0) for row in AT_ONCE]
    runs = []
    for at, (name, kind, config, train, rate, steps) in enumerate(rows):
        settings = {"warmup_steps": steps, "learning_rate": times * rate} | train
        label = f"{name}, {'to' if steps else 'at'} {times * rate:g}"
        runs.append(
            {"name": label, "kind": kind, "seed": seed + at, "steps": SHORT, "config": config, "train": settings}
        )
    return runs


HELD_OUT = _runs(100, SHORT, 1.0)
FRESH = _runs(300, 400, 2.0)
HEALTHY_HELD_OUT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "adamw, norm after the branch": (WIDE | POST, {"learning_rate": 1e-3, "warmup_steps": 100}),
    "muon": (DEEP | LLAMA, {"learning_rate": 1e-3, "optimizer": "muon"}),
    "lion": (WIDE | PARALLEL, {"learning_rate": 2e-4, "optimizer": "lion"}),
    "adam, one layer": (SMALL, {"learning_rate": 1e-2, "optimizer": "adam", "betas": (0.9, 0.95)}),
}

CYCLE = {"lr_schedule": "cosine", "warmup_steps": 30, "max_grad_norm": 1.0}
HEALTHY_FAR: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # runs that come out well and move their weights far
    "a width of 8": ({"n_layer": 1, "n_head": 1, "d_model": 8}, CYCLE | {"learning_rate": 1e-2}),
    "a width of 16": ({"d_model": 16}, CYCLE | {"learning_rate": 1e-2}),
    "muon at 0.05": ({}, CYCLE | {"optimizer": "muon", "learning_rate": 3e-3, "muon_lr": 0.05}),
}
