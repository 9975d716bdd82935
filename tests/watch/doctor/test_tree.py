"""Tensors inside structures."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.doctor.tree import cloned, mapped, scalar, tensors  # noqa: E402


def test_tensors_have_their_paths():
    x = torch.ones(2)
    batch = {"a": [x, (x, 3)], "b": "text"}
    assert [name for name, _ in tensors(batch)] == ["a[0]", "a[1][0]"]
    doubled = mapped(batch, lambda name, tensor: tensor * 2)
    assert doubled["a"][1][0].tolist() == [2, 2]
    assert doubled["b"] == "text"
    assert doubled["a"][1][1] == 3


def test_a_clone_shares_nothing():
    x = torch.ones(2)
    (copy,) = cloned((x,))
    copy.zero_()
    assert x.tolist() == [1, 1]


def test_the_loss_is_found():
    loss = torch.tensor(3.0)

    class Output:
        def __init__(self):
            self.loss = loss

    for given in (loss, loss.reshape(1), {"loss": loss}, Output(), (loss, 1)):
        assert float(scalar(given)) == 3
    for given in (torch.ones(2), None, "loss"):
        with pytest.raises(TypeError, match="scalar"):
            scalar(given)
