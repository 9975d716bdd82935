"""Programs whose truth is known, watched: faults are told with operation, element and cause; healthy ones are left
alone. A part of both corpora; the whole is run by benchmarks/watch_faults.py."""

from __future__ import annotations

import pytest

import loopos

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from watched import (  # noqa: E402
    faults,
    faults_natural,
    faults_ordinary,
    healthy_examples,
    healthy_layers,
    healthy_loops,
    healthy_rates,
    healthy_training,
)
from watched.judged import told, verdict  # noqa: E402
from watched.silent import seeded  # noqa: E402

PLANTED = list(
    zip(faults.PLANTS, ("nn.Transformer", "conv net", "LSTM", "covariance", "Llama", "ViT") * 4, strict=False)
)
HEALTHY = [*healthy_examples.EXAMPLES[::2], *healthy_layers.EXAMPLES[::2]]
HEALTHY += [healthy_training.bf16_autocast, healthy_training.fp16_scaler, healthy_training.accumulation]
HEALTHY += [*healthy_loops.LOOPS]
HEALTHY += [healthy_training.checkpointed, healthy_training.two_optimizers, healthy_training.sparse]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("plant", "architecture"), PLANTED, ids=[each[0] for each in PLANTED])
def test_a_planted_fault_is_told(plant, architecture):
    case = faults.planted(architecture, plant, 7)
    birth = told(case)
    assert all(verdict(case, birth).values()), (case.name, case.truth, birth)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [*faults_natural.NATURAL, *faults_ordinary.ORDINARY])
def test_a_natural_fault_is_told(make):
    torch.manual_seed(0)
    case = make()
    birth = told(case)
    assert all(verdict(case, birth).values()), (case.name, case.truth, birth)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", HEALTHY, ids=lambda make: make.__name__)
def test_a_healthy_program_is_left_alone(make):
    try:
        program = seeded(make)
    except ImportError as error:
        pytest.skip(f"needs {error.name}")
    step = program.step or program.plain_step
    with loopos.watch(program.model, program.optimizer) as watch:
        for _ in range(12):
            step()
    assert not watch.births
    assert not watch.findings


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", healthy_rates.RATES, ids=lambda make: make.__name__)
def test_a_program_that_moves_its_weights_far_and_comes_out_well_is_left_alone(make):
    program = seeded(make)
    step = program.step or program.plain_step
    with loopos.watch(program.model, program.optimizer) as watch:
        losses = [float(step()) for _ in range(healthy_rates.STEPS)]
    assert losses[-1] < 0.1 * losses[0]
    assert not watch.births
    assert [str(each) for each in watch.findings] == []
