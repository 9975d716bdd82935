"""The five cases as the PyTorch programs that their documents describe: each is caught, told rightly, and mended."""

from __future__ import annotations

import math
import warnings

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


def born(model, optimizer, loss_fn):
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as caught:
        watch.step(loss_fn)
    return caught.value.birth


def trains(model, optimizer, loss_fn, steps=20):
    """The losses of a watched training in which nothing is caught."""
    with loopos.watch(model, optimizer) as watch:
        losses = [float(watch.step(loss_fn)) for _ in range(steps)]
        assert not watch.births
    return losses


class Captioner(nn.Module):
    """Case 0: pictures and a softmax by hand, exp(x) / (sum + eps), without the row's maximum."""

    def __init__(self, naive):
        super().__init__()
        self.naive = naive
        self.picture, self.norm, self.head = nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 12)

    def loss(self, pictures, words):
        logits = self.head(self.norm(self.picture(pictures)))
        if not self.naive:
            return F.cross_entropy(logits, words)
        e = torch.exp(logits)
        return -torch.log(e.gather(1, words[:, None])[:, 0] / (e.sum(1) + 1e-8)).mean()


@pytest.mark.parametrize("clamp", [None, 100.0])
def test_case_0_the_softmax_overflows_in_float32_too_and_a_clamp_to_100_does_not_help(clamp):
    torch.manual_seed(0)
    model = Captioner(naive=True)
    model.norm.weight.data.fill_(64.0)  # logits of hundreds, as the document's 192.8
    model.norm.bias.data.zero_()
    if clamp:
        model.head.register_forward_hook(lambda _, __, y: y.clamp(-clamp, clamp))
    pictures, words = torch.randn(6, 16), torch.randint(0, 12, (6,))
    with torch.no_grad():
        model.head.weight.mul_(8)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    birth = born(model, optimizer, lambda: model.loss(pictures, words))
    assert birth.op == "aten.exp"
    assert birth.cause_class == "exp overflow"
    assert "maximum" in birth.advice
    model.naive = False  # the repair: log-softmax, which subtracts the maximum; rate and precision stay
    losses = trains(model, optimizer, lambda: model.loss(pictures, words))
    assert losses[-1] < losses[0]


def test_case_1_a_loss_of_a_batch_whose_labels_are_all_masked():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))
    optimizer = torch.optim.AdamW(model.parameters(), 1.8e-4)
    ids = torch.randint(0, 20, (2, 6))
    masked = torch.full_like(ids, -100)  # the prompt filled the whole window

    def loss(labels):
        return F.cross_entropy(model(ids).flatten(0, 1), labels.flatten())

    birth = born(model, optimizer, lambda: loss(masked))
    assert birth.op == "aten.nll_loss_forward"
    assert birth.cause_class == "0/0"
    report = loopos.watch.doctor(
        model, optimizer, {"input_ids": ids, "labels": masked},
        lambda m, b: F.cross_entropy(m(b["input_ids"]).flatten(0, 1), b["labels"].flatten()),
    )  # fmt: skip
    assert "every label is masked" in str(report["labels"])
    labels = masked.clone()
    labels[:, 4:] = ids[:, 4:]
    losses = trains(model, optimizer, lambda: loss(labels))
    assert losses[-1] < losses[0]


def test_case_1_what_the_log_said_was_not_the_loss():
    """nan_to_num in the logging made 0.0 of it; the watch has the true number."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with loopos.watch(model, optimizer, policy="skip") as watch:
        logged = torch.nan_to_num(watch.step(lambda: model(torch.ones(1, 2)).sum() * float("nan")), nan=0.0)
        assert float(logged) == 0.0
        assert math.isnan(watch.loss)
        assert watch.skipped == 1


def test_case_2_a_program_that_never_updates():
    """Forward and a loss, and the rate is thrown away: the doctor says it before the first epoch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    ids = torch.randint(0, 20, (2, 6))

    def loss_fn(model, ids):
        return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    def step():  # train_step_with_metrics: "in a real implementation, this would ..."
        with torch.no_grad():
            return loss_fn(model, ids)

    report = loopos.watch.doctor(model, optimizer, ids, loss_fn, step=step)
    assert "never called" in str(report["loop updates"])
    assert report["initial loss"].verdict == "ok"  # near ln V: the forward pass is right

    def mended():
        optimizer.zero_grad()
        loss = loss_fn(model, ids)
        loss.backward()
        optimizer.step()

    assert loopos.watch.doctor(model, optimizer, ids, loss_fn, step=mended).ok


def test_case_2_minus_nan_of_a_row_that_is_masked_whole():
    x = nn.Parameter(torch.zeros(2, 3))
    model = nn.ParameterList([x])
    mask = torch.tensor([[0.0, 0.0, 0.0], [-math.inf] * 3])
    birth = born(model, torch.optim.SGD([x], 0.1), lambda: (x + mask).softmax(-1).sum())
    assert birth.cause_class == "all-masked row"
    assert birth.index[0] == 1


