"""Case 3 in the engine: modulated adapters on a frozen teacher, the broken recipe and the right one.

The write-up's layer stands in every block of a model: what attention adds to the stream gives, through a map of rank
16, a gate and an added part for the input of the feed-forward (loopos.Modulated). Teacher and student are one model,
without and with the adapter. Measured here: what each gate leaves after 2, 8 and 30 layers; where a large beginning
becomes NaN, and where norms keep it from that; distillation of hidden states with the right recipe; and what a batch
that is not finite does to weights and moments.

Run: python modulated_adapter.py          (some seconds; --skip-fix keeps the gate of the write-up, --pictures FOLDER
draws what was measured)
"""

from __future__ import annotations

import pydoc_data.topics
import tempfile
from pathlib import Path

import modulated_pictures as pictures
import numpy as np
from claims import claim, claim_learning, main

import loopos
from loopos import Modulated, ops, testing
from loopos.health.doctor.stream import stream
from loopos.health.stages import examine

GATES, LAYERS, WIDTH, RANK = ("sigmoid", "tanh", "document"), (2, 8, 30), 64, 16
FLOAT16 = 65504  # its largest number, where the write-up ran


def model(layers: int, seed: int = 0) -> loopos.Model:
    shape = dict(norm="rmsnorm", activation="swiglu", position="rope", bias=False, d_ff=128)
    return loopos.Model(loopos.ModelConfig(128, 32, layers, 4, WIDTH, **shape), seed=seed)


def growth(layers: int, gate: str) -> tuple[float, list[float], list[float], list[float]]:
    """(the rms of the feed-forwards' input as a share of the teacher's; by layer, from before the first: the rms of the
    stream as a share of the teacher's, how far it is from the teacher's, what is left of a signal that the gates
    multiply one after another) before anything is learned."""
    student, ids = model(layers), np.random.default_rng(0).integers(0, 128, (2, 32))
    for name, view in student.parameters().items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            view *= 20  # as large as training makes the branches of a model
    teacher = stream(student.config, student.parameters(), ids)[0]
    student.add_adapter(Modulated(RANK, gate))
    left, zero = [np.ones(1)], np.zeros(1)
    for _ in range(layers):
        left.append(ops.modulate(left[-1], zero, zero, gate=gate))
    sizes = {row["tensor"]: row["rms"] for row in loopos.trace_step(student, ids, ids) if row["phase"] == "forward"}
    given = np.mean([sizes[f"blocks.{i}.modulate.y"] / sizes[f"blocks.{i}.mlp_norm.y"] for i in range(layers)])
    hidden = stream(student.config, student.parameters(), ids, student.adapter.arithmetic)[0]
    norm, pairs = np.linalg.norm, list(zip(hidden, teacher, strict=True))
    sizes = [float(norm(ours) / norm(theirs)) for ours, theirs in pairs]
    apart = [float(norm(ours - theirs) / norm(theirs)) for ours, theirs in pairs]
    return float(given), sizes, apart, [each.item() for each in left]


def turns():
    rng = np.random.default_rng(1)
    return [np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0].astype(np.float32) for _ in range(30)]


def chain(down, up, x):
    """What 30 layers without norms give, x before them: h becomes gate h + 0.1 u B_add^T, the gate 1, and is turned."""
    states = [x]
    for a, b, turn in zip(down, up, turns(), strict=True):
        added = ops.linear(ops.linear(states[-1], a), b)
        states.append(ops.linear(ops.modulate(states[-1], np.zeros_like(x), added, gate="tanh"), turn))
    return states


def descended(down, up, states, target, rate=5e-5):
    """Every B_add after an update of plain descent on the mean squared error, at the rate of the write-up."""
    dh, after, zero = 2 / target.size * (states[-1] - target), [], np.zeros_like(target)
    for h, a, b, turn in list(zip(states, down, up, turns(), strict=False))[::-1]:
        dx, _, dd = ops.modulate_backward(ops.linear(dh, turn.T.copy()), h, zero, gate="tanh")
        du, db, _ = ops.linear_backward(dd, ops.linear(h, a), b, has_bias=False)
        dh = dx + ops.linear_backward(du, h, a, has_bias=False)[0]
        after.insert(0, b - np.float32(rate) * db)
    return after


