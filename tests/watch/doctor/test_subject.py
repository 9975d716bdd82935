"""Runs of a program that leave no trace, and what is learned from them."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched.healthy_examples import language_gru, mnist  # noqa: E402
from watched.silent import seeded  # noqa: E402

from loopos.watch.doctor.state import fingerprint  # noqa: E402
from loopos.watch.doctor.subject import NotApplicable, Subject, listed  # noqa: E402


def subject(make=mnist):
    program = seeded(make)
    return Subject(program.model, [program.optimizer], program.batch, program.loss_fn)


def test_a_run_has_loss_gradients_inputs_and_leaves_no_trace():
    one = subject()
    before = fingerprint(one.model, one.optimizers)
    run = one.run(train=True, gradients=True, watch=True)
    assert run.wants
    assert set(run.gradients) == set(one.parameters)
    assert run.inputs[0][0].equal(one.batch[0])
    assert run.outputs.shape == (8, 5)
    assert run.training == (True,)
    assert run.seen.drops
    assert run.loss == one.first().loss
    assert fingerprint(one.model, one.optimizers) == before


def test_without_dropout_seeds_do_not_matter():
    one = subject()
    assert one.run(train=True, number=1).loss != one.run(train=True, number=2).loss
    assert one.run(train=True, number=1, still=True).loss == one.run(train=True, number=2, still=True).loss


def test_rows_and_ids_are_found():
    assert subject().rows() == (8, 0)
    one = subject(language_gru)
    assert one.ids().shape == (6, 7)
    with pytest.raises(NotApplicable, match="no sequence"):
        subject().ids()


def test_after_a_loss_that_raised_the_rest_does_not_apply():
    one = subject()
    one.loss_fn = lambda model, batch: model(batch[1])
    with pytest.raises(RuntimeError):
        one.first()
    with pytest.raises(NotApplicable, match="cannot be computed"):
        one.first()


def test_names_are_listed():
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
