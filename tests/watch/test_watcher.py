"""A watched program: what is told of a number that is not finite, and that nothing else changes."""

from __future__ import annotations

import math
import warnings

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")
F = torch.nn.functional


class Net(torch.nn.Module):
    """A linear layer, a function, a linear layer."""

    def __init__(self, between):
        super().__init__()
        self.first, self.between, self.last = torch.nn.Linear(4, 8), between, torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


def parts(between=torch.relu, seed=0, rule=torch.optim.AdamW):
    torch.manual_seed(seed)
    model = Net(between)
    return model, rule(model.parameters(), lr=1e-3), torch.randn(2, 4), torch.tensor([0, 1])


def loss_of(model, x, targets):
    return F.cross_entropy(model(x), targets)


def caught(between, **more):
    model, optimizer, x, targets = parts(between, **more)
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: loss_of(model, x, targets))
    return error.value


FORWARD = {
    "exp": (lambda h: (h * 1e3).exp(), "exp", "exp overflow"),
    "exp in place": (lambda h: (h * 1e3).exp_(), "exp_", "exp overflow"),
    "log": (lambda h: h.relu().log(), "log", "log 0"),
    "log of a negative": (lambda h: (h - 9).log(), "log", "outside the domain"),
    "root": (lambda h: (h - 9).sqrt(), "sqrt", "negative root"),
    "power": (lambda h: (h - 9).pow(0.5), "pow", "negative root"),
    "x/0": (lambda h: (h + 9) / (h - h), "div", "x/0"),
    "0/0": (lambda h: (h - h) / (h - h), "div", "0/0"),
    "a standard deviation of one": (lambda h: h / h[:, :1].std(-1, keepdim=True, correction=0), "div", "x/0"),
    "products": (lambda h: (h * 1e30) @ (h.T * 1e30) @ h, "mm", "product overflow"),
    "a sum": (lambda h: (h.sigmoid() * 3e38).sum(-1, keepdim=True) + h, "sum", "sum overflow"),
    "a cast": (lambda h: (h * 1e6).half().float(), "_to_copy", "cast overflow"),
    "all masked": (
        lambda h: h.masked_fill(torch.ones_like(h, dtype=torch.bool), -math.inf).softmax(-1),
        "_softmax",
        "all-masked row",
    ),
    "the greatest of what is all masked": (
        lambda h: h.masked_fill(torch.ones_like(h, dtype=torch.bool), -math.inf).amax(-1, keepdim=True) + h,
        "amax",
        "all-masked row",
    ),
    "a negative variance": (
        lambda h: F.batch_norm(h, torch.zeros(8), torch.full((8,), -1.0)),
        "native_batch_norm",
        "negative root",
    ),
    "a target longer than its input": (
        lambda h: (
            h
            + F.ctc_loss(
                h[None].log_softmax(-1),
                torch.tensor([[1], [2]]).expand(2, 3),
                torch.tensor([1, 1]),
                torch.tensor([3, 3]),
            )
        ),
        "_ctc_loss",
        "log 0",
    ),
    "a mask times infinity": (lambda h: h.masked_fill(torch.arange(8) > 4, -math.inf) * 0, "mul", "0*inf"),
    "a legal mask before it": (
        lambda h: h.masked_fill(torch.arange(8) > 4, -math.inf).softmax(-1) * (h * 1e3).exp(),
        "exp",
        "exp overflow",
    ),
    "no eps": (lambda h: F.layer_norm(h * 0, (8,), eps=0), "native_layer_norm", "0/0"),
    "written": (lambda h: torch.cat([h[:, 1:], torch.full((2, 1), math.nan)], 1), "full", "input not finite"),
}


@pytest.mark.parametrize("fault", FORWARD)
def test_forward_births(fault):
    between, op, cause = FORWARD[fault]
    error = caught(between)
    birth = error.birth
    assert (birth.op, birth.cause_class, birth.phase, birth.step) == (f"aten.{op}", cause, "forward", 1), str(error)
    assert birth.module == "Net"
    assert birth.layer is None
    assert birth.source.startswith(__file__)
    assert not math.isfinite(birth.value)
    assert str(birth) in str(error)


def test_the_element_and_its_operands():
    """The first linear gives numbers that are known: the third of the second row is the only one beyond exp."""

    def between(h):
        scores = torch.zeros_like(h)
        scores[1, 2] = 100
        return (h * 0 + scores).exp()

    birth = caught(between).birth
    assert birth.index == (1, 2)
    assert birth.value == math.inf
    assert birth.operands["self"] == 100


BACKWARD = {
    "root of 0": (lambda h: (h - h).abs().sqrt(), "div", "x/0", "SqrtBackward0"),
    "an untaken branch": (lambda h: torch.where(h > 9, h.log(), (h - h).abs().sqrt() * 0 + h), "div", "0/0", ""),
}


