"""The same models as a straightforward JAX program: one jitted step, whose weights and moments are donated to it."""

from __future__ import annotations

import math
import os
from functools import partial

if hasattr(os, "sched_setaffinity"):  # JAX has no setting for its threads: it takes the cores it is allowed
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[: int(os.environ.get("LOOPOS_BENCH_THREADS", len(allowed)))])
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np

from loopos.bench import settings
from loopos.bench.peers.serve import Engine, serve
from loopos.bench.settings import Setting
from loopos.choices import ACTIVATIONS
from loopos.config import ModelConfig

FUNCTIONS = {
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
}


def initial(config: ModelConfig) -> dict:
    """Weights by name, the blocks in a list: normal 0.02, residuals 0.02 / sqrt(2 n_layer), norms 1, biases 0."""
    rng = np.random.default_rng(0)
    width, keys = config.d_model, config.n_kv_head * config.head_width

    def matrix(rows: int, columns: int, std: float = 0.02):
        return jnp.asarray(rng.normal(0, std, (rows, columns)), jnp.float32)

    def linear(inputs: int, outputs: int, std: float = 0.02) -> dict:
        return {"w": matrix(inputs, outputs, std)} | ({"b": jnp.zeros(outputs)} if config.bias else {})

    def norm() -> dict:
        shifted = config.norm == "layernorm" and config.bias
        return {"w": jnp.ones(width)} | ({"b": jnp.zeros(width)} if shifted else {})

    def block() -> dict:
        small = 0.02 / math.sqrt(2 * config.n_layer)
        weights = {"norm1": norm(), "qkv": linear(width, width + 2 * keys), "out": linear(width, width, small)}
        weights |= {"norm2": norm(), "up": linear(width, config.d_ff), "down": linear(config.d_ff, width, small)}
        return weights | ({"gate": linear(width, config.d_ff)} if config.gated else {})

    weights = {"tokens": matrix(config.vocab_size, width), "norm": norm()}
    weights["blocks"] = [block() for _ in range(config.n_layer)]
    if config.position == "learned":
        weights["positions"] = matrix(config.context_length, width)
    if not config.tie_embeddings:
        weights["head"] = matrix(config.vocab_size, width)
    return weights


def apply(x, layer: dict):
    y = x @ layer["w"]
    return y + layer["b"] if "b" in layer else y


def normalise(x, layer: dict, config: ModelConfig):
    if config.norm == "layernorm":
        x = x - x.mean(-1, keepdims=True)
    y = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + config.norm_eps) * layer["w"]
    return y + layer["b"] if "b" in layer else y


def rotate(x, cosine, sine):
    """x (B, T, H, D): element i with element i + D/2."""
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)


def attend(x, layer: dict, config: ModelConfig):
    B, T, _ = x.shape
    heads, kv_heads, D = config.n_head, config.n_kv_head, config.head_width
    q, k, v = jnp.split(apply(x, layer["qkv"]), [heads * D, (heads + kv_heads) * D], axis=-1)
    q, k, v = (t.reshape(B, T, -1, D) for t in (q, k, v))
    if config.position == "rope":
        half = D // 2
        angle = np.arange(T)[:, None, None] * config.rope_theta ** (-np.arange(half) / half)
        cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return apply(y.reshape(B, T, heads * D), layer["out"])


def feed_forward(x, layer: dict, config: ModelConfig):
    up = apply(x, layer["up"])
    f = FUNCTIONS[ACTIVATIONS[config.activation].f]
    if config.gated:
        return apply(f(apply(x, layer["gate"])) * up, layer["down"])
    return apply(f(up), layer["down"])


def loss_of(weights: dict, ids, targets, config: ModelConfig):
    x = weights["tokens"][ids]
    if config.position == "learned":
        x = x + weights["positions"][: ids.shape[1]]
    for layer in weights["blocks"]:
        x = x + attend(normalise(x, layer["norm1"], config), layer, config)
        x = x + feed_forward(normalise(x, layer["norm2"], config), layer, config)
    logits = normalise(x, weights["norm"], config) @ weights.get("head", weights["tokens"]).T
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - chosen).mean()


def training_step(config: ModelConfig):
    """The jitted step: (weights, first moments, second moments, count), ids, targets -> new state, loss."""
    (beta1, beta2), rate = settings.BETAS, settings.LEARNING_RATE

    def step(state, ids, targets):
        weights, first, second, count = state
        loss, grads = jax.value_and_grad(loss_of)(weights, ids, targets, config)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
        scale = jnp.minimum(1.0, settings.CLIP / norm)
        count = count + 1
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * scale * g, first, grads)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * (scale * g) ** 2, second, grads)

        def update(w, m, v):
            decay = settings.WEIGHT_DECAY if w.ndim >= 2 else 0.0
            direction = m / (1 - beta1**count) / (jnp.sqrt(v / (1 - beta2**count)) + settings.EPS)
            return w * (1 - rate * decay) - rate * direction

        return (jax.tree.map(update, weights, first, second), first, second, count), loss

    return jax.jit(step, donate_argnums=0)


class Jax(Engine):
    name = f"jax {jax.__version__} jit"

    def use_threads(self, threads: int) -> None:
        """Settled before jax was imported."""

    def prepare(self, setting: Setting, data: list[tuple[np.ndarray, np.ndarray]]) -> int:
        weights = initial(setting.config)
        zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
        self.state = (weights, *zeros, jnp.float32(0))
        self.data = [(jnp.asarray(ids, jnp.int32), jnp.asarray(targets, jnp.int32)) for ids, targets in data]
        self.run = training_step(setting.config)
        return sum(weight.size for weight in jax.tree.leaves(weights))

    def step(self, index: int) -> float:
        self.state, loss = self.run(self.state, *self.data[index])
        jax.block_until_ready(self.state)
        return float(loss)


if __name__ == "__main__":
    serve(Jax())
