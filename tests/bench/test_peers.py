"""The programs that are compared do the same job: from the same weights, the same losses step after step.

Losses after the first also hold gradients, clipping, AdamW and decay to account. float32 in another order of summation:
1e-5 of a loss near 3, over five steps."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.bench import picture_settings, settings
from loopos.bench.peers.ours import LoopOS
from loopos.bench.settings import TINY
from loopos.choices import ACTIVATIONS

STEPS = 5
WITH_EACH = [TINY["tiny"].resized(f"tiny-{name}", activation=name) for name in ACTIVATIONS if name != "gelu_tanh"]


@pytest.fixture(params=[*TINY.values(), *WITH_EACH], ids=lambda setting: setting.name)
def setting(request):
    return request.param


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """Steps large enough for the losses to show what was done: the clip acts, and the decay is felt."""
    monkeypatch.setattr(settings, "LEARNING_RATE", 1e-2)
    monkeypatch.setattr(settings, "CLIP", 0.1)
    monkeypatch.setattr(settings, "WEIGHT_DECAY", 2.0)


@pytest.fixture
def ours(setting, thread_count):
    thread_count(1)
    engine = LoopOS()
    assert engine.prepare(setting, setting.data()) == setting.config.num_parameters()
    return engine


def _losses(engine):
    return np.array([engine.step(at) for at in range(STEPS)])


def _pairs(setting, weights):
    """(name in the torch program, array) of LoopOS's weights."""
    direct = {
        "tok_embed.weight": "tokens.weight",
        "pos_embed.weight": "positions.weight",
        "lm_head.weight": "head.weight",
    }
    parts = [("attn_norm", "norm1"), ("attn.qkv_proj", "attention.qkv"), ("attn.o_proj", "attention.out")]
    parts += [("mlp_norm", "norm2"), ("mlp.up_proj", "feed_forward.up"), ("mlp.down_proj", "feed_forward.down")]
    parts += [("final_norm", "norm")]
    for name, array in weights.items():
        if ".gate_up_proj." in name:
            gate, up = np.split(array, 2)
            block, kind = name.partition(".mlp")[0], name.rpartition(".")[2]
            yield f"{block}.feed_forward.gate.{kind}", gate
            yield f"{block}.feed_forward.up.{kind}", up
            continue
        found = direct.get(name, name)
        for theirs, here in parts:
            found = found.replace(theirs, here)
        yield found, array


@pytest.mark.reference
def test_torch_follows_the_same_losses(setting, ours):
    torch = pytest.importorskip("torch")
    from loopos.bench.peers.torch_eager import Torch
    from loopos.bench.peers.torch_model import FUNCTIONS

    if ACTIVATIONS[setting.config.activation].f not in FUNCTIONS:
        pytest.skip("no setting of the benchmarks has it")
    theirs = Torch()
    assert theirs.prepare(setting, setting.data()) == setting.config.num_parameters()
    named = dict(theirs.model.named_parameters())
    pairs = dict(_pairs(setting, ours.model.parameters()))
    assert pairs.keys() == named.keys()
    with torch.no_grad():
        for name, array in pairs.items():
            named[name].copy_(torch.from_numpy(array.copy()))
    expected, found = _losses(ours), _losses(theirs)
    assert np.abs(expected - found).max() < 1e-5
    assert np.ptp(expected) > 0.01


@pytest.mark.reference
@pytest.mark.parametrize("name", picture_settings.SMALL)
def test_torch_follows_the_same_losses_of_pictures(name, thread_count):
    """Begun from weights that differ from either's own, which a file brings to both."""
    pytest.importorskip("torch")
    from loopos.bench.peers.torch_eager import Torch

    thread_count(1)
    setting = picture_settings.SMALL[name]
    rng = np.random.default_rng(0)
    weights = {
        key: view + 0.1 * rng.standard_normal(view.shape, np.float32)
        for key, view in setting.model().parameters().items()
    }
    losses = []
    for engine in (LoopOS(), Torch()):
        assert engine.prepare(setting, setting.data()) == setting.config.num_parameters()
        engine.begin(weights)
        losses.append(_losses(engine))
    expected, found = losses
    assert np.abs(expected - found).max() < 1e-5
    assert np.ptp(expected) > 0.01


