"""A whole training run beside PyTorch, for both model families: the same weights, batches and hyper-parameters give the
same losses and weights, step after step. A trainer that does nothing, or nearly, cannot pass."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.optim.training import for_training

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.reference
F = torch.nn.functional

STEPS, RATE, DECAY, CLIP, BETAS = 40, 3e-3, 0.1, 0.5, (0.9, 0.95)


def norm(p, name, x, config):
    if config.norm == "rmsnorm":
        return F.rms_norm(x, x.shape[-1:], p[f"{name}.weight"], config.norm_eps)
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p.get(f"{name}.bias"), config.norm_eps)


def linear(p, name, x):
    return F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def rotate(x, theta):
    """Rotary positions, halves paired, as in transformers' Llama."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    cos, sin = torch.cos(angle).to(x.dtype), torch.sin(angle).to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(p, ids, config):
    """The model of ModelConfig, written once more in PyTorch."""
    heads, kv, width = config.n_head, config.n_kv_head, config.d_model // config.n_head
    x = F.embedding(ids, p["tok_embed.weight"])
    if config.position == "learned":
        x = x + p["pos_embed.weight"][: ids.shape[1]]
    for i in range(config.n_layer):
        b = f"blocks.{i}"
        qkv = linear(p, f"{b}.attn.qkv_proj", norm(p, f"{b}.attn_norm", x, config))
        q, k, v = (
            part.unflatten(-1, (-1, width)).transpose(1, 2)
            for part in qkv.split([heads * width, kv * width, kv * width], -1)
        )
        if config.position == "rope":
            q, k = rotate(q, config.rope_theta), rotate(k, config.rope_theta)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=kv != heads)
        x = x + linear(p, f"{b}.attn.o_proj", y.transpose(1, 2).flatten(-2))
        h = norm(p, f"{b}.mlp_norm", x, config)
        if config.activation == "swiglu":
            gate, up = linear(p, f"{b}.mlp.gate_up_proj", h).chunk(2, -1)
            h = F.silu(gate) * up
        else:
            h = F.gelu(linear(p, f"{b}.mlp.up_proj", h), approximate="tanh")
        x = x + linear(p, f"{b}.mlp.down_proj", h)
    return F.linear(norm(p, "final_norm", x, config), p.get("lm_head.weight", p["tok_embed.weight"]))


class Batches:
    """Copies of a periodic sequence, easy to learn; one target in eight is masked."""

    def __init__(self, config):
        rng = np.random.default_rng(0)
        self.sequence = np.resize(rng.permutation(config.vocab_size), 4000)
        self.time = config.context_length

    def batch(self, step, micro):
        rng = np.random.default_rng([step, micro])
        starts = rng.integers(0, len(self.sequence) - self.time - 1, 4)
        windows = np.stack([self.sequence[s : s + self.time + 1] for s in starts])
        targets = windows[:, 1:].copy()
        targets[rng.random(targets.shape) < 0.125] = -100
        return windows[:, :-1].copy(), targets


def run_torch(weights, config, batches, grad_accum):
    p = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    groups = [
        {"params": [v for v in p.values() if v.ndim >= 2], "weight_decay": DECAY},
        {"params": [v for v in p.values() if v.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=1e-8)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        micro = [[torch.tensor(x) for x in batches.batch(step, m)] for m in range(grad_accum)]
        valid = sum(int((targets != -100).sum()) for _, targets in micro)
        total = 0.0
        for ids, targets in micro:
            logits = forward(p, ids, config)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / valid
            loss.backward()
            total += loss.item()
        # torch.nn.utils.clip_grad_norm_ divides by norm + 1e-6, which is neither the definition nor ours
        norm = torch.nn.utils.get_total_norm([v.grad for v in p.values()])
        for value in p.values():
            value.grad.mul_(min(1.0, CLIP / norm.item()))
        optimizer.step()
        losses.append(total)
    return losses, {name: value.detach().numpy() for name, value in p.items()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("grad_accum", [1, 2])
def test_losses_and_weights_follow_pytorch(family, dtype, grad_accum):
    batches = Batches(family)
    model = loopos.Model(family, seed=7, dtype=dtype)
    start = model.state_dict()
    want_losses, want = run_torch(start, family, batches, grad_accum)
    result = loopos.train(
        model,
        batches,
        max_steps=STEPS,
        grad_accum=grad_accum,
        learning_rate=RATE,
        lr_schedule="constant",
        weight_decay=DECAY,
        betas=BETAS,
        max_grad_norm=CLIP,
        log_every=1,
        progress=False,
    )
    losses = [entry["loss"] for entry in result.history]
    assert losses[-1] < 0.7 * losses[0]  # it learns, so equality is not that of two dead runs
    # float64 differs from PyTorch by rounding alone; in float32 Adam divides by the root of tiny second moments, which
    # lets rounding of single elements grow over the run.
    np.testing.assert_allclose(losses, want_losses, rtol=1e-9 if dtype == "float64" else 1e-4)
    for name, value in model.parameters().items():
        moved = np.linalg.norm(want[name] - start[name])
        assert moved > 0, name
        assert np.linalg.norm(value - want[name]) <= (1e-6 if dtype == "float64" else 2e-2) * moved, name


def test_gradients_are_those_of_pytorch(family, batch):
    model = loopos.Model(family, seed=7, dtype="float64")
    ids, targets = batch(family)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in model.state_dict().items()}
    loss = F.cross_entropy(forward(p, torch.tensor(ids), family).flatten(0, 1), torch.tensor(targets).flatten())
    loss.backward()
    value, grads = model.loss_and_grads(ids, targets)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for name, grad in grads.items():
        want = p[name].grad.numpy()
        assert np.linalg.norm(grad - want) <= 1e-10 * np.linalg.norm(want), name


def test_a_trainer_that_does_nothing_is_caught(family, monkeypatch):
    monkeypatch.setattr("loopos.optim.AdamW.step_core", lambda self, lr, scale, norm: None, raising=False)
    for trainer in {type(for_training("adamw", loopos.Model(family), betas=BETAS, eps=1e-8, weight_decay=0))}:
        monkeypatch.setattr(trainer, "step_core", lambda self, lr, scale, norm: None)
    with pytest.raises(AssertionError):
        test_losses_and_weights_follow_pytorch(family, "float64", 1)
