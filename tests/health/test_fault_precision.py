"""The fault matrix in processes whose products are computed otherwise: place, cause, step, value and first flag are
those of float32 multiply-adds, whatever tiles make of inf."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from processes import in_process, why_no

MATRIX = Path(__file__).with_name("fault_matrix.py")
pytestmark = pytest.mark.unsanitized("processes of their own")


@functools.cache
def answers(products, precision):
    return in_process(MATRIX, "--json", LOOPOS_PRODUCTS=products, LOOPOS_PRECISION=precision)


@pytest.mark.parametrize("precision", ["bf16x3", "bf16"])
@pytest.mark.parametrize("products", ["emulated", "tiles"])
def test_births_are_those_of_float32(products, precision):
    if why := why_no(products):
        pytest.skip(why)
    plain, found = answers("fma", "float32"), answers(products, precision)
    assert (plain["products"], found["products"]) == ("fma", f"{products} {precision}")
    assert plain["gradients"] != found["gradients"]  # a sound step did go through pieces
    wrong = {name: (said, found["answers"][name]) for name, said in plain["answers"].items()}
    wrong = {name: both for name, both in wrong.items() if both[0] != both[1]}
    assert wrong == {}


def test_tiles_and_their_emulation_have_the_same_bits():
    if why := why_no("tiles"):
        pytest.skip(why)
    for precision in ("bf16x3", "bf16"):
        assert answers("emulated", precision)["gradients"] == answers("tiles", precision)["gradients"]


def test_without_tiles_every_precision_is_float32():
    assert answers("fma", "bf16") == answers("fma", "float32")
