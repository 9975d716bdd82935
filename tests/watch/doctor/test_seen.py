"""What is recorded of a computation: dropout and other random numbers by module, products with their precision."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.doctor.seen import Seen, no_dropout  # noqa: E402

nn, F = torch.nn, torch.nn.functional


def test_random_numbers_and_products_have_their_module():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    with Seen(model) as seen:
        model(torch.ones(2, 4))
        torch.randn(2)
    assert seen.drops == {"1"}
    assert seen.draws == {""}
    assert seen.products == [("0", torch.float32, False)]
    assert seen.called == {"", "0", "1"}


def test_a_product_within_autocast_is_told_as_such():
    model = nn.Linear(4, 4)
    with Seen(model) as seen, torch.autocast("cpu", torch.bfloat16):
        model(torch.ones(2, 4))
    assert seen.products == [("", torch.bfloat16, True)]


def test_dropout_of_attention_is_seen_and_taken_out():
    x = torch.ones(1, 3, 4)
    for p in (0.0, 0.5):
        with Seen(nn.Identity()) as seen:
            F.scaled_dot_product_attention(x, x, x, dropout_p=p)
        assert bool(seen.drops) == (p > 0)
    with no_dropout():
        assert F.scaled_dot_product_attention(x, x, x, None, 0.9).equal(x)


@pytest.mark.parametrize("drop", [F.dropout, F.alpha_dropout, F.dropout2d, torch.dropout], ids=lambda f: f.__name__)
def test_every_dropout_is_taken_out(drop):
    x = torch.ones(2, 3, 4, 4)
    with no_dropout():
        assert drop(x, 0.5, True).equal(x)
    layer = nn.TransformerEncoderLayer(4, 2, 8, 0.5, batch_first=True)
    with no_dropout():
        assert layer(x[0]).equal(layer(x[0]))


def test_hooks_are_gone_afterwards():
    model = nn.Linear(2, 2)
    with Seen(model):
        pass
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_of_a_loss_both_of_whose_tensors_are_broadcast_the_shapes_are_kept():
    column, row = torch.ones(3, 1), torch.ones(3)
    with Seen(nn.Linear(1, 1)) as seen:
        F.mse_loss(column, row[:, None])
        F.mse_loss(column, torch.ones(1))  # one target for all
        assert not seen.spread
        F.l1_loss(input=column, target=row)
        nn.HuberLoss()(row, column)
    assert seen.spread == [("l1_loss", (3, 1), (3,)), ("huber_loss", (3,), (3, 1))]


def test_what_losses_are_given_and_what_is_done_by_hand_outside_the_model():
    model = nn.Linear(4, 1)
    with Seen(model) as seen:
        z = model(torch.ones(3, 4))
        F.nll_loss(torch.rand(3, 4).softmax(1), torch.zeros(3).long())
        (z - torch.ones(3)).square().mean()
        2.0 * z - z.detach()
    assert seen.taken == {"nll_loss"}
    assert [each.loss for each in seen.wrong] == ["nll_loss"]
    assert seen.spread == [("a difference", (3, 1), (3,))]
