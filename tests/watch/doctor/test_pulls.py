"""Where a loss pulls the outputs, told by its gradient there."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.doctor.pulls import pulled_from  # noqa: E402
from loopos.watch.doctor.subject import Run  # noqa: E402

F = torch.nn.functional
Z = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y, T = torch.arange(12) % 4, torch.randn(12, 4, generator=torch.Generator().manual_seed(1))


def told(loss, outputs=Z, batch=(Y, T)):
    leaf = outputs.clone().requires_grad_()
    loss(leaf).backward()
    return pulled_from(Run(0.0, True, outputs=leaf, batch=batch, pulls={"": leaf.grad}))


LOSSES = {
    "a cross-entropy with [0]": (lambda z: F.cross_entropy(z, Y), Z),
    "a squared error with [1]": (lambda z: F.mse_loss(z, T, reduction="sum"), Z),
    "a binary cross-entropy with [1]": (lambda z: F.binary_cross_entropy_with_logits(z, T.sigmoid()), Z),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_known_loss_and_its_opposite(name):
    loss, outputs = LOSSES[name]
    batch = (Y, T.sigmoid()) if "binary" in name else (Y, T)
    assert told(loss, outputs, batch) is None
    assert told(lambda z: -0.3 * loss(z), outputs, batch) == name


@pytest.mark.parametrize(
    ("outputs", "loss"),
    [(Z.log_softmax(1), lambda z: F.nll_loss(z, Y)), (Z.softmax(1), lambda z: F.nll_loss(z.log(), Y))],
    ids=["logs", "probabilities"],
)
def test_outputs_that_are_a_softmax(outputs, loss):
    assert told(loss, outputs) is None
    assert told(lambda z: -loss(z), outputs) == "a cross-entropy with [0]"


def test_labels_that_are_not_scored_count_for_nothing():
    labels = Y.where(torch.arange(12) % 3 > 0, -100)
    assert told(lambda z: -F.cross_entropy(z, labels), batch=(labels,)) == "a cross-entropy with [0]"


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: F.cross_entropy(z, Y) + z.square().mean(),
        lambda z: F.cross_entropy(-z, Y),  # outputs are distances
        lambda z: z.gather(1, Y[:, None]).mean(),  # and their own
        lambda z: -(z - T).abs().mean(),
        lambda z: -(z.log_softmax(1).gather(1, Y[:, None]).squeeze(1) * -torch.linspace(0.5, 1, 12)).mean(),
    ],
)
def test_what_is_not_known(loss):
    assert told(loss) is None


def test_few_rows_are_opposite_by_chance():
    assert told(lambda z: -F.cross_entropy(z, Y[:3]), Z[:3], (Y[:3],)) is None


def test_labels_that_are_the_opposite_of_others():
    zeros, labels = torch.zeros(12, 2), torch.arange(12) % 2
    assert told(lambda z: F.cross_entropy(z, labels), zeros, (labels, 1 - labels)) is None
