"""One object decides what is computed in what, on weights that are stored as what; it is asked everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos import optim
from loopos.cli import main
from loopos.precision import SMALL, WEIGHTS, Arithmetic, check_read, to_read

CONFIG = loopos.ModelConfig(32, 8, 1, 2, 16)
HALVES = ("float16", "bfloat16", "fp16", "half", "bf16", "torch.float16")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_a_storage_weights_are_of_the_arithmetic(dtype):
    assert Arithmetic.of("f", dtype) == Arithmetic(dtype, dtype)
    assert Arithmetic.of("f", dtype).kind is None
    Arithmetic.of("f", dtype).refuse_training("f")
    Arithmetic.of("f", dtype).refuse_saving("f")


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_storage_is_for_float32_arithmetic(weights):
    arithmetic = Arithmetic.of("f", "float32", weights)
    assert (arithmetic.dtype, arithmetic.weights) == ("float32", weights)
    assert (arithmetic.kind is None) == (weights == "float32")
    with pytest.raises(ValueError, match=f"weights='{weights}' goes with dtype='float32', got dtype='float64'"):
        Arithmetic.of("f", "float64", weights)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("weights", [None, *SMALL])
def test_half_arithmetic_is_refused_with_the_reason_and_the_way_out(dtype, weights, tmp_path):
    """The mistake of a system that had both --use_quantization and --use_fp16."""
    loopos.Model(CONFIG).save_pretrained(tmp_path)
    said = f"got '{dtype}': arithmetic{f' on weights that are stored as {weights}' if weights else ''} is float32"
    for refused in (
        lambda: loopos.Model(CONFIG, dtype=dtype, weights=weights),
        lambda: loopos.Model.from_pretrained(tmp_path, dtype=dtype, weights=weights),
        lambda: to_read("f", dtype, weights),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            refused()
        assert "pass weights='bfloat16' or 'int8' or 'int4'" in str(caught.value)


def test_names_that_are_none():
    with pytest.raises(ValueError, match="weights='float16' is not a storage here"):
        Arithmetic.of("f", "float32", "float16")
    with pytest.raises(ValueError, match="f: weights must be one of 'float32', 'bfloat16', 'int8', 'int4'"):
        Arithmetic.of("f", "float32", "int3")
    with pytest.raises(TypeError, match="weights must be one of"):
        Arithmetic.of("f", "float32", 4)
    with pytest.raises(TypeError, match="dtype must be one of"):
        Arithmetic.of("f", np.float32)
    with pytest.raises(ValueError, match=r"dtype must be one of 'float32', 'float64', got 'f4'$"):
        Arithmetic.of("f", "f4")
    for dtype in ("f4", 32, np.float32, ""):
        with pytest.raises(ValueError, match="dtype must be 'float32', 'float64' or None"):
            check_read("f", dtype)
    check_read("f", None)


def test_a_folder_is_read_as_float32_where_a_storage_is_asked_for():
    assert to_read("f", None, None) is None
    assert to_read("f", None, "int4") == "float32"
    assert to_read("f", "float64", None) == "float64"
    with pytest.raises(ValueError, match="goes with dtype='float32'"):
        to_read("f", "float64", "int4")


@pytest.mark.parametrize("weights", SMALL)
def test_who_would_train_or_save_asks(weights, tmp_path):
    model = loopos.Model(CONFIG, weights=weights)
    assert model.arithmetic == Arithmetic("float32", weights)
    ids = np.arange(8)[None]
    for refused in (
        lambda: model.loss_and_grads(ids, ids),
        lambda: model.unfreeze(),
        lambda: loopos.train(model, np.arange(99) % 32, max_steps=1, seq_len=8, progress=False),
        lambda: loopos.doctor(model, np.arange(99) % 32, seq_len=8),
        lambda: optim.AdamW(model),
    ):
        with pytest.raises(ValueError, match=f"stored as {weights} and frozen, so only adapters can be trained"):
            refused()
    if weights != "bfloat16":
        with pytest.raises(ValueError, match=f"save_pretrained: the weights of this model are stored as {weights}"):
            model.save_pretrained(tmp_path)


def test_the_command_line_asks_too(tmp_path, capsys):
    loopos.Model(CONFIG).save_pretrained(tmp_path)
    for arguments, said in (
        (["train", __file__, "--dtype", "float16"], "got 'float16': arithmetic is float32"),
        (["info", str(tmp_path), "--weights", "float16"], "weights='float16' is not a storage here"),
        (["info", str(tmp_path), "--weights", "int3"], "weights must be one of 'float32'"),
    ):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("weights", SMALL)
@pytest.mark.parametrize("tied", [True, False])
def test_bytes_are_those_that_a_model_takes(weights, tied):
    config = loopos.ModelConfig(64, 128, 2, 2, 128, tie_embeddings=tied, bias=False, position="rope")
    taken = sum(each["bytes"] for each in loopos.Model(config, weights=weights).storage_errors().values())
    norms = 5 * 128
    assert taken <= Arithmetic("float32", weights).bytes(config) <= taken + 4 * norms
    assert Arithmetic("float64", "float64").bytes(config) == 16 * config.num_parameters()
