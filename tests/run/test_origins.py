"""From which lines a bad row came: in the error, in its bundle, in what is found out of that."""

from __future__ import annotations

import dataclasses

import pytest
from example_tokens import LetterTokenizer

import loopos
from loopos.data.sources import open_sources
from loopos.errors import NonFiniteError
from loopos.run.origins import origin_of, origins_of

TOKENIZER = LetterTokenizer()
CONFIG = loopos.ModelConfig(400, 32, n_layer=1, n_head=2, d_model=16, tie_embeddings=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "letters.jsonl"
    path.write_text("".join(f'{{"text": "{letter * 12}"}}\n' for letter in "abcdef"))
    return path


@pytest.mark.parametrize("pack", [True, False])
def test_a_number_that_goes_bad_in_a_row_is_traced_to_its_lines(file, tmp_path, pack):
    """The embedding of one letter overflows where its position is added: all that is said of it names the line."""
    model = loopos.Model(CONFIG)
    model.parameters()["tok_embed.weight"][TOKENIZER.encode("c")[0]] = 3e38
    model.parameters()["pos_embed.weight"][...] = 1e38
    settings = {"tokenizer": TOKENIZER, "batch_size": 2 if pack else 3, "grad_accum": 2, "pack": pack}
    with pytest.raises(NonFiniteError) as caught:
        loopos.train(model, file, output_dir=tmp_path / "run", progress=False, max_steps=1, **settings)
    birth = caught.value.birth
    source = open_sources(file, vocab_size=400, context_length=32, **settings).train
    origins = origins_of(source, 0, 2)
    assert sum(each.count("line") for rows in origins for each in rows) >= 6
    said = origin_of(origins, birth)
    assert said.startswith(f"Row {birth.index[0]} of micro-batch {birth.micro_batch} is ")
    assert "line 3 of letters.jsonl" in said
    assert said in str(caught.value)

    again = loopos.replay(tmp_path / "run")
    assert again.reproduced
    assert again.origin == said
    assert said in str(again)
    why = loopos.counterfactuals(tmp_path / "run")
    assert why.verdict == "the data"
    assert "line 3 of letters.jsonl" in why.why


def test_what_belongs_to_no_row_has_no_line(file):
    source = open_sources(file, tokenizer=TOKENIZER, vocab_size=400, context_length=32, batch_size=2).train
    origins, place = origins_of(source, 0, 1), "row 1, token 1"
    birth = loopos.Birth(1, "forward", 0, "linear", "blocks.0.x", (1, 1, 2), 1.0, "", micro_batch=0, place=place)
    assert origin_of(origins, birth).startswith("Row 1 of micro-batch 0 is line ")
    for changed in ({"place": "output 3, input 2"}, {"micro_batch": None}, {"micro_batch": 1}, {"index": (7, 1, 2)}):
        assert origin_of(origins, dataclasses.replace(birth, **changed)) == ""
    assert origin_of(origins, None) == ""
    stream = open_sources(b"x" * 100, vocab_size=256, context_length=32).train
    assert origins_of(stream, 0, 1) == ()
    assert origin_of((), birth) == ""
