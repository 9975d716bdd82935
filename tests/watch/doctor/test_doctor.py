"""The doctor of a program as a whole: healthy programs have no problem, TrainCheck's silent bugs are told with their
causes, and a program is afterwards as it was, bit for bit."""

from __future__ import annotations

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched import healthy_examples, healthy_layers, healthy_loops, healthy_training, models  # noqa: E402
from watched.planted import PLANTED  # noqa: E402
from watched.silent import ELSEWHERE, SILENT, seeded  # noqa: E402

from loopos.watch.doctor.state import fingerprint  # noqa: E402

SOME = [*healthy_examples.EXAMPLES[:10], *healthy_layers.EXAMPLES[::2]]
SOME += [*healthy_loops.LOOPS]
SOME += [healthy_training.bf16_autocast, healthy_training.fp16_scaler, healthy_training.accumulation]
SOME += [healthy_training.warm_up, healthy_training.two_optimizers, healthy_training.sparse, healthy_training.new_head]
SOME += [healthy_training.of_architecture(each) for each in (models.llama, models.t5, models.whisper, models.clip)]


def optimizers(program):
    return program.optimizer if isinstance(program.optimizer, list) else [program.optimizer]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", SOME, ids=lambda make: make.__name__)
def test_a_healthy_program_has_no_problem_before_and_in_the_middle_of_its_training(make):
    try:
        program = seeded(make)
    except ImportError as error:
        pytest.skip(f"needs {error.name}")
    step = program.step or program.plain_step
    before = fingerprint(program.model, optimizers(program))
    assert not program.examined().problems
    assert fingerprint(program.model, optimizers(program)) == before
    for _ in range(3):
        step()
    before = fingerprint(program.model, optimizers(program))
    assert not program.examined().problems
    assert fingerprint(program.model, optimizers(program)) == before


@pytest.mark.parametrize("name", SILENT)
def test_a_silent_bug_is_told_with_its_cause(name):
    bug = SILENT[name]
    told = [str(each) for each in seeded(bug.make, True).examined().problems if each.name == bug.check]
    assert told
    assert all(any(word in each for each in told) for word in bug.cause), told


@pytest.mark.parametrize("name", SILENT)
def test_the_same_program_without_its_bug_has_no_problem(name):
    assert not seeded(SILENT[name].make, False).examined().problems


def test_every_named_bug_of_the_paper_is_here_or_elsewhere():
    assert len([name for name, bug in SILENT.items() if not bug.new] + list(ELSEWHERE)) == 18


@pytest.mark.parametrize("make", [each[0] for each in PLANTED[::3]], ids=lambda make: make.__name__)
def test_a_faulty_program_is_as_before_too(make):
    program = seeded(make)
    before = fingerprint(program.model, optimizers(program))
    program.examined()
    assert fingerprint(program.model, optimizers(program)) == before


def test_it_is_reached_by_its_name_and_gives_a_report():
    assert callable(loopos.__getattr__("watch").doctor)  # whatever was imported before
    program = seeded(healthy_examples.mnist)
    report = loopos.watch.doctor(program.model, program.optimizer, program.batch, program.loss_fn)
    assert report.ok
    assert report["loop"].verdict == "skipped"
    assert report.to_dict()["checks"]


def test_arguments_are_checked():
    program = seeded(healthy_examples.mnist)
    for given in (
        (None, program.optimizer, program.batch, program.loss_fn),
        (program.model, [], program.batch, program.loss_fn),
        (program.model, program.model, program.batch, program.loss_fn),
        (program.model, program.optimizer, program.batch, 3),
    ):
        with pytest.raises(TypeError, match="doctor"):
            loopos.watch.doctor(*given)


def test_a_loss_that_raises_is_one_failed_check():
    program = seeded(healthy_examples.mnist)
    report = loopos.watch.doctor(program.model, program.optimizer, program.batch, lambda m, b: m(b[1]))
    assert len(report.failures) == 1
    assert "program raises this" in report.failures[0].advice
