"""--weights of generate, eval and info: the matrices of a folder held small."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos.cli import main

CONFIG = loopos.ModelConfig(
    256, 16, 1, 2, 32, norm="rmsnorm", activation="swiglu", position="rope", bias=False, d_ff=48
)


@pytest.fixture
def folder(tmp_path):
    loopos.Model(CONFIG, seed=1).save_pretrained(tmp_path / "hf")
    return str(tmp_path / "hf")


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_the_numbers_are_those_of_the_model_that_is_stored_so(folder, weights, capsys):
    model = loopos.Model.from_pretrained(folder, weights=weights)
    assert main(["info", folder, "--weights", weights, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    errors = model.storage_errors().values()
    assert (told["weights"], told["dtype"]) == (weights, "float32")
    assert told["bytes_of_weights"] == sum(each["bytes"] for each in errors)
    assert told["largest_storage_error"] == max(each["relative"] for each in errors)
    options = ["--prompt-ids", "1,2", "--max-new-tokens", "5", "--temperature", "0"]
    assert main(["generate", folder, *options, "--weights", weights]) == 0
    ids = [int(part) for part in capsys.readouterr().out.split(",")]
    assert ids == model.generate(np.array([[1, 2]]), 5, temperature=0)[0].tolist()


def test_what_makes_no_sense_is_one_sentence(folder, capsys):
    assert main(["generate", folder, "--prompt-ids", "1", "--weights", "int3"]) == 2
    assert "int4" in capsys.readouterr().err
    assert main(["info", "--weights", "int8"]) == 2
    assert "FOLDER" in capsys.readouterr().err