@pytest.mark.reference
def test_weights_of_another_model_are_refused():
    pytest.importorskip("torch")
    from loopos.bench.peers import torch_pictures

    setting = picture_settings.SMALL["small-vit"]
    model, weights = torch_pictures.build(setting.config), dict(setting.model().parameters())
    with pytest.raises(ValueError, match=r"the model in PyTorch has no head\.weight"):
        torch_pictures.take(model, weights | {"head.weight": np.zeros((2, 2), np.float32)})
    weights.pop("class_token")
    with pytest.raises(ValueError, match=r"LoopOS's model has no encoder\.class_token"):
        torch_pictures.take(model, weights)


@pytest.mark.reference
@pytest.mark.parametrize("precision", ["medium", "autocast"])
def test_torch_in_less_than_float32_follows_within_it(precision):
    """bfloat16 factors: 2^-8 of each, so that losses near 3 move by less than a hundredth over five steps. Whether they
    move at all is the machine's for medium (without bfloat16 units it is float32), never for autocast."""
    torch = pytest.importorskip("torch")
    from loopos.bench.peers.torch_eager import Torch

    setting, losses = TINY["tiny"], {}
    before = torch.get_float32_matmul_precision()
    try:
        for each in ("float32", precision):
            engine = Torch()
            if each != "float32":
                engine.use_precision(each)
                assert engine.name == f"{Torch.name}, {precision}"
            engine.prepare(setting, setting.data())
            losses[each] = _losses(engine)
            assert engine.model.head.weight.dtype == torch.float32
        assert torch.get_float32_matmul_precision() == ("medium" if precision == "medium" else before)
    finally:
        torch.set_float32_matmul_precision(before)
    moved = np.abs(losses["float32"] - losses[precision]).max()
    assert moved < 0.01
    assert moved > 0 or precision == "medium"
    with pytest.raises(ValueError, match="no precision 'high'"):
        Torch().use_precision("high")


def test_our_engine_gives_the_model_its_precision(thread_count):
    thread_count(1)
    for precision in ("bf16x3", "bf16"):
        engine = LoopOS()
        engine.use_precision(precision)
        engine.prepare(TINY["tiny"], TINY["tiny"].data())
        assert engine.model.precision == precision
        assert engine.name == f"{LoopOS.name} {precision}"
    engine = LoopOS()
    engine.prepare(TINY["tiny"], TINY["tiny"].data())
    assert engine.model.precision == "float32"


@pytest.mark.reference
def test_jax_follows_the_same_losses(setting, ours):
    """In a process of its own, as everywhere: JAX keeps the cores that it was first given."""
    pytest.importorskip("jax")
    import json
    import os
    import subprocess
    import sys
    from pathlib import Path

    import loopos

    weights = {name: array.tolist() for name, array in _pairs(setting, ours.model.parameters())}
    request = {"setting": setting.to_dict(), "weights": weights, "steps": STEPS}
    beside = os.pathsep.join(filter(None, [str(Path(loopos.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": beside},
    )
    assert run.returncode == 0, run.stderr
    expected, found = _losses(ours), np.array(json.loads(run.stdout))
    assert np.abs(expected - found).max() < 1e-5
    assert np.ptp(expected) > 0.01


JAX_PROGRAM = """
import json, sys
from loopos.bench import picture_settings, settings
settings.LEARNING_RATE, settings.CLIP, settings.WEIGHT_DECAY = 1e-2, 0.1, 2.0
from loopos.bench.peers import jax_jit
import jax.numpy as jnp

request = json.load(sys.stdin)
setting = settings.Setting.from_dict(request["setting"])
engine = jax_jit.Jax()
assert engine.prepare(setting, setting.data()) == setting.config.num_parameters()
weights = engine.state[0]
for name, value in request["weights"].items():
    value, parts = jnp.asarray(value, jnp.float32), name.split(".")
    if parts[0] in ("tokens", "positions", "head"):
        assert weights[parts[0]].shape == value.shape
        weights[parts[0]] = value
        continue
    place = weights["norm"] if parts[0] == "norm" else weights["blocks"][int(parts[1])][parts[-2]]
    key, value = ("b", value) if parts[-1] == "bias" else ("w", value.T)
    assert place[key].shape == value.shape
    place[key] = value
print(json.dumps([engine.step(at) for at in range(request["steps"])]))
"""
