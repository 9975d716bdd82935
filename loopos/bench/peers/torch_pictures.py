"""The captioner and the classifier of pictures as a straightforward PyTorch program: a convolution for the patches, the
blocks of torch_model, the picture's rows in front of the caption's. They begin with LoopOS's weights (``take``)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from loopos.bench.peers.torch_model import Block, norm
from loopos.vision import CaptionerConfig, VisionConfig

# names of LoopOS in those of these modules
NAMES = {
    "attn_norm": "norm1",
    "attn.qkv_proj": "attention.qkv",
    "attn.o_proj": "attention.out",
    "mlp_norm": "norm2",
    "mlp.up_proj": "feed_forward.up",
    "mlp.down_proj": "feed_forward.down",
    "final_norm": "norm",
    "pos_embed.weight": "positions",
    "tok_embed": "tokens",
}


class Encoder(nn.Module):
    """Images (B, height, width, channels), uint8, to rows (B, P, C)."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        blocks = config.blocks()
        self.patch = nn.Conv2d(config.channels, config.d_model, config.patch_size, config.patch_size, bias=config.bias)
        self.class_token = nn.Parameter(torch.zeros(config.d_model)) if config.class_token else None
        self.positions = nn.Parameter(torch.zeros(config.rows, config.d_model))
        self.blocks = nn.ModuleList(Block(blocks, causal=False) for _ in range(config.n_layer))
        self.norm = norm(blocks)
        for name, values in (("mean", config.image_mean), ("std", config.image_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, images):
        x = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Classifier(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.encoder = Encoder(config)
        self.classifier = nn.Linear(config.d_model, config.num_classes)
        self.config = config

    def forward(self, images, labels):
        rows = self.encoder(images)
        seen = rows[:, 0] if self.config.pool == "class" else rows[:, int(self.config.class_token) :].mean(1)
        return F.cross_entropy(self.classifier(seen), labels)


class Captioner(nn.Module):
    """With the picture's rows as a prefix, which all rows see."""

    def __init__(self, config: CaptionerConfig):
        super().__init__()
        decoder, rows = config.decoder, config.encoder.rows
        self.encoder = Encoder(config.encoder)
        self.projection = nn.Linear(config.encoder.d_model, config.projected, bias=config.encoder.bias)
        self.tokens = nn.Embedding(decoder.vocab_size, decoder.d_model)
        self.positions = nn.Parameter(torch.zeros(decoder.context_length, decoder.d_model))
        self.blocks = nn.ModuleList(Block(decoder, causal=False) for _ in range(decoder.n_layer))
        self.norm = norm(decoder)
        self.head = nn.Linear(decoder.d_model, decoder.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        at = torch.arange(rows + decoder.context_length)
        self.register_buffer("mask", (at[None] <= at[:, None]) | (at[None] < rows))

    def forward(self, ids, targets, images):
        seen = self.projection(self.encoder(images))
        x = torch.cat([seen, self.tokens(ids) + self.positions], 1)
        for block in self.blocks:
            x = block(x, mask=self.mask)
        logits = self.head(self.norm(x[:, seen.shape[1] :]))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def build(config: CaptionerConfig | VisionConfig) -> nn.Module:
    return (Captioner if isinstance(config, CaptionerConfig) else Classifier)(config)


def place(name: str, classifies: bool) -> str:
    """Where a weight of LoopOS's stands in these modules."""
    if classifies:
        name = name if name.startswith("classifier") else f"encoder.{name}"
    name = name.removeprefix("decoder.").replace("encoder.projection", "projection")
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


@torch.no_grad()
def take(model: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Copies LoopOS's weights. ValueError where the two models have not the same ones."""
    given = dict(model.named_parameters())
    for name in weights:
        parameter, value = given.pop(place(name, isinstance(model, Classifier)), None), torch.from_numpy(weights[name])
        if parameter is None:
            raise ValueError(f"the model in PyTorch has no {name}")
        if parameter.dim() == 4:  # the numbers of a patch have their channels last
            _, channels, height, width = parameter.shape
            value = value.view(-1, height, width, channels).permute(0, 3, 1, 2)
        parameter.copy_(value)
    if given:
        raise ValueError(f"LoopOS's model has no {', '.join(given)}")
