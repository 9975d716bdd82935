"""The data of a run, and from which lines a bad row came."""

from __future__ import annotations

import dataclasses

import pytest
from example_tokens import LetterTokenizer

import loopos
from loopos.data.sources import open_sources
from loopos.errors import NonFiniteError
from loopos.run.opening import open_data, origin_of
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


@pytest.mark.parametrize("pack", [True, False])
def test_a_number_that_goes_bad_in_a_row_is_traced_to_its_lines(file, pack):
    """The embedding of one letter overflows in the first norm: the error names the lines whose row has it."""
    model = loopos.Model(CONFIG)
    model.parameters()["tok_embed.weight"][TOKENIZER.encode("c")[0]] = 3e38
    with pytest.raises(NonFiniteError) as caught:
        loopos.train(model, file, tokenizer=TOKENIZER, batch_size=6, pack=pack, progress=False, max_steps=1)
    birth = caught.value.birth
    assert birth.place.startswith("row ")
    source = open_sources(file, tokenizer=TOKENIZER, vocab_size=400, context_length=32, batch_size=6, pack=pack).train
    row = source.origin(0, 0, birth.index[0])
    assert f"Row {birth.index[0]} of micro-batch 0 is {row}" in str(caught.value)
    assert "line 3 of letters.jsonl" in row


def test_what_belongs_to_no_row_has_no_line(file):
    source = open_sources(file, tokenizer=TOKENIZER, vocab_size=400, context_length=32).train
    birth = loopos.Birth(
        1, "forward", 0, "linear", "blocks.0.x", (0, 1, 2), 1.0, "", micro_batch=0, place="row 0, token 1"
    )
    assert origin_of(source, 0, birth).startswith("Row 0 of micro-batch 0 is line ")
    for changed in ({"place": "output 3, input 2"}, {"micro_batch": None}):
        assert origin_of(source, 0, dataclasses.replace(birth, **changed)) == ""
    stream = open_sources(b"x" * 100, vocab_size=256, context_length=32).train
    assert origin_of(stream, 0, birth) == ""
