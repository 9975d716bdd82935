"""Distillation of every block's state: its value against the stream recomputed in numpy, its gradient against central
differences and torch, parts and threads, and where a number that is not finite is born."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import losses
from loopos.health.doctor.stream import _norm, stream
from loopos.health.doctor.task import Task
from loopos.run.distill import Distill
from loopos.training import default_settings

LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False}
SHAPES = [
    {},
    LLAMA,
    {"parallel_residual": True},
    {**LLAMA, "norm_placement": "post"},
    {**LLAMA, "tie_embeddings": False},
]
RTOL = 1e-6  # of central differences in float64


def config(**changes):
    return loopos.ModelConfig(29, 12, 3, 2, 8, **{"d_ff": 12} | changes)


def batch(rows=3, time=10):
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 29, (2, rows, time))
    targets[:, ::4] = -100
    return ids, targets


def warm(shape, dtype="float64", seed=1):
    """Away from its start, so that every part is felt."""
    model, rng = loopos.Model(shape, seed=seed, dtype=dtype), np.random.default_rng(seed)
    for view in model.parameters().values():
        view += (0.3 * rng.standard_normal(view.shape)).astype(dtype)
    return model


def task_of(student, teacher, loss, **how):
    spec = Distill(loss, layers="all", **how)
    return Task(student, teacher, default_settings(teacher="self" if teacher == "self" else "model", distill=spec), 12)


def states(model, ids):
    """Of each block, the last behind the final norm, recomputed with loopos.ops."""
    weights = model.parameters()
    _, *blocks = stream(model.config, weights, ids)[0]
    return [*blocks[:-1], _norm(model.config, weights, "final_norm", blocks[-1])]


@pytest.mark.parametrize("loss", ["mse", "normalized_mse", "cosine"])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient(shape, loss):
    student, teacher = warm(config(**shape)), warm(config(**shape), seed=2)
    ids, targets = batch()
    task = task_of(student, teacher, loss)
    value, gradients = task.compute((ids, targets))
    scored = targets != -100
    pairs = zip(states(student, ids), states(teacher, ids), strict=True)
    each = [getattr(losses, loss)(ours[scored], theirs[scored])[0] for ours, theirs in pairs]
    assert value == pytest.approx(np.mean(each), rel=1e-10)
    rng = np.random.default_rng(3)
    for name, view in student.parameters().items():
        direction = rng.standard_normal(view.shape)
        kept, sides, step = view.copy(), [], 5e-5
        for at in (1, -1, 2, -2):
            view[...] = kept + at * step * direction
            sides.append(task.compute((ids, targets), copied=False)[0])
        view[...] = kept
        measured = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / (12 * step)  # of the fourth order
        expected = float(np.vdot(gradients[name], direction))
        size = max(abs(measured), abs(expected), 1e-4)
        assert abs(measured - expected) <= RTOL * size, name
        if abs(measured) > 1e-3:  # an error of a thousandth is seen
            assert abs(measured - 1.001 * expected) > RTOL * size
    untied = "lm_head.weight"
    assert all(g.any() for name, g in gradients.items() if name not in (untied, "blocks.0.attn.qkv_proj.bias"))
    assert untied not in gradients or not gradients[untied].any()  # states alone are compared


@pytest.mark.parametrize("spec", [loopos.LoRA(rank=2), loopos.Modulated(rank=2)])
def test_the_model_without_its_adapter_is_the_same_teacher(spec):
    results = []
    for teacher in ("self", warm(config(**LLAMA))):
        student = warm(config(**LLAMA))
        student.add_adapter(spec, seed=3)
        for view in student.adapter_parameters().values():
            view += 0.2
        results.append(task_of(student, teacher, "normalized_mse").compute(batch()))
    (value, gradients), (same, others) = results
    assert value == same > 0
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, others[name])
        assert gradient.any()


def test_frozen_blocks_below_are_compared_too():
    student, teacher = warm(config()), warm(config(), seed=2)
    whole, every = task_of(student, teacher, "mse").compute(batch())
    student.freeze("blocks.[01].*")
    student.freeze("*embed*")
    value, gradients = task_of(student, teacher, "mse").compute(batch())
    assert value == pytest.approx(whole, rel=1e-13)
    assert {name.split(".")[0] for name in gradients} == {"blocks", "final_norm"}
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, every[name], rtol=1e-10, atol=1e-14)


def test_beside_cross_entropy():
    student, teacher = warm(config()), warm(config(), seed=2)
    ids, targets = batch()
    alone, _ = task_of(student, teacher, "cosine").compute((ids, targets))
    both, _ = task_of(student, teacher, "cosine", weight=2.0, cross_entropy=0.5).compute((ids, targets))
    assert both == pytest.approx(2 * alone + 0.5 * student.loss(ids, targets), rel=1e-12)


def test_float32_in_parts_and_on_any_number_of_threads(thread_count):
    ids, targets = batch(rows=24, time=12)  # several sequences to a thread
    precise = task_of(warm(config(**LLAMA)), warm(config(**LLAMA), seed=2), "cosine").compute((ids, targets))
    found = []
    for threads in (1, 2, 3):
        thread_count(threads)
        pair = (warm(config(**LLAMA), "float32", seed) for seed in (1, 2))
        found.append(task_of(*pair, "cosine").compute((ids, targets)))
    for value, gradients in found:
        assert value == found[0][0] == pytest.approx(precise[0], rel=1e-5)
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(gradient, found[0][1][name])
            np.testing.assert_allclose(gradient, precise[1][name], rtol=1e-3, atol=2e-5)


@pytest.mark.reference
def test_against_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="compares with torch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    pair = [warm(config(**LLAMA), seed=seed) for seed in (1, 2)]
    theirs = []
    for i, model in enumerate(pair):
        model.save_pretrained(tmp_path / str(i))
        theirs.append(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / str(i), dtype=torch.float64))
    ids, targets = batch()
    scored = torch.tensor(targets != -100)
    ours, teacher = (m(torch.tensor(ids), output_hidden_states=True).hidden_states[1:] for m in theirs)
    each = [((a - b.detach()) ** 2).sum(-1) / (b.detach() ** 2).sum(-1) for a, b in zip(ours, teacher, strict=True)]
    expected = torch.stack([one[scored].mean() for one in each]).mean()
    expected.backward()
    value, gradients = task_of(*pair, "normalized_mse").compute((ids, targets))
    assert value == pytest.approx(expected.item(), rel=1e-7)  # rope of transformers is float32
    layer = theirs[0].model.layers[1]
    qkv = [getattr(layer.self_attn, f"{part}_proj").weight.grad for part in "qkv"]
    for name, reference in {
        "blocks.1.attn.qkv_proj.weight": torch.cat(qkv),
        "blocks.1.mlp.down_proj.weight": layer.mlp.down_proj.weight.grad,
        "blocks.0.attn_norm.weight": theirs[0].model.layers[0].input_layernorm.weight.grad,
    }.items():
        np.testing.assert_allclose(gradients[name], reference.numpy(), rtol=1e-5, atol=1e-7)


def test_a_number_that_is_not_finite_is_born_where_it_is():
    student, teacher = warm(config(), "float32"), warm(config(), "float32", seed=2)
    teacher.parameters()["blocks.1.mlp.down_proj.bias"][3] = np.inf
    with pytest.raises(loopos.NonFiniteError) as caught:
        task_of(student, teacher, "mse").compute(batch())
    birth = caught.value.birth
    assert (birth.phase, birth.layer, birth.op, birth.tensor) == ("forward", 1, "mse", "blocks.1.stream.loss")
    student.parameters()["blocks.0.mlp.down_proj.bias"][...] = 1e30
    with pytest.raises(loopos.NonFiniteError) as caught:
        task_of(student, warm(config(), "float32", seed=2), "mse", weight=1e12).compute(batch())
    assert caught.value.birth.tensor == "blocks.1.stream.dx"  # the first that backward comes to


def test_a_training_and_its_refusals():
    text, shape = "to be, or not to be, that is the question. " * 20, loopos.ModelConfig(256, 16, 3, 2, 16)
    how = {"distill": Distill("normalized_mse", layers="all"), "progress": False, "max_steps": 30, "log_every": 1}
    teacher = loopos.Model(shape, seed=1)
    history = loopos.train(loopos.Model(shape, seed=2), text, teacher=teacher, learning_rate=1e-2, **how).history
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    with pytest.raises(ValueError, match="layers='all' compares hidden states and loss='kl' compares logits"):
        Distill("kl", layers="all")
    with pytest.raises(ValueError, match="layers"):
        Distill("mse", layers="some")
    deeper = loopos.Model(loopos.ModelConfig(256, 16, 4, 2, 16))
    with pytest.raises(ValueError, match=r"teacher must have n_layer 3, as the model has \(got 4\)"):
        loopos.train(loopos.Model(shape), text, teacher=deeper, **how)
    ids = np.zeros((1, 4), np.int64)
    told = Distill("mse", layers="all").to_dict()
    told |= {"hidden": deeper._core.hidden_states(ids), "teacher": deeper._core}
    with pytest.raises(ValueError, match="of all 4 blocks of a teacher does not fit a student of 3"):
        loopos.Model(shape)._core.accumulate(ids, ids, scale=1.0, teaching=told)