def birth_in(down, up, states):
    """Of the first number in it that is not finite, the products that make the added parts among them."""
    stages, made = {}, {}
    for i, (a, b) in enumerate(zip(down, up, strict=True)):
        stages[f"u of layer {i}"] = ops.linear(states[i], a)[:, None, :]
        stages[f"B_add of layer {i}"] = b
        stages[f"products of layer {i}"] = stages[f"u of layer {i}"] * b
        stages[f"after layer {i}"] = states[i + 1]
        made[f"u of layer {i}"] = ("linear",)
        made[f"products of layer {i}"] = ("multiply", f"u of layer {i}", f"B_add of layer {i}")
        made[f"after layer {i}"] = ("modulate", f"products of layer {i}")
    return examine(stages, made).birth


def large(student: loopos.Model, std: float) -> None:
    """B_add of this standard deviation, and A_proj of kaiming's."""
    rng = np.random.default_rng(2)
    for name, view in student.adapter_parameters().items():
        scale = {"A_proj": (2 / WIDTH) ** 0.5, "B_add": std, "B_mult": 0}[name.rpartition(".")[2]]
        view[...] = rng.normal(0, 1, view.shape) * scale


def largest(student: loopos.Model, ids: np.ndarray) -> float:
    rows = [row for row in loopos.trace_step(student, ids, ids) if row["phase"] == "forward"]
    return max(max(abs(row["min"]), abs(row["max"])) for row in rows)