@pytest.mark.parametrize("fault", BACKWARD)
def test_backward_births(fault):
    between, op, cause, node = BACKWARD[fault]
    birth = caught(between).birth
    assert (birth.op, birth.phase, birth.cause_class) == (f"aten.{op}", "backward", cause)
    assert birth.module == "Net"
    assert birth.source.startswith(__file__)
    assert node in birth.place


HEALTHY = {
    "plain": torch.relu,
    "a mask": lambda h: h.masked_fill(torch.arange(8) > 4, -math.inf).softmax(-1),
    "an untaken branch": lambda h: torch.where(h > -9, h, (h.detach() - 9).log()),
    "a NaN that reaches no output": lambda h: torch.cat([h, (h.detach() - 9).log()], 1)[:, :8],
    "squares that overflow": lambda h: h * 1e-30,
}


@pytest.mark.parametrize("program", HEALTHY)
@pytest.mark.parametrize("policy", ["halt", "skip", "warn"])
def test_no_alarm_and_the_same_bits(program, policy):
    ends = []
    for watched in (False, True):
        model, optimizer, x, targets = parts(HEALTHY[program])
        watch = loopos.watch(model, optimizer, policy=policy) if watched else None
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, x, targets).backward()
            optimizer.step()
        if watched:
            assert (watch.steps, watch.births) == (3, [])
            watch.close()
        ends.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_gradients_whose_squares_overflow_are_no_hit():
    model, optimizer, x, targets = parts(rule=torch.optim.SGD)
    with loopos.watch(model, optimizer) as watch:
        watch.step(lambda: loss_of(model, x, targets) * 1e30)
    assert 1e20 < watch.grad_norm < math.inf


def test_a_loop_of_ones_own_shows_its_loss():
    model, optimizer, x, targets = parts()
    with loopos.watch(model, optimizer) as watch:
        loss = loss_of(model, x, targets)
        loss.backward()
        optimizer.step()
    assert watch.loss == loss.item()


def test_a_loss_that_alone_is_not_finite():
    model, optimizer, x, targets = parts()
    with loopos.watch(model, optimizer):
        (loss_of(model, x, targets) + (x - x).sum().log()).backward()
        with pytest.raises(loopos.NonFiniteError, match=r"watch\.step") as error:
            optimizer.step()
    assert (error.value.birth.op, error.value.birth.value) == ("loss", -math.inf)


def state(model, optimizer):
    held = [tensor for slots in optimizer.state.values() for tensor in slots.values()]
    return [tensor.clone() for tensor in [*model.parameters(), *model.buffers(), *held]]


def poisoned_at(step, policy, steps=4, normed=False):
    """A program whose third batch is bad, with its scheduler; what is left of each step."""
    torch.manual_seed(0)
    middle = torch.nn.BatchNorm1d(8) if normed else torch.nn.Identity()
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), middle, torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    x, targets = torch.randn(4, 4), torch.tensor([0, 1, 2, 0])
    with loopos.watch(model, optimizer, policy=policy) as watch:
        for at in range(steps):
            batch = x.clone()
            if at == step:
                batch[1, 2] = math.nan
            optimizer.zero_grad()
            loss_of(model, batch, targets).backward()
            yield model, optimizer, schedule, watch
            optimizer.step()
            schedule.step()


def test_halt_touches_nothing_and_knows_the_input():
    run = poisoned_at(1, "halt", normed=True)
    for at, (model, optimizer, _, _watch) in enumerate(run):
        if at == 1:
            before, gradient, random = state(model, optimizer), model[0].weight.grad, torch.get_rng_state()
            break
    with pytest.raises(loopos.NonFiniteError) as error:
        next(run)
    assert error.value.birth.op == "input"
    assert error.value.birth.index == (1, 2)
    assert error.value.birth.cause_class == "input not finite"
    after = state(model, optimizer)
    assert all(torch.equal(a, b) or torch.isnan(a).any() for a, b in zip(before, after, strict=True))
    assert model[0].weight.grad is gradient
    assert torch.equal(random, torch.get_rng_state())


def test_skip_is_a_step_that_changes_nothing_and_the_scheduler_goes_on():
    rates = []
    for at, (model, optimizer, schedule, watch) in enumerate(poisoned_at(1, "skip")):
        rates.append(schedule.get_last_lr()[0])
        if at == 1:
            before, gradient = state(model, optimizer), model[0].weight.grad
        if at == 2:
            assert watch.skipped == 1
            assert all(torch.equal(a, b) for a, b in zip(before, state(model, optimizer), strict=True))
            assert gradient is not None
    assert rates == [0.1, 0.05, 0.025, 0.0125]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert (watch.steps, watch.skipped) == (4, 1)


