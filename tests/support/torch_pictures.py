"""The encoder and the captioner again, in PyTorch: plain functions of LoopOS's own weights by name."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def _norm(w, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def _linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _attend(q, k, v, heads, mask=None):
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _blocks(w, prefix, x, layers, heads, eps, gelu, mask, memory=None):
    """memory: (B, P, layers 2 C), keys and values for each block."""
    for i in range(layers):
        block = f"{prefix}blocks.{i}"
        qkv = _linear(w, f"{block}.attn.qkv_proj", _norm(w, f"{block}.attn_norm", x, eps))
        x = x + _linear(w, f"{block}.attn.o_proj", _attend(*qkv.chunk(3, -1), heads, mask))
        if memory is not None:
            q = _linear(w, f"{block}.cross.q_proj", _norm(w, f"{block}.cross_norm", x, eps))
            k, v = memory.chunk(layers, -1)[i].chunk(2, -1)
            x = x + _linear(w, f"{block}.cross.o_proj", _attend(q, k, v, heads))
        up = _linear(w, f"{block}.mlp.up_proj", _norm(w, f"{block}.mlp_norm", x, eps))
        x = x + _linear(w, f"{block}.mlp.down_proj", F.gelu(up, approximate=gelu))
    return _norm(w, f"{prefix}final_norm", x, eps)


def encode(w, config, images, prefix=""):
    """Rows (B, P, C) of images (B, H, W, channels) that are normalised."""
    p = config.patch_size
    b, h, width, c = images.shape
    rows = images.reshape(b, h // p, p, width // p, p, c).permute(0, 1, 3, 2, 4, 5).reshape(b, -1, p * p * c)
    x = _linear(w, f"{prefix}patch", rows)
    if config.class_token:
        x = torch.cat([w[f"{prefix}class_token"].expand(b, 1, -1), x], 1)
    x = x + w[f"{prefix}pos_embed.weight"]
    return _blocks(w, prefix, x, config.n_layer, config.n_head, config.norm_eps, "none", None)


def classify(w, config, images):
    rows = encode(w, config, images)
    pooled = rows[:, 0] if config.pool == "class" else rows[:, int(config.class_token) :].mean(1)
    return _linear(w, "classifier", pooled)


def caption(w, config, images, ids):
    """Logits (B, T, V); the decoder has learned positions and gelu_tanh."""
    d = config.decoder
    seen = _linear(w, "encoder.projection", encode(w, config.encoder, images, "encoder."))
    time, before = ids.shape[1], seen.shape[1] if config.fusion == "prefix" else 0
    text = w["decoder.tok_embed.weight"][ids] + w["decoder.pos_embed.weight"][:time]
    at = torch.arange(before + time)
    mask = (at[None] <= at[:, None]) | (at[None] < before)
    x, memory = (torch.cat([seen, text], 1), None) if config.fusion == "prefix" else (text, seen)
    x = _blocks(w, "decoder.", x, d.n_layer, d.n_head, d.norm_eps, "tanh", mask, memory)[:, before:]
    return x @ w["decoder.tok_embed.weight"].T