def run(fixed: bool) -> dict[str, str]:
    print("Gates, measured:")
    for gate, values in zip(GATES, ((1, 0.25, 0.5, 1.5), (1, 0.5, 0.5, 1.5), (0.75, 0.125, 0.5, 1)), strict=True):
        found = Modulated(RANK, gate).measured()
        claim(found == values, f"{gate}: {found.at_zero} at 0, slope {found.slope}, {found.least} to {found.largest}")

    print("Growth before anything is learned:")
    drawn, grown = {}, {layers: {} for layers in LAYERS}
    for layers in LAYERS:
        for gate in GATES:
            given, *grown[layers][gate] = growth(layers, gate)
            apart, left = (curve[-1] for curve in grown[layers][gate][1:])
            start = 0.75 if gate == "document" else 1.0
            said = f"{layers:2} layers, {gate:8}: gates multiply up to {left:.2e}, feed-forwards are given {given:.3f}"
            said += f" of their input, hidden states are off by {apart:.1e}"
            good = abs(left / start**layers - 1) < 1e-12 and abs(given - start) < 2e-3
            claim(good and (apart > 0.02) == (start < 1), said)
    drawn["modulated_growth"] = pictures.growth(grown)

    print("A large beginning, without norms and with a loss that is not normalised:")
    rng, x = np.random.default_rng(0), np.random.default_rng(3).normal(size=(16, WIDTH)).astype(np.float32)
    down = [rng.normal(0, (2 / WIDTH) ** 0.5, (RANK, WIDTH)).astype(np.float32) for _ in range(30)]
    up = [rng.normal(0, 3, (WIDTH, RANK)).astype(np.float32) for _ in range(30)]
    small = chain(down, [np.float32(0.001 / 3) * b for b in up], x)
    found = examine({f"after layer {i}": h for i, h in enumerate(chain(down, up, x))})
    claim(found.causes == ("signal-explodes",), str(found))
    apart = np.float64(chain(down, up, x)[-1] - small[-1])
    claim(np.mean(apart**2) > 1e6, f"the mean squared error before the first update is {np.mean(apart**2):.1e}")
    step = descended(down, up, chain(down, up, x), small[-1])
    with np.errstate(all="ignore"):
        birth = birth_in(down, step, chain(down, step, x))
    claim(birth is not None and birth.cause_class == "product overflow", f"the next forward is not finite: {birth}")
    with np.errstate(all="ignore"):
        states = small, chain(down, up, x), chain(down, step, x)
    sizes = [[float(abs(h).max()) for h in each] for each in states]
    drawn["modulated_birth"] = pictures.birth(*sizes, f"{birth.tensor}, {birth.cause_class}")
    found = examine({f"after layer {i}": h for i, h in enumerate(small)})
    claim(found.causes == (), f"with B_add of 0.001: {found}")

    print("The same in the engine, whose blocks have norms:")
    ids = np.random.default_rng(0).integers(0, 128, (2, 32))
    for std in (0.001, 1e6, 1e20):
        student = model(8)
        student.add_adapter(Modulated(RANK, "tanh"))
        large(student, std)
        loss, top = student.loss(ids, ids), largest(student, ids)
        where = "beyond" if top > FLOAT16 else "within"
        claim(np.isfinite(loss), f"B_add of {std:g}: loss {loss:.3f}, largest activation {top:.1e}, {where} float16")
    large(student, 1e23)
    try:
        student.loss_and_grads(ids, ids)
        birth = None
    except loopos.NonFiniteError as error:
        birth = error.birth
    claim(birth is not None and birth.layer == 0, f"B_add of 1e+23: {birth}")

    print("Repaired: a gate of 1, a small added part, a normalised loss; hidden states of the teacher are learned:")
    text = "\n".join(pydoc_data.topics.topics.values()).encode("ascii", "ignore")[:40_000]
    ids, held_out = np.frombuffer(text[:-4000], np.uint8), np.frombuffer(text[-4000:], np.uint8)
    pairs = [held_out[i : i + 3200].astype(np.int64).reshape(100, 32) for i in (0, 1)]
    plain = dict(batch_size=8, progress=False, log_every=1, weight_decay=0.0)
    student = model(4)
    loopos.train(student, ids, max_steps=120, learning_rate=3e-3, **plain)
    teacher = np.exp(student.loss(*pairs))
    student.add_adapter(Modulated(RANK, "sigmoid" if fixed else "document"))
    start = np.exp(student.loss(*pairs))
    said = f"held-out perplexity {teacher:.4f} of the teacher, {start:.4f} of the student"
    claim(abs(start / teacher - 1) < 1e-4, said)
    rng = np.random.default_rng(4)
    for name, view in student.adapter_parameters().items():  # a student that has gone astray
        view[...] = rng.normal(0, 100 if "B_" in name else 0.2, view.shape)
    astray = np.exp(student.loss(*pairs))
    recipe = dict(teacher="self", distill="normalized_mse", learning_rate=1e-2, max_grad_norm=0.5, **plain)
    history = loopos.train(student, ids, max_steps=80, eval_data=held_out, eval_every=5, **recipe).history
    claim_learning([line["loss"] for line in history], at_most=0.5)
    drawn["modulated_learning"] = pictures.learning(history)
    after = np.exp(student.loss(*pairs))
    claim(after < (astray + teacher) / 2, f"held-out perplexity of the student {astray:.2f} before, {after:.2f} after")

    print("Batches that are not finite:")
    with tempfile.TemporaryDirectory() as folder, testing.planted(student, "blocks.1.modulate.y", None, np.nan, step=3):
        loopos.train(student, ids, max_steps=3, save_every=1, on_nonfinite="skip", output_dir=folder, **recipe)
        kept = [sorted(path.glob("*.safetensors")) for path in sorted(Path(folder).glob("step-*"))[-2:]]
        same = [a.read_bytes() == b.read_bytes() for a, b in zip(*kept, strict=True)]
        claim(same == [True, True], "a skipped update leaves weights and moments as they were, bit for bit")
    before = {name: view.copy() for name, view in student.adapter_parameters().items()}
    with testing.planted(student, "blocks.1.modulate.y", None, np.nan):
        try:
            loopos.train(student, ids, max_steps=9, on_nonfinite="skip", **recipe)
        except loopos.NonFiniteError as error:
            birth = error.birth
    claim(birth.step == 3 and birth.op == "modulate", f"the third in a row ends the run: {birth}")
    moved = [name for name, view in student.adapter_parameters().items() if (view != before[name]).any()]
    claim(moved == [], "no weight has moved")
    return drawn


if __name__ == "__main__":
    main(run, __doc__, pictures.draw)
