"""Rows of a loss that are set against every other by broadcasting."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.doctor.seen import Seen  # noqa: E402
from loopos.watch.doctor.shapes import spreads  # noqa: E402

nn, F = torch.nn, torch.nn.functional


def seen(loss):
    """loss: of a column of the model, a column and a row of numbers."""
    model = nn.Linear(4, 3)
    with Seen(model) as found:
        loss(model(torch.ones(6, 4)).gather(1, torch.zeros(6, 1).long()), torch.ones(6, 1), torch.ones(6))
    return [tuple(each) for each in found.spread]


def test_a_column_against_a_row():
    column, row = torch.ones(6, 1, requires_grad=True), torch.ones(6)
    assert spreads(column, row)
    assert spreads(row, column)
    assert not spreads(column, row, sums=True)  # squared distances begin so
    assert not spreads(column, row.requires_grad_())  # a ranking of the model's own outputs
    assert not spreads(torch.ones(6, 2), torch.ones(2))
    assert not spreads(column[:1], torch.ones(1))
    assert not spreads(column, torch.ones(3))


def test_a_column_that_was_gathered_has_a_row_of_its_own():
    found = torch.ones(6, 3, requires_grad=True).gather(1, torch.zeros(6, 1).long())
    row = torch.ones(6, requires_grad=True)
    assert spreads(found, row)
    assert spreads(found, row, sums=True)
    assert not spreads(found.squeeze(1), row)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    "loss",
    [
        lambda q, column, row: F.mse_loss(q, column + row),
        lambda q, column, row: F.mse_loss(q.squeeze(1), (2 * (column + row)).clamp(0, 1).detach()),
        lambda q, column, row: F.huber_loss(column + q.detach().squeeze(1), q),
        lambda q, column, row: (q - (column + row)).square().mean(),
        lambda q, column, row: ((column + 1.0 * row) / 2 - q.squeeze(1)).square().mean(),
    ],
)
def test_a_square_on_the_way_is_told_where_a_row_meets_it(loss):
    assert seen(loss) == [("a sum", (6, 1), (6,))]


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_square_that_is_given():
    assert seen(lambda q, column, row: F.l1_loss(q, torch.ones(6, 6))) == [("l1_loss", (6, 1), (6, 6))]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    "loss",
    [
        lambda q, column, row: F.mse_loss(q, column + row[:, None]),
        lambda q, column, row: F.mse_loss(q.expand(6, 6), column + row),  # what is compared is square too
        lambda q, column, row: F.mse_loss(q, torch.ones(6, 3)),
        lambda q, column, row: ((-(column - row).square()).exp() - q).square().mean(),  # a kernel
        lambda q, column, row: ((row[:, None] - row) - q).square().mean(),  # pairs of one tensor
        lambda q, column, row: (column + row - (column + row).mean(1, keepdim=True)).mean(),  # centred
        lambda q, column, row: ((column + row) * q).mean(),
    ],
)
def test_a_square_that_is_meant(loss):
    assert seen(loss) == []
