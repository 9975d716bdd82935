"""loopos eval: perplexity as a text and as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos.cli import main


def test_perplexity_is_that_of_the_mean_loss(tmp_path, capsys):
    model = loopos.Model(loopos.ModelConfig(256, 16, 1, 2, 16))
    model.save_pretrained(tmp_path / "hf")
    (tmp_path / "text.txt").write_text("to be or not to be")
    assert main(["eval", str(tmp_path / "hf"), str(tmp_path / "text.txt"), "--seq-len", "6", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    ids = np.frombuffer(Path(tmp_path / "text.txt").read_bytes(), np.uint8).astype(np.int64)
    losses = [model.loss(ids[None, at : at + 6][:, : 17 - at], ids[None, at + 1 : at + 7]) for at in (0, 6, 12)]
    loss = np.average(losses, weights=[6, 6, 5])
    assert told["tokens"] == 17
    assert told["loss"] == pytest.approx(loss, rel=1e-6)
    assert told["perplexity"] == pytest.approx(math.exp(loss), rel=1e-6)