def test_skip_gives_up_when_it_repeats_itself():
    model, optimizer, x, targets = parts(lambda h: (h * 1e3).exp())
    with loopos.watch(model, optimizer, policy="skip") as watch:
        for _ in range(2):
            watch.step(lambda: loss_of(model, x, targets))
        with pytest.raises(loopos.NonFiniteError, match="3 steps in a row"):
            watch.step(lambda: loss_of(model, x, targets))


def test_warn_lets_it_happen():
    model, optimizer, x, targets = parts(lambda h: (h * 1e3).exp())
    with (
        loopos.watch(model, optimizer, policy="warn") as watch,
        pytest.warns(RuntimeWarning, match=r"the update happens.*aten\.exp"),
    ):
        watch.step(lambda: loss_of(model, x, targets))
    assert torch.isnan(model.first.weight).any()
    assert (watch.skipped, len(watch.births)) == (0, 1)


def test_a_weight_that_was_not_finite():
    model, optimizer, x, targets = parts()
    with torch.no_grad():
        model.first.weight[3, 2] = math.nan
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: loss_of(model, x, targets))
    birth = error.value.birth
    assert (birth.op, birth.tensor, birth.index, birth.cause_class) == (
        "parameter",
        "first.weight",
        (3, 2),
        "weight not finite",
    )


def test_a_weight_of_minus_infinity_is_no_mask():
    model, optimizer, x, targets = parts()
    with torch.no_grad():
        model.first.weight.fill_(-math.inf)
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: loss_of(model, x, targets))
    assert (error.value.birth.tensor, error.value.birth.cause_class) == ("first.weight", "weight not finite")


def test_gradients_that_were_spoiled_after_the_backward_pass():
    model, optimizer, x, targets = parts()
    with loopos.watch(model, optimizer):
        loss_of(model, x, targets).backward()
        model.first.weight.grad.div_(0)
        with pytest.raises(loopos.NonFiniteError, match=r"changed after the backward pass.*clipping"):
            optimizer.step()


def test_a_closure_that_is_called_often_is_one_step():
    model, _, x, targets = parts()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, x, targets)
        loss.backward()
        return loss

    with loopos.watch(model, optimizer) as watch:
        optimizer.step(closure)
        optimizer.step(closure)
    assert watch.steps == 2


@pytest.mark.parametrize("hooks", [True, False])
def test_a_critic_that_was_called_for_another_step(hooks):
    """Of a GAN: the graph of the generator that made the critic's input is gone when the critic's step is repeated."""
    torch.manual_seed(0)
    maker, critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    x = torch.randn(3, 2)
    with loopos.watch(critic, optimizer) as watch:
        critic(torch.tanh(maker(x))).mean().backward()  # the generator's step, whose optimizer is another
        if hooks:
            optimizer.zero_grad()
            critic(x * math.inf).mean().backward()
            with pytest.raises(loopos.NonFiniteError) as error:
                optimizer.step()
        else:
            with pytest.raises(loopos.NonFiniteError) as error:
                watch.step(lambda: critic(x * math.inf).mean())
            assert error.value.birth.micro_batch is None
    assert error.value.birth.op == ("input" if hooks else "aten.mul")


def test_the_loss_outside_the_model_is_not_seen_by_hooks_and_is_said_so():
    model, optimizer, x, _ = parts()
    with loopos.watch(model, optimizer):
        out = model(x)
        (out - out).log().sum().backward()
        with pytest.raises(loopos.NonFiniteError, match=r"watch\.step"):
            optimizer.step()


def test_a_repetition_that_is_not_the_same_says_so():
    model, optimizer, x, _ = parts()
    factors = iter([1e30, 1.0])
    with loopos.watch(model, optimizer) as watch, pytest.raises(loopos.NonFiniteError) as error:
        watch.step(lambda: (model(x) * next(factors)).square().sum())
    assert "did not give the same loss" in str(error.value)
    assert error.value.birth.cause_class == "unknown"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"model": 3}, TypeError, "torch.nn.Module"),
        ({"optimizer": 3}, TypeError, "torch.optim.Optimizer"),
        ({"policy": "rewind"}, ValueError, "halt, skip, warn"),
    ],
)
def test_bad_arguments(change, kind, words):
    model, optimizer, _, _ = parts()
    with pytest.raises(kind, match=words):
        loopos.watch(**{"model": model, "optimizer": optimizer, **change})


def test_a_function_without_a_loss_and_a_closed_watch():
    model, optimizer, x, targets = parts()
    watch = loopos.watch(model, optimizer)
    with pytest.raises(TypeError, match="return the loss"):
        watch.step(lambda: None)
    watch.close()
    watch.close()
    with pytest.raises(RuntimeError, match="closed"):
        watch.step(lambda: loss_of(model, x, targets))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_of(model, x, targets).backward()
        optimizer.step()
