"""bfloat16 on the wire, and what rounding took away."""

from __future__ import annotations

import numpy as np
import pytest
from under_mpi import mpi_needed, result_of

from loopos import _core
from loopos.distributed.rounding import Feedback


def to_bfloat16(numbers: np.ndarray) -> np.ndarray:
    bits = np.empty(numbers.shape, np.uint16)
    _core.round_with_owed(numbers, np.full_like(numbers, -0.0), bits)  # x + -0.0 is x, of 0 as well
    return bits


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    numbers = np.empty(bits.shape, np.float32)
    _core.from_bfloat16(bits, numbers)
    return numbers


def test_bits_are_rounded_to_the_nearest_even():
    one = np.float32(1)
    step = np.float32(2**-7)  # between two numbers of bfloat16 at 1
    given = np.array([one, one + step / 2, one + 3 * step / 2, one + step * 0.51, -one - step / 4, 0, -0.0], np.float32)
    expected = np.array([one, one, one + 2 * step, one + step, -one, 0, -0.0], np.float32)
    assert from_bfloat16(to_bfloat16(given)).tobytes() == expected.tobytes()


def test_what_is_not_finite_stays_so():
    given = np.array([np.inf, -np.inf, np.nan, 3.4e38], np.float32)
    given = np.concatenate([given, np.array([0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)])
    found = from_bfloat16(to_bfloat16(given))
    assert found[0] == np.inf
    assert found[1] == -np.inf
    assert found[3] == np.inf  # it is nearer to the next power of two than to the largest number of bfloat16
    assert np.isnan(found[[2, 4, 5]]).all()


def test_over_the_updates_all_of_a_gradient_arrives():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(200, 50)).astype(np.float32)
    feedback, out, arrived = Feedback(50), np.empty(50, np.uint16), np.zeros(50)
    alone = np.zeros(50)
    for gradient in gradients:
        feedback.round(gradient, out)
        arrived += from_bfloat16(out)
        alone += from_bfloat16(to_bfloat16(gradient))
    whole = gradients.sum(axis=0, dtype=np.float64)
    assert np.abs(arrived + feedback.error - whole).max() < 1e-4  # but for the rounding of float32
    assert np.abs(arrived - whole).max() < 2**-7 * 4
    assert np.abs(alone - whole).max() > np.abs(arrived - whole).max()


def test_nothing_is_owed_of_a_number_that_is_not_finite():
    feedback, out = Feedback(2), np.empty(2, np.uint16)
    feedback.round(np.array([np.nan, 1.01], np.float32), out)
    assert feedback.error.tolist() == [0, 0]


def test_what_was_rounded_away_is_owed():
    given = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    owed = np.random.default_rng(1).normal(size=10_000).astype(np.float32) / 256
    before, bits = owed.copy(), np.empty(10_000, np.uint16)
    assert _core.round_with_owed(given, owed, bits)
    sent = from_bfloat16(bits)
    assert owed.tobytes() == (before + given - sent).tobytes()
    assert (np.abs(owed) <= np.abs(sent) * 2**-8).all()


def test_rounding_tells_of_numbers_that_are_not_finite():
    for bad in (np.nan, np.inf, -np.inf, 3.4e38):
        given = np.ones(100, np.float32)
        given[77] = bad
        assert not _core.round_with_owed(given, np.zeros_like(given), np.empty(100, np.uint16))


def test_arrays_of_other_sizes_and_kinds_are_refused():
    x, bits = np.ones(3, np.float32), np.empty(3, np.uint16)
    with pytest.raises(ValueError, match="as many numbers, got 3 and 2"):
        _core.round_with_owed(x, np.zeros(2, np.float32), bits)
    with pytest.raises(ValueError, match="as many numbers, got 3 and 2"):
        _core.round_with_owed(x, np.zeros(3, np.float32), bits[:2])
    with pytest.raises(ValueError, match="as many numbers, got 3 and 2"):
        _core.from_bfloat16(bits, x[:2])
    with pytest.raises(TypeError):
        _core.round_with_owed(x.astype(np.float64), np.zeros(3, np.float32), bits)


SCRIPT = """
import hashlib, json, sys
import numpy as np, loopos
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=2, n_head=4, d_model=32)
ids = np.random.default_rng(0).integers(0, 61, 3000)
asked = json.loads(sys.argv[1])
how = loopos.Distributed(wire="bfloat16") if asked.pop("wire") else "auto"
result = loopos.train(config, ids, max_steps=8, batch_size=8, learning_rate=1e-2, progress=False, log_every=1,
                      distributed=how)
weights = b"".join(each.tobytes() for each in result.model.parameters().values())
tell([hashlib.sha256(weights).hexdigest(), [each["loss"] for each in result.history]])
"""


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_all_ranks_compute_with_what_was_sent(tmp_path):
    exact = result_of(SCRIPT, {"wire": False}, ranks=3, folder=tmp_path)
    rounded = result_of(SCRIPT, {"wire": True}, ranks=3, folder=tmp_path)
    assert len({each[0] for each in rounded}) == 1
    assert rounded[0][0] != exact[0][0]
    assert np.allclose(rounded[0][1], exact[0][1], atol=0.02)
    assert rounded[0][1][0] == exact[0][1][0]  # before the first update
