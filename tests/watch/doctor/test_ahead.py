"""How far outputs depend on what comes later in a sequence."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched import planted  # noqa: E402
from watched.healthy_examples import language_gru, language_transformer, mnist  # noqa: E402
from watched.silent import seeded  # noqa: E402

from loopos.watch.doctor.ahead import ahead, distance, outputs  # noqa: E402
from loopos.watch.doctor.subject import NotApplicable, Subject  # noqa: E402


def subject(make):
    program = seeded(make)
    return Subject(program.model, [program.optimizer], program.batch, program.loss_fn)


def test_a_causal_model_does_not_look_ahead_and_another_does():
    assert ahead(subject(language_gru)) == 0
    assert ahead(subject(language_transformer)) < 1e-5
    assert ahead(subject(planted.not_causal)) > 0.01


def test_a_model_without_ids_has_nothing_to_look_ahead_to():
    with pytest.raises(NotApplicable):
        ahead(subject(mnist))


def test_outputs_are_those_of_the_model_and_distances_are_relative():
    one = subject(mnist)
    assert outputs(one, one.batch).shape == (8, 5)
    x = torch.ones(4)
    assert distance(100 * x, 101 * x) == pytest.approx(0.01)