class Modulated(nn.Module):
    """Case 3: a frozen layer, and a low-rank adapter that multiplies and adds."""

    def __init__(self, gate):
        super().__init__()
        self.gate, self.base = gate, nn.Linear(8, 8)
        self.base.requires_grad_(False)
        self.a = nn.Linear(8, 2, bias=False)
        self.b_add, self.b_mult = nn.Linear(2, 8, bias=False), nn.Linear(2, 8, bias=False)
        nn.init.normal_(self.a.weight, std=0.02)
        nn.init.zeros_(self.b_mult.weight)
        nn.init.normal_(self.b_add.weight, std=0.001)

    def forward(self, x):
        low = self.a(x)
        return self.base(x * self.gate(self.b_mult(low)) + 0.1 * self.b_add(low))


def test_case_3_a_normalised_loss_without_eps_and_the_gate_of_the_document():
    torch.manual_seed(0)
    document = Modulated(lambda z: 0.5 * torch.sigmoid(z) + 0.5)
    x = torch.randn(4, 8)
    assert not torch.allclose(document(x), document.base(x), rtol=0.05)  # "no initial effect" is 0.75 there
    model = Modulated(lambda z: 0.5 + torch.sigmoid(z))
    assert torch.allclose(model(x), model.base(x), atol=1e-3)
    teacher = torch.zeros(4, 8)  # a row of padding: nothing to normalise by

    def loss(eps):
        return ((model(x) - teacher).square().sum(1) / (teacher.square().sum(1) + eps)).mean()

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 5e-5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    birth = born(model, optimizer, lambda: loss(0.0))
    assert birth.op == "aten.div"
    assert birth.cause_class == "x/0"
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    losses = trains(model, optimizer, lambda: loss(1e-2))
    assert losses[-1] < losses[0]


def test_case_3_skipping_without_a_budget_hides_a_run_of_nothing_but_nan():
    model = Modulated(lambda z: 0.5 + torch.sigmoid(z))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 5e-5)

    def many(watch):
        for _ in range(10):
            watch.step(lambda: model(torch.full((2, 8), math.nan)).sum())

    with loopos.watch(model, optimizer, policy="skip") as watch, pytest.raises(loopos.NonFiniteError, match="in a row"):
        many(watch)
    assert watch.skipped == 3


def blended(a, pred, beta, floor, normalise):
    """Case 4's train.py: R_samp as it was, the blend, its trace brought to N with clamp_min(floor)."""
    n = a.shape[-1]
    centred = a - a.mean(dim=1, keepdim=True)
    samples = (centred.conj().transpose(-1, -2) @ centred) / max(a.shape[1] - 1, 1)
    if normalise:
        samples = samples * (n / torch.diagonal(samples, dim1=-2, dim2=-1).real.sum(-1)).view(-1, 1, 1)
    r = (1 - beta) * pred + beta * samples.detach()
    r = 0.5 * (r + r.conj().transpose(-1, -2))
    if floor is not None:
        trace = torch.diagonal(r, dim1=-2, dim2=-1).real.sum(-1).clamp_min(floor)
        r = r * (n / trace).view(-1, 1, 1)
    return r + 1e-3 * torch.eye(n)


class Predicts(nn.Module):
    def __init__(self, sensors, definite):
        super().__init__()
        self.definite, self.sensors = definite, sensors
        self.net = nn.Linear(4, 2 * sensors * sensors)

    def forward(self, x):
        n = self.sensors
        entries = torch.view_as_complex(self.net(x).view(-1, n, n, 2))
        if not self.definite:
            return entries + entries.mH  # Hermitian, and of any sign
        r = entries @ entries.mH
        return r * (n / torch.diagonal(r, dim1=-2, dim2=-1).real.sum(-1)).view(-1, 1, 1)


def test_case_4_a_floor_that_fires_makes_a_loss_of_1e20_that_is_finite():
    torch.manual_seed(1)
    n = 12
    model = Predicts(n, definite=False)
    with torch.no_grad():
        model.net.bias.view(n, n, 2)[range(n), range(n), 0] -= 1.0  # a negative trace
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    a = 1e-3 * torch.randn(3, 8, n, dtype=torch.complex64)
    truth = n * torch.eye(n).to(torch.complex64).expand(3, n, n) / n
    x = torch.randn(3, 4)

    def loss(model, floor=1e-9, normalise=False):
        return (blended(a, model(x), 0.6, floor, normalise) - truth).abs().square().sum((-1, -2)).mean()

    value = float(loss(model).detach())
    assert math.isfinite(value)  # "Loss is finite" passed
    assert value > 1e18
    report = loopos.watch.doctor(model, optimizer, x, lambda m, b: loss(m))
    assert report["loss"].verdict == "fail"
    assert "floor" in report["loss"].advice
    assert "test_cases.py" in report["loss"].advice
    model.definite = (
        True  # the repair: a factor, so that the trace is positive, and the samples' own trace brought to N
    )
    losses = trains(model, optimizer, lambda: loss(model, None, True))
    assert losses[-1] < losses[0] < 1e4


def test_case_4_scaled_once_more_it_is_caught_with_its_element():
    torch.manual_seed(1)
    model = Predicts(6, definite=False)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    a, x = 1e-3 * torch.randn(3, 8, 6, dtype=torch.complex64), torch.randn(3, 4)
    with torch.no_grad():
        model.net.bias.view(6, 6, 2)[range(6), range(6), 0] -= 3.0

    def loss():
        return blended(a, model(x), 0.6, 1e-30, False).abs().square().sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        birth = born(model, optimizer, loss)
    assert birth.cause_class in ("product overflow", "sum overflow")
    assert birth.source.rpartition("/")[2].startswith("test_cases.py")
