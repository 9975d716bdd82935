"""PyTorch's own examples, made again and small. Each function gives a healthy program."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .layers import VAE, Causal, Convolutional, Recurrent, Residual, Translator, Vision
from .program import Program


def classify(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def next_token(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def pictures(channels: int = 1, rows: int = 8, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, channels, 8, 8), torch.randint(0, classes, (rows,))


def tokens(rows: int = 6, length: int = 8, vocab: int = 20) -> torch.Tensor:
    return torch.randint(1, vocab, (rows, length))


def mnist() -> Program:
    model = Convolutional()
    return Program(
        model, torch.optim.Adadelta(model.parameters(), 0.5), pictures(), lambda m, b: F.nll_loss(m(b[0]), b[1])
    )


def mnist_rnn() -> Program:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.norm = nn.LSTM(8, 12, batch_first=True), nn.BatchNorm1d(12)
            self.drop, self.fc = nn.Dropout(0.25), nn.Linear(12, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output, _ = self.rnn(x[:, 0])
            return self.fc(self.drop(self.norm(output[:, -1])))

    model = Rows()
    return Program(model, torch.optim.Adadelta(model.parameters(), 0.1), pictures(), classify)


def vae() -> Program:
    model = VAE()

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        made, mean, logvar = model(x)
        kld = -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
        return F.binary_cross_entropy(made, x, reduction="sum") + kld

    return Program(model, torch.optim.Adam(model.parameters(), 1e-3), torch.rand(8, 20), loss)


def dcgan() -> Program:
    """Two networks, two optimizers, both losses; the doctor looks at the discriminator."""
    generator = nn.Sequential(
        nn.ConvTranspose2d(4, 8, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(True),
        nn.ConvTranspose2d(8, 1, 4, 3),
        nn.Tanh(),
    )
    judge = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2, True), nn.Conv2d(8, 1, 3), nn.Flatten()
    )
    of_generator = torch.optim.Adam(generator.parameters(), 2e-4, betas=(0.5, 0.999))
    of_judge = torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
    batch = torch.rand(6, 1, 7, 7) * 2 - 1

    def loss(judge: nn.Module, real: torch.Tensor) -> torch.Tensor:
        made = generator(torch.randn(6, 4, 1, 1)).detach()
        bce = F.binary_cross_entropy_with_logits
        one, two = judge(real), judge(made)
        return bce(one, torch.ones_like(one)) + bce(two, torch.zeros_like(two))

    def step() -> torch.Tensor:
        of_judge.zero_grad()
        loss(judge, batch).backward()
        of_judge.step()
        of_generator.zero_grad()
        out = judge(generator(torch.randn(6, 4, 1, 1)))
        wanted = F.binary_cross_entropy_with_logits(out, torch.ones_like(out))
        wanted.backward()
        of_generator.step()
        return wanted

    return Program(judge, of_judge, batch, loss, step)


def _language(kind: str) -> Program:
    model = Recurrent(kind)

    def loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        return next_token(model, ids)

    program = Program(model, torch.optim.SGD(model.parameters(), 0.5), tokens(), loss)

    def step() -> torch.Tensor:
        program.optimizer.zero_grad()
        value = loss(model, program.batch)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        program.optimizer.step()
        return value

    program.step = step
    return program


def language_lstm() -> Program:
    return _language("LSTM")


def language_gru() -> Program:
    return _language("GRU")


def language_rnn() -> Program:
    return _language("RNN")


def language_transformer() -> Program:
    model = Causal()
    return Program(model, torch.optim.AdamW(model.parameters(), 1e-3), tokens(), next_token)


def translation() -> Program:
    model = Translator()
    source = tokens()
    source[:2, -3:] = 0
    batch = (source, tokens())

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        logits = model(batch[0], batch[1][:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[1][:, 1:].flatten(), ignore_index=0)

    return Program(model, torch.optim.Adam(model.parameters(), 1e-3, betas=(0.9, 0.98), eps=1e-9), batch, loss)


def imagenet() -> Program:
    model = Residual()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    program = Program(model, optimizer, pictures(3), classify)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 30)

    def step() -> torch.Tensor:
        loss = program.plain_step()
        scheduler.step()
        return loss

    program.step, program.more = step, {"scheduler": scheduler}
    return program


def super_resolution() -> Program:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip
    batch = torch.rand(4, 1, 6, 6), torch.rand(4, 1, 12, 12)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Program(model, optimizer, batch, lambda m, b: F.mse_loss(m(b[0]), b[1]))


def style() -> Program:
    """Instance norms, reflection padding, upsampling, and Gram matrices in the loss."""
    model = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(6, 3, 3),
    )  # fmt: skip
    batch = torch.rand(4, 3, 6, 6), torch.rand(4, 3, 12, 12)

    def gram(x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(2)
        return rows @ rows.transpose(1, 2) / rows[0].numel()

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        made = model(batch[0])
        return F.mse_loss(made, batch[1]) + 10 * F.mse_loss(gram(made), gram(batch[1]))

    return Program(model, torch.optim.Adam(model.parameters(), 1e-3), batch, loss)


def _policy(critic: bool) -> Program:
    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.affine, self.action, self.value = nn.Linear(4, 16), nn.Linear(16, 2), nn.Linear(16, 1)
            if not critic:
                del self.value

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = F.relu(self.affine(x))
            return F.softmax(self.action(h), -1), self.value(h)[:, 0] if critic else h[:, 0]

    model = Policy()
    batch = torch.randn(16, 4), torch.randn(16)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        chances, value = model(batch[0])
        drawn = torch.distributions.Categorical(chances)
        action = drawn.sample()
        gain = batch[1] - value.detach() if critic else batch[1]
        lost = -(drawn.log_prob(action) * gain).sum()
        return lost + F.smooth_l1_loss(value, batch[1]) if critic else lost

    return Program(model, torch.optim.Adam(model.parameters(), 1e-2), batch, loss)


def reinforce() -> Program:
    return _policy(False)


def actor_critic() -> Program:
    return _policy(True)


def time_sequence() -> Program:
    """Two LSTM cells, float64, LBFGS with its closure."""

    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.linear = nn.LSTMCell(1, 6), nn.LSTMCell(6, 6), nn.Linear(6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = [x.new_zeros(len(x), 6) for _ in range(4)]
            out = []
            for now in x.split(1, dim=1):
                state[0], state[1] = self.one(now, (state[0], state[1]))
                state[2], state[3] = self.two(state[0], (state[2], state[3]))
                out.append(self.linear(state[2]))
            return torch.cat(out, 1)

    model = Sequence().double()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.5, max_iter=4)
    wave = torch.sin(torch.arange(12).double() / 3 + torch.rand(4, 1).double())
    batch = wave[:, :-1], wave[:, 1:]

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    def step() -> Any:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            return value

        return optimizer.step(closure)

    return Program(model, optimizer, batch, loss, step)


def siamese() -> Program:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
            self.head = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 1))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.head(torch.cat([self.body(a).flatten(1), self.body(b).flatten(1)], 1)))[:, 0]

    model = Pair()
    batch = torch.randn(8, 1, 8, 8), torch.randn(8, 1, 8, 8), torch.randint(0, 2, (8,)).float()
    optimizer = torch.optim.Adadelta(model.parameters())
    return Program(model, optimizer, batch, lambda m, b: F.binary_cross_entropy(m(b[0], b[1]), b[2]))


def _graph() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    links = (torch.rand(10, 10) < 0.3).float()
    links = ((links + links.t() + torch.eye(10)) > 0).float()
    return torch.rand(10, 6), links, torch.randint(0, 3, (10,))


def gcn() -> Program:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)

        def forward(self, x: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
            scaled = links / links.sum(1, keepdim=True)
            return F.log_softmax(scaled @ self.two(F.dropout(F.relu(scaled @ self.one(x)), 0.5, self.training)), 1)

    model, batch = Graph(), _graph()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=5e-4)
    return Program(model, optimizer, batch, lambda m, b: F.nll_loss(m(b[0], b[1]), b[2]))


def gat() -> Program:
    """Attention over neighbours: scores of the others are -inf."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.a, self.b, self.out = nn.Linear(6, 8), nn.Linear(8, 1), nn.Linear(8, 1), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
            h = self.w(x)
            scores = F.leaky_relu(self.a(h) + self.b(h).t(), 0.2).masked_fill(links == 0, float("-inf"))
            return self.out(F.elu(F.dropout(scores.softmax(1), 0.2, self.training) @ h))

    model, batch = Attention(), _graph()
    return Program(
        model, torch.optim.Adam(model.parameters(), 5e-3), batch, lambda m, b: F.cross_entropy(m(b[0], b[1]), b[2])
    )


