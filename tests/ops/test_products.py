"""What float32 products are computed with."""

import pytest

from loopos import _core


def test_a_model_has_a_precision_and_an_unknown_one_is_refused():
    import loopos

    core = loopos.Model(loopos.ModelConfig(11, 8, 1, 1, 8))._core
    assert core.precision == "float32"
    core.precision = "bf16x3"
    assert core.precision == "bf16x3"
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'bf16x3', 'bf16', got 'fp8'"):
        core.precision = "fp8"
    assert core.precision == "bf16x3"


def test_float32_is_computed_by_multiply_adds():
    assert _core.products("float32") == "fma"
    info = _core.products_info()
    assert info["chosen"] in ("fma", "tiles", "emulated")
    assert (info["why"] == "") == (info["chosen"] == "tiles")
