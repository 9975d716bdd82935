"""Runs on different instruction sets: the same but for rounding, or apart beyond it, with figures."""

import os
import subprocess
import sys

import numpy as np
import pytest

import loopos
from loopos.health.replay.diff import diff
from loopos.health.replay.rounding import apart, beyond_rounding
from loopos.precision import UNITS

TEXT = "to be, or not to be, that is the question: " * 30
PROGRAM = """
import sys, loopos
config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=2, n_head=2, d_model=32)
text, rate, swap, folder = sys.stdin.read(), float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

class Swap(loopos.Callback):
    def on_step_end(self, info):
        if info["step"] == swap:
            info["model"].parameters()["final_norm.weight"][3] *= 1.5

loopos.train(config, text, output_dir=folder, max_steps=40, learning_rate=rate, callbacks=[Swap()], progress=False,
             seed=int(sys.argv[4]))
"""


def run(folder, isa=None, *, rate=1e-3, swap=0, seed=1, products=None):
    """products: of the precision bf16x3."""
    environment = dict(os.environ)
    environment |= {} if isa is None else {"LOOPOS_ISA": isa}
    environment |= {} if products is None else {"LOOPOS_PRECISION": "bf16x3", "LOOPOS_PRODUCTS": products}
    arguments = [sys.executable, "-c", PROGRAM, str(rate), str(swap), str(folder), str(seed)]
    subprocess.run(arguments, input=TEXT, text=True, env=environment, check=True)
    return folder


def lines(values):
    return {t + 1: {"loss": value, "grad_norm": 1.0} for t, value in enumerate(values)}


def test_rounding_that_grows_is_rounding_and_a_jump_is_none():
    rng = np.random.default_rng(0)
    losses = 3 - 0.02 * np.arange(60)
    grown = losses * (1 + 1e-7 * 1.2 ** np.arange(60) * rng.uniform(-1, 1, 60))
    found = beyond_rounding(lines(losses), lines(grown), range(1, 61), UNITS["float32"])
    assert found.step is None
    assert found.furthest[2] == pytest.approx(np.abs(grown / losses - 1).max(), rel=0.1)
    grown[40] *= 1.05
    found = beyond_rounding(lines(losses), lines(grown), range(1, 61), UNITS["float32"])
    assert (found.step, found.field) == (41, "loss")
    assert found.furthest[0] <= 40
    assert "41: loss" in str(found)


def test_a_number_that_is_not_finite_in_one_of_them():
    a, b = [3.0, 2.9, 2.8], [3.0, None, 2.8]
    assert beyond_rounding(lines(a), lines(b), (1, 2, 3), UNITS["float32"]).step == 2
    assert beyond_rounding(lines(b), lines(b), (1, 2, 3), UNITS["float32"]).step is None
    assert apart(0.0, 0.0) == apart(np.nan, np.inf) == 0
    assert apart(1.0, np.nan) == np.inf


needs = pytest.mark.skipif(
    "avx2" not in loopos._core.available_isas(), reason="a second instruction set is needed to compare with"
)


@needs
@pytest.mark.parametrize("rate", [1e-3, 3e-2])
def test_runs_that_differ_by_rounding_alone(tmp_path, rate):
    runs = [run(tmp_path / isa, isa, rate=rate) for isa in ("baseline", "avx2")]
    found = diff(*runs, data=TEXT)
    assert found.step is not None
    assert found.beyond_rounding is None
    assert "the instruction set is baseline in A, avx2 in B" in str(found)
    assert "no step is further apart than rounding explains" in str(found)
    assert "does not give the bits" not in str(found)


@needs
def test_a_weight_that_was_written_in_one_of_them(tmp_path):
    found = diff(run(tmp_path / "a", "baseline"), run(tmp_path / "b", "avx2", swap=20), data=TEXT)
    assert found.step < 20
    assert found.beyond_rounding == 21
    assert "the first step that is further apart than rounding explains is 21" in str(found)


@needs
def test_another_seed_is_named(tmp_path):
    found = diff(run(tmp_path / "a", "baseline"), run(tmp_path / "b", "avx2", seed=2), data=TEXT)
    assert found.beyond_rounding == 1
    assert "seed is 1 in A, 2 in B" in str(found)


def test_other_products_of_one_precision_are_told_from_a_fault(tmp_path):
    emulated, fma = (run(tmp_path / products, products=products) for products in ("emulated", "fma"))
    found = diff(emulated, fma, data=TEXT)
    assert found.step is not None
    assert found.beyond_rounding is None
    assert "what products were computed with is emulated bf16x3 in A, fma in B" in str(found)
    assert "bits of different kinds of products cannot be compared" in str(found)
    assert "does not give the bits" not in str(found)
    sick = diff(emulated, run(tmp_path / "sick", products="fma", swap=20), data=TEXT)
    assert sick.beyond_rounding == 21
