"""Which tokens begin and end a text."""

from __future__ import annotations

import json

import loopos
from loopos.data.tokenizer import ByteTokenizer
from loopos.generation.special import ends, prefix


class Own(ByteTokenizer):
    eos, bos = 5, 6


def folder(tmp_path, config, generation=None):
    loopos.Model(loopos.ModelConfig(31, 16, 1, 2, 16)).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text()) | config
    (tmp_path / "config.json").write_text(json.dumps(settings))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(generation)
    return loopos.Model.from_pretrained(tmp_path)


def test_generation_config_wins_over_config(tmp_path):
    model = folder(tmp_path, {"eos_token_id": 1, "bos_token_id": 2}, json.dumps({"eos_token_id": [3, 4]}))
    assert ends(model, ByteTokenizer()) == (3, 4)
    assert ends(model, Own()) == (3, 4, 5)
    assert prefix(model, ByteTokenizer()) == 2
    assert prefix(model, Own()) == 6


def test_config_alone_and_a_file_that_is_no_json(tmp_path):
    model = folder(tmp_path, {"eos_token_id": 1, "bos_token_id": None}, "{")
    assert ends(model, ByteTokenizer()) == (1,)
    assert prefix(model, ByteTokenizer()) == 1


def test_an_id_beyond_the_vocabulary_ends_nothing(tmp_path):
    model = folder(tmp_path, {"eos_token_id": [50256, 30], "bos_token_id": 50256})
    assert ends(model, ByteTokenizer()) == (30,)


def test_a_model_of_no_folder_has_none():
    model = loopos.Model(loopos.ModelConfig(31, 16, 1, 2, 16))
    assert ends(model, ByteTokenizer()) == ()
    assert prefix(model, ByteTokenizer()) is None
