"""Logits, probabilities and log-probabilities, told apart."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.doctor.arguments import judged, spreads  # noqa: E402

Z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
CASES = [
    ("nll_loss", Z, False),
    ("nll_loss", Z.softmax(1), True),
    ("nll_loss", Z.log_softmax(1), None),
    ("nll_loss", Z[0].log_softmax(0), None),
    ("nll_loss", Z.log_softmax(0), False),
    ("ctc_loss", Z[:, None].log_softmax(2), None),
    ("ctc_loss", Z[:, None], False),
    ("kl_div", Z.softmax(1), True),
    ("kl_div", Z.log_softmax(1), None),
    ("cross_entropy", Z, None),
    ("cross_entropy", Z.log_softmax(1), None),
    ("cross_entropy", Z.softmax(1), True),
    ("cross_entropy", Z[:, :1].softmax(1), None),
    ("binary_cross_entropy_with_logits", Z, None),
    ("nll_loss", torch.zeros(0, 4), None),
    ("nll_loss", None, None),
]


@pytest.mark.parametrize(("name", "given", "sure"), CASES)
def test_what_a_loss_is_given(name, given, sure):
    wrong = judged(name, given)
    assert (wrong and wrong.sure) == sure


def test_a_sigmoid_is_known_by_its_node():
    z = Z.clone().requires_grad_()
    for made, told in ((z.sigmoid(), True), (z.sigmoid()[:, 0].unsqueeze(1), True), (z.sigmoid() * 2, False)):
        assert (judged("binary_cross_entropy_with_logits", made) is not None) == told


def test_a_column_against_a_row():
    column, row = torch.ones(6, 1, requires_grad=True), torch.ones(6)
    assert spreads(column, row)
    assert spreads(row, column)
    assert not spreads(column, row.requires_grad_())  # a ranking of the model's own outputs
    assert not spreads(torch.ones(6, 2), torch.ones(2))
    assert not spreads(column[:1], torch.ones(1))
    assert not spreads(column, torch.ones(3))
