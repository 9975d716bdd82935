"""Small modules that several programs here share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Convolutional(nn.Module):
    """The network of PyTorch's example about digits, smaller."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(32, 16), nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = self.dropout1(F.max_pool2d(x, 2)).flatten(1)
        return F.log_softmax(self.fc2(self.dropout2(F.relu(self.fc1(x)))), 1)


class Residual(nn.Module):
    """A small residual network with batch norm."""

    def __init__(self, classes: int = 5, norm=nn.BatchNorm2d):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(norm(8) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norms[0](self.stem(x)), inplace=True)
        y = F.relu(self.norms[1](self.convs[0](x)), inplace=True)
        y = self.norms[2](self.convs[1](y))
        y += x
        return self.head(F.relu(y).mean((2, 3)))


class Recurrent(nn.Module):
    """A language model of PyTorch's example: LSTM, GRU or RNN, with its head tied to the embedding."""

    def __init__(self, kind: str = "LSTM", vocab: int = 20, width: int = 12, tie: bool = True):
        super().__init__()
        self.drop, self.encoder = nn.Dropout(0.2), nn.Embedding(vocab, width)
        self.rnn = getattr(nn, kind)(width, width, 2, dropout=0.2, batch_first=True)
        self.decoder = nn.Linear(width, vocab)
        if tie:
            self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        output, _ = self.rnn(self.drop(self.encoder(ids)))
        return self.decoder(self.drop(output))


class Causal(nn.Module):
    """A language model of nn.TransformerEncoder with a mask of -inf above the diagonal."""

    def __init__(self, vocab: int = 20, width: int = 16, length: int = 8):
        super().__init__()
        self.embed, self.position = nn.Embedding(vocab, width), nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 2, 32, 0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocab)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.head(self.encoder(self.embed(ids) + self.position[:length], mask, is_causal=True))


class Translator(nn.Module):
    """nn.Transformer with masks of padding and of the future."""

    def __init__(self, vocab: int = 20, width: int = 16):
        super().__init__()
        self.source, self.target = nn.Embedding(vocab, width), nn.Embedding(vocab, width)
        self.transformer = nn.Transformer(width, 2, 1, 1, 32, 0.1, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        padding = torch.zeros(source.shape).masked_fill(source == 0, float("-inf"))
        out = self.transformer(
            self.source(source),
            self.target(target),
            tgt_mask=mask,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.head(out)


class VAE(nn.Module):
    def __init__(self, width: int = 20, latent: int = 4):
        super().__init__()
        self.fc1, self.mean, self.logvar = nn.Linear(width, 16), nn.Linear(16, latent), nn.Linear(16, latent)
        self.fc3, self.fc4 = nn.Linear(latent, 16), nn.Linear(16, width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = F.relu(self.fc1(x))
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mean, logvar


class Heads(nn.Module):
    """Attention by hand, with its scores masked by -inf and a softmax."""

    def __init__(self, width: int = 12, heads: int = 2):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))


class Vision(nn.Module):
    """A small vision transformer: patches, a class token, attention by hand."""

    def __init__(self, classes: int = 5, width: int = 12):
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.token, self.position = (
            nn.Parameter(torch.zeros(1, 1, width)),
            nn.Parameter(0.02 * torch.randn(1, 5, width)),
        )
        self.norm1, self.norm2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Heads(width)
        self.mlp = nn.Sequential(nn.Linear(width, 24), nn.GELU(), nn.Linear(24, width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        x = x + self.attention(self.norm1(x))
        return self.head((x + self.mlp(self.norm2(x)))[:, 0])


class Covariance(nn.Module):
    """Complex covariance: snapshots to R_pred, a blend with the samples' own matrix, a normalised trace, loading."""

    def __init__(self, sensors: int = 4, snapshots: int = 8):
        super().__init__()
        self.sensors = sensors
        self.net = nn.Sequential(
            nn.Linear(2 * sensors * snapshots, 32), nn.GELU(), nn.Linear(32, 2 * sensors * sensors)
        )
        self.beta = nn.Parameter(torch.tensor(0.0))

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        n = self.sensors
        rows = torch.view_as_real(a).flatten(1)
        factor = torch.view_as_complex(self.net(rows).view(-1, n, n, 2))
        pred = factor @ factor.mH + 0.01 * torch.eye(n)
        samples = a.mH @ a / a.shape[1]
        beta = torch.sigmoid(self.beta)
        return (1 - beta) * _to_trace(pred, n) + beta * _to_trace(samples, n).detach() + 1e-3 * torch.eye(n)


def _to_trace(r: torch.Tensor, n: int) -> torch.Tensor:
    r = 0.5 * (r + r.mH)
    trace = torch.diagonal(r, dim1=-2, dim2=-1).real.sum(-1).clamp_min(1e-9)
    return r * (n / trace).view(-1, 1, 1)
