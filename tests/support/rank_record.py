"""A record of `loopos bench ranks` that nobody measured, of a model whose numbers can be worked out by hand."""

from __future__ import annotations

from typing import Any

from loopos.bench.step_time import Compute

NODE, RANK = Compute(0.0, 0.1, 0.2), Compute(0.0, 0.2, 0.4)
TRAINED = 1_000_000  # 4 MB, one bucket, and eight on the way
LINK = {"latency": 0.001, "bandwidth": 4e7}


def _spread(seconds: float) -> dict[str, float]:
    return {"median": seconds, "min": 0.9 * seconds, "max": 1.1 * seconds}


def _peer(name: str, ranks: int, seconds: float, apart: float | None, peak: int) -> dict[str, Any]:
    found = {"peer": name, "ranks": ranks, "threads": 2 // ranks, "engine": name, "trained": TRAINED}
    found |= {"losses": [[2.0]] * ranks, "peak_rss": peak << 20, "seconds": _spread(seconds), "steps": 3}
    found["tokens_per_second"] = 32 / seconds
    if apart is not None:
        found |= {"without_reduction": _spread(apart), "communication": 1 - apart / seconds}
    return found


def record() -> dict[str, Any]:
    """Two ranks on one setting of 4 sequences of 8 tokens: 0.8 s of computing in each, 0.104 s of reduction by the
    link of LINK and an addition that costs nothing."""
    config = {"vocab_size": 100, "context_length": 8, "n_layer": 1, "n_head": 2, "n_kv_head": 2, "d_model": 1000}
    peers = [
        _peer("loopos", 1, 0.6, None, 100),
        _peer("torch-ddp", 1, 1.2, None, 300),
        _peer("loopos", 2, 1.0, 0.8, 200),
        _peer("loopos-fast", 2, 0.8, 0.8, 200),
        _peer("loopos-wire", 2, 0.5, 0.5, 250),
        _peer("loopos-zero", 2, 0.9, 0.8, 200),
        _peer("torch-ddp", 2, 2.0, 1.5, 800),
    ]
    links = {
        "absent": [{"peer": "gloo", "reason": "torch is not installed"}],
        "mpi": {
            "engine": "MPICH",
            "messages": [[8, 1e-3]],
            "sums": [[1 << 20, 0.01], [4 << 20, 0.04], [16 << 20, 0.2]],
        },
        **{"adding": 0.0, "rounding": 1e-8, "reading": 5e-9},
        "link": LINK,
    }
    slow = [{"peer": "loopos", "engine": "loopos", "seconds": _spread(1.5)}, {"peer": "torch-ddp", "reason": "gone"}]
    return {
        "suite": "ranks",
        "format": 1,
        "threads": 2,
        "rounds": 3,
        "load": 0.1,
        "machine": {
            **{"processor": "Abacus", "cores": 2, "last_level_cache": 0, "system": "Linux", "python": "3.12"},
            **{"numpy": "2", "loopos": "0", "isa": "none"},
        },
        "network": {"here": links, "slow": links | {"link": LINK | {"bandwidth": 4e6}, "absent": []}},
        "settings": [
            {
                "setting": {"name": "toy", "batch": 4, "tokens": 32, "config": config, "parameters": TRAINED},
                "rows": 2,
                "peers": peers,
                "absent": [{"peer": "loopos", "ranks": 4, "threads": 1, "reason": "mpi4py is not installed"}],
                "compute": {"node": {"fit": NODE.to_dict()}, "rank": {"fit": RANK.to_dict()}},
            }
        ],
        "slow": {"gigabits": 0.032, "settings": [{"setting": "toy", "peers": slow}]},
    }