def regression() -> Program:
    model = nn.Linear(4, 1)
    x = torch.randn(32, 1)
    powers = torch.cat([x**p for p in range(1, 5)], 1)
    batch = powers, powers @ torch.randn(4, 1) + 0.1
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    return Program(model, optimizer, batch, lambda m, b: F.smooth_l1_loss(m(b[0]), b[1]))


def inference() -> Program:
    """Premise and hypothesis through one LSTM, and a classifier."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Embedding(20, 8), nn.LSTM(8, 8, bidirectional=True, batch_first=True)
            self.out = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            p, h = (self.lstm(self.embed(each))[0].mean(1) for each in (a, b))
            return self.out(torch.cat([p, h, (p - h).abs(), p * h], 1))

    model = Two()
    batch = tokens(), tokens(), torch.randint(0, 3, (6,))
    return Program(
        model, torch.optim.Adam(model.parameters(), 1e-3), batch, lambda m, b: F.cross_entropy(m(b[0], b[1]), b[2])
    )


def vision_transformer() -> Program:
    model = Vision()
    return Program(model, torch.optim.AdamW(model.parameters(), 1e-3), pictures(), classify)


def forward_forward() -> Program:
    """Layers with losses and optimizers of their own."""
    layers = nn.ModuleList(nn.Linear(8, 16) if not at else nn.Linear(16, 16) for at in range(2))
    optimizers = [torch.optim.Adam(layer.parameters(), 1e-2) for layer in layers]
    batch = torch.randn(12, 8), torch.randn(12, 8)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            found = []
            for layer in self.layers:
                x = F.relu(layer(F.normalize(x.detach(), dim=1)))
                found.append(x.pow(2).mean(1))
            return found

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        good, bad = model(batch[0]), model(batch[1])
        return sum(F.softplus(torch.cat([1 - p, n - 1])).mean() for p, n in zip(good, bad, strict=True))

    return Program(Net(), optimizers, batch, loss)


EXAMPLES = (
    mnist, mnist_rnn, vae, dcgan, language_lstm, language_gru, language_rnn, language_transformer, translation,
    imagenet, super_resolution, style, reinforce, actor_critic, time_sequence, siamese, gcn, gat, regression,
    inference, vision_transformer, forward_forward,
)  # fmt: skip
