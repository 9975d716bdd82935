"""Models with low-rank parts on every projection, straight from the core; and the same without them, merged."""

from __future__ import annotations

import numpy as np
from variants import LLAMA

import loopos

SIZE = {"vocab_size": 19, "context_length": 70, "n_layer": 2, "n_head": 4, "d_model": 16}


def model_of(options=LLAMA, dtype="float32", weights=None, **more):
    model = loopos.Model(loopos.ModelConfig(**{**SIZE, **options, **more}), seed=1, dtype=dtype, weights=weights)
    rng = np.random.default_rng(0)
    for view in model.parameters().values():
        view += (0.1 * rng.standard_normal(view.shape)).astype(view.dtype)
    return model


def projections(model):
    """Name to (out, in) of every projection of the blocks."""
    names = {name: view.shape for name, view in model.parameters().items()}
    names |= {each["name"]: each["shape"] for each in model._core.stored()}
    return {n.removesuffix(".weight"): s for n, s in names.items() if n.endswith("proj.weight")}


def parts_of(model, rank=3, scale=0.5, dropout=0.0, only="", dora=False):
    """A part for each of q, k, v, for gate and up, and for the rest; with gaps that no part acts on."""
    found, config = [], model.config
    head = config.head_width
    queries, keys = config.n_head * head, config.n_kv_head * head
    for projection, (out, _) in projections(model).items():
        room, _, name = projection.rpartition(".")
        cuts = {name: (0, out)}
        if name == "qkv_proj":
            cuts = {"q_proj": (0, queries), "k_proj": (queries, keys), "v_proj": (queries + keys, keys - 1)}
        if name == "gate_up_proj":
            cuts = {"gate_proj": (0, out // 2), "up_proj": (out // 2, out // 2)}
        for i, (cut, (first, rows)) in enumerate(cuts.items()):
            part = {"projection": projection, "name": f"{room}.{cut}", "first": first, "rows": rows}
            found.append(part | {"rank": rank + i, "scale": scale, "dropout": dropout, "dora": dora and i != 1})
    return [part for part in found if only in part["name"]]


def adapt(model, parts=None, seed=3, size=0.3, **options):
    parts = parts_of(model, **options) if parts is None else parts
    model._core.add_adapter(parts)
    rng = np.random.default_rng(seed)
    for name, view in model.parameters(trainable=True).items():
        if name.endswith("lora_magnitude"):
            view *= rng.uniform(0.5, 1.5, view.shape).astype(view.dtype)
        else:
            view[:] = size * rng.standard_normal(view.shape)
    return parts


def batch(rows, time, seed=0):
    return np.random.default_rng(seed).integers(0, SIZE["vocab_size"], (2, rows, time))


def merged(model, parts):
    """The same model without an adapter, in float64: W + scale B A, and where that is asked for its rows brought to
    their magnitudes. Also what its rows were multiplied by for that, by the name of the part."""
    own, gains = model.parameters(), {}
    state = {name: view.astype(np.float64) for name, view in own.items() if "lora_" not in name}
    for part in parts:
        a, b = (own[f"{part['name']}.lora_{m}"].astype(np.float64) for m in "AB")
        rows = slice(part["first"], part["first"] + part["rows"])
        sums = state[part["projection"] + ".weight"][rows] + part["scale"] * b @ a
        gains[part["name"]] = np.ones(len(sums))
        if part["dora"]:
            magnitude = own[f"{part['name']}.lora_magnitude"].astype(np.float64)
            gains[part["name"]] = magnitude / np.linalg.norm(sums, axis=1)
        state[part["projection"] + ".weight"][rows] = sums * gains[part["name"]][:, None]
    other = loopos.Model(model.config, dtype="float64")
    other.load_state_dict(state)
    return other, gains
