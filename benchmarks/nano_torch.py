"""nanoGPT's CPU setting as a straightforward PyTorch program: the thing to be compared with.

Written the way PyTorch's own tutorials would: nn.Module, F.scaled_dot_product_attention, fused AdamW, clip_grad_norm_.
Prints one JSON line with the wall time of training, of evaluation, and the loss over the whole held-out tenth.

    python benchmarks/nano_torch.py input.txt --threads 2
"""

from __future__ import annotations

import json
import math
import time

import nano_setting as setting
import torch
import torch.nn as nn
import torch.nn.functional as F


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(setting.WIDTH, 3 * setting.WIDTH)
        self.proj = nn.Linear(setting.WIDTH, setting.WIDTH)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=2)
        q, k, v = (t.view(B, T, setting.N_HEAD, C // setting.N_HEAD).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(setting.WIDTH), Attention()
        self.norm2 = nn.LayerNorm(setting.WIDTH)
        self.fc = nn.Linear(setting.WIDTH, 4 * setting.WIDTH)
        self.proj = nn.Linear(4 * setting.WIDTH, setting.WIDTH)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.proj(F.gelu(self.fc(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, setting.WIDTH)
        self.positions = nn.Embedding(setting.BLOCK, setting.WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(setting.N_LAYER)))
        self.norm = nn.LayerNorm(setting.WIDTH)
        self.head = nn.Linear(setting.WIDTH, vocab_size, bias=False)
        self.apply(self._init)
        for name, parameter in self.named_parameters():
            if name.endswith("proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * setting.N_LAYER))
        self.head.weight = self.tokens.weight

    @staticmethod
    def _init(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        logits = self.head(self.norm(self.blocks(x)))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def learning_rate(step: int, steps: int) -> float:
    if step < setting.WARMUP:
        return setting.LEARNING_RATE * (step + 1) / setting.WARMUP
    progress = (step - setting.WARMUP) / max(1, steps - setting.WARMUP)
    return setting.MIN_LR + (setting.LEARNING_RATE - setting.MIN_LR) * (1 + math.cos(math.pi * progress)) / 2


def main():
    args = setting.arguments(__doc__.splitlines()[0])
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train_ids, held_out, vocab_size = setting.characters(args.text)
    data = torch.from_numpy(train_ids)
    model = GPT(vocab_size)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": setting.WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=setting.LEARNING_RATE, betas=setting.BETAS, eps=setting.EPS, fused=True)

    start = time.perf_counter()
    model.train()
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        at = torch.randint(len(data) - setting.BLOCK, (setting.BATCH,))
        ids = torch.stack([data[i : i + setting.BLOCK] for i in at])
        targets = torch.stack([data[i + 1 : i + 1 + setting.BLOCK] for i in at])
        loss = model(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), setting.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    trained = time.perf_counter()

    model.eval()
    total = count = 0
    with torch.no_grad():
        for ids, targets in setting.held_out_windows(held_out):
            total += model(torch.from_numpy(ids), torch.from_numpy(targets)).item() * targets.size
            count += targets.size
    result = {
        "engine": f"torch {torch.__version__}",
        "threads": args.threads,
        "steps": args.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds": round(trained - start, 3),
        "eval_seconds": round(time.perf_counter() - trained, 3),
        "train_loss": loss.item(),
        "eval_loss": total / count,
        "eval_tokens": count,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
