"""The data of a run."""

from __future__ import annotations

import pytest
from example_tokens import LetterTokenizer

import loopos
from loopos.run.opening import open_data
from loopos.training import default_settings

TOKENIZER = LetterTokenizer()
CONFIG = loopos.ModelConfig(400, 32, n_layer=1, n_head=2, d_model=16)
RECORDS = [{"text": letter * 4} for letter in "abcdef"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "letters.jsonl"
    path.write_text("".join(f'{{"text": "{letter * 4}"}}\n' for letter in "abcdef"))
    return path


def test_settings_reach_the_data(file, capsys):
    settings = default_settings(batch_size=2, seq_len=3, grad_accum=2, seed=9, pack=False, mask_prompt=False)
    source = open_data(CONFIG, file, None, TOKENIZER, settings, False).train
    assert (source.batch_size, source.grad_accum, source.examples.seq_len) == (2, 2, 3)
    assert source.fingerprint()["packed"] is source.fingerprint()["mask_prompt"] is False
    assert capsys.readouterr().err == ""
    open_data(CONFIG, file, None, TOKENIZER, settings, True)
    assert "label audit: 6 examples" in capsys.readouterr().err
