"""The same models as a straightforward PyTorch program: nn.Module, F.scaled_dot_product_attention, fused AdamW.

Written the way PyTorch's tutorials would, with one matrix for queries, keys and values.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

from loopos.bench import settings
from loopos.choices import ACTIVATIONS
from loopos.config import ModelConfig

FUNCTIONS = {
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


class Norm(nn.Module):
    """Root-mean-square norm; layer norm is nn.LayerNorm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(config.d_model)), config.norm_eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def norm(config: ModelConfig) -> nn.Module:
    if config.norm == "rmsnorm":
        return Norm(config)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, causal: bool = True):
        super().__init__()
        self.causal = causal
        self.heads, self.kv_heads, self.width = config.n_head, config.n_kv_head, config.head_width
        self.qkv = nn.Linear(config.d_model, (self.heads + 2 * self.kv_heads) * self.width, bias=config.bias)
        self.out = nn.Linear(config.d_model, config.d_model, bias=config.bias)

    def forward(self, x, rotation, mask):
        B, T, C = x.shape
        sizes = [self.heads * self.width, self.kv_heads * self.width, self.kv_heads * self.width]
        q, k, v = (t.view(B, T, -1, self.width).transpose(1, 2) for t in self.qkv(x).split(sizes, dim=2))
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=self.causal, enable_gqa=self.heads != self.kv_heads
        )
        return self.out(y.transpose(1, 2).reshape(B, T, C))


def rotate(x, cosine, sine):
    """Element i with element i + D/2."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class FeedForward(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.f = FUNCTIONS[ACTIVATIONS[config.activation].f]
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.bias) if config.gated else None
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)

    def forward(self, x):
        if self.gate is not None:
            return self.down(self.f(self.gate(x)) * self.up(x))
        return self.down(self.f(self.up(x)))


class Block(nn.Module):
    def __init__(self, config: ModelConfig, causal: bool = True):
        super().__init__()
        self.norm1, self.attention = norm(config), Attention(config, causal)
        self.norm2, self.feed_forward = norm(config), FeedForward(config)

    def forward(self, x, rotation=None, mask=None):
        x = x + self.attention(self.norm1(x), rotation, mask)
        return x + self.feed_forward(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model) if config.position == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() >= 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        if config.tie_embeddings:
            self.head.weight = self.tokens.weight
        if config.position == "rope":
            half = config.head_width // 2
            angle = torch.arange(config.context_length)[:, None] * config.rope_theta ** (-torch.arange(half) / half)
            self.register_buffer("cosine", angle.cos())
            self.register_buffer("sine", angle.sin())

    def forward(self, ids, targets):
        x, rotation = self.tokens(ids), None
        if self.positions is not None:
            x = x + self.positions(torch.arange(ids.shape[1]))
        else:
            rotation = self.cosine, self.sine
        for block in self.blocks:
            x = block(x, rotation)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def adamw(model: nn.Module) -> torch.optim.AdamW:
    """Fused, of what is trainable; the decay acts on matrices."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.WEIGHT_DECAY},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.LEARNING_RATE, betas=settings.BETAS, eps=settings.EPS, fused=True)
