"""loopos/errors.py: the facts an error carries, and that it survives the way between processes."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path

import pytest

from loopos.errors import Birth, CheckpointError, NonFiniteError

BIRTH = Birth(
    step=7,
    phase="backward",
    layer=3,
    op="softmax",
    tensor="h.3.attn.probabilities",
    index=(0, 2, 5),
    value=float("-inf"),
    cause="overflow of a finite input",
)


def test_birth_reads_as_a_sentence():
    assert str(BIRTH) == (
        "step 7, backward pass, block 3, op softmax: "
        "h.3.attn.probabilities[0, 2, 5] = -inf (overflow of a finite input)"
    )


def test_birth_outside_train_and_blocks_leaves_out_what_is_not_there():
    birth = dataclasses.replace(BIRTH, step=None, layer=None, phase="update", value=math.nan)
    assert str(birth).startswith("update, op softmax: ")
    assert "= NaN (" in str(birth)


def test_a_birth_of_nan_is_equal_to_itself_and_to_one_that_says_the_same():
    born = {"value": math.nan, "operands": {"x": math.nan, "row": {"least": -1.0, "value": math.nan}}}
    birth = dataclasses.replace(BIRTH, **born, ledger=({"tensor": "h", "min": math.nan},))
    other = pickle.loads(pickle.dumps(birth))
    assert birth.value is not other.value
    assert birth == birth
    assert birth == other
    assert hash(birth) == hash(other)
    assert len({birth, other}) == 1
    assert birth != dataclasses.replace(birth, value=math.inf)
    assert birth != dataclasses.replace(birth, operands={"x": 1.0})
    assert birth != dataclasses.replace(birth, ledger=())
    assert birth == dataclasses.replace(birth, raised=({"op": "linear"},))  # no part of it
    assert birth != "a birth"


def test_birth_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BIRTH.step = 8


def test_non_finite_error_is_a_floating_point_error_and_says_that_nothing_changed():
    error = NonFiniteError(BIRTH)
    assert isinstance(error, FloatingPointError)
    assert error.birth is BIRTH
    assert "nothing was updated" in str(error)
    assert str(BIRTH) in str(error)
    assert str(NonFiniteError(BIRTH, "another sentence")) == "another sentence"


def test_checkpoint_error_is_a_value_error_with_path_what_and_offset():
    error = CheckpointError("run/model.safetensors", "the header is not JSON", 8)
    assert isinstance(error, ValueError)
    assert (str(error.path), error.what, error.offset) == ("run/model.safetensors", "the header is not JSON", 8)
    assert "run/model.safetensors" in str(error)
    assert "the header is not JSON" in str(error)
    assert "8" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        NonFiniteError(BIRTH),
        NonFiniteError(BIRTH, "words", Path("b")),
        CheckpointError("a", "b", 3),
        CheckpointError("a", "b"),
    ],
)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_more_is_said_once_more_is_known():
    error = NonFiniteError(BIRTH)
    before = str(error)
    error.add("It is kept", Path("b"))
    assert str(error) == f"{before}. It is kept"
    assert (error.birth, error.bundle) == (BIRTH, Path("b"))
