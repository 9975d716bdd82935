"""Logits, probabilities and log-probabilities, told apart."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.doctor.arguments import judged, unsigned  # noqa: E402

Z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
CASES = [
    ("nll_loss", Z, False),
    ("nll_loss", Z.softmax(1), True),
    ("nll_loss", Z.log_softmax(1), None),
    ("nll_loss", Z[0].log_softmax(0), None),
    ("nll_loss", Z.log_softmax(0), False),
    ("ctc_loss", Z[:, None].log_softmax(2), None),
    ("ctc_loss", Z[:, None], False),
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


Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
DIVERGENCES = [
    (Z.log_softmax(1), Y.softmax(1), False, None),
    (Z.log_softmax(1), Y.log_softmax(1), True, None),
    (Z.log_softmax(0), Y.softmax(0), False, None),
    (Z, Y.softmax(1), False, True),
    (Z - 9, Y.softmax(1), False, None),  # a part of a row, perhaps
    (-Z.abs() / 9, Y.softmax(1), False, True),  # never above 0, and no logs
    (Z, Y.log_softmax(1), True, True),
    (Z, 2 * Y.softmax(1), False, None),  # densities
    (Z.softmax(0), Y.softmax(0), False, True),
    (Z.log_softmax(1), Y.log_softmax(1), False, True),
    (Z.log_softmax(1), Y, False, False),
    (Z.log_softmax(1), Y, True, False),
    (Z.log_softmax(1), Y.softmax(1), True, True),
    (Z.log_softmax(1), Y[:1].softmax(1), False, None),
]


@pytest.mark.parametrize(("given", "target", "logs", "sure"), DIVERGENCES)
def test_what_a_divergence_is_given(given, target, logs, sure):
    wrong = judged("kl_div", given, target, logs)
    assert (wrong and wrong.sure) == sure


@pytest.mark.parametrize(
    ("target", "told"),
    [([0, 1, 1, 0], True), ([0.0, 0.0], True), ([1, -1], False), ([0, 1, -1], False), ([1, 1], False), ([], False)],
)
def test_targets_that_have_a_sign(target, told):
    assert (unsigned("cosine_embedding_loss", torch.tensor(target)) is not None) == told
