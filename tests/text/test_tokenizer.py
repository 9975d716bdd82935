"""loopos/text/tokenizer.py: loopos.Tokenizer as object, file and folder."""

import copy
import pickle
import sys

import numpy as np
import pytest

import loopos
from loopos import Tokenizer
from loopos.data import load_ids
from loopos.data.tokenizer import resolve, tokenizer_from_dict, tokenizer_to_dict

TEXT = "the miller had three sons, his mill, his ass, and his cat. " * 20


def test_every_form_gives_the_same_ids(made, tmp_path):
    made.save(str(tmp_path / "tokenizer.json"))
    expected = made.encode(TEXT, add_special_tokens=False).ids
    forms = (made, Tokenizer(made), tmp_path / "tokenizer.json", str(tmp_path / "tokenizer.json"), str(tmp_path))
    for spec in (*forms, Tokenizer.from_pretrained(tmp_path), Tokenizer.from_file(tmp_path / "tokenizer.json")):
        ids, tokenizer = load_ids(TEXT, spec)
        assert ids.tolist() == expected
        assert ids.dtype == np.int32
        assert tokenizer.vocab_size == made.get_vocab_size() == 280
        assert tokenizer.decode(ids) == TEXT
        assert tokenizer_to_dict(tokenizer) == tokenizer_to_dict(resolve(made))


def test_what_it_takes_and_gives(made):
    tokenizer = Tokenizer(made, config={"eos_token": {"content": "<eos>"}, "bos_token": "<none>"})
    ids = tokenizer.encode("the cat<eos>")
    assert type(ids) is list
    assert all(type(id) is int for id in ids)
    assert ids[-1] == tokenizer.eos == 0
    assert tokenizer.bos is None
    assert tokenizer.pad is None
    assert tokenizer.encode("the cat", add_special_tokens=True) == ids
    assert tokenizer.decode(ids) == tokenizer.decode(np.array(ids)) == "the cat<eos>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the cat"
    assert tokenizer.id_to_token(0) == "<eos>"
    assert tokenizer.id_to_token(280) is tokenizer.token_to_id("<none>") is None
    assert repr(tokenizer) == "Tokenizer(280 tokens)"


def test_what_it_refuses(made):
    tokenizer = Tokenizer(made)
    with pytest.raises(TypeError, match="text must be str"):
        tokenizer.encode(b"x")
    with pytest.raises(ValueError, match=r"lone surrogate U\+DC80 at position 1"):
        tokenizer.encode("a\udc80")
    for id in (280, -1):
        with pytest.raises(IndexError, match=rf"id {id} at position 1 is outside 0\.\.279"):
            tokenizer.decode([0, id])
    for id in (1.0, True, "a"):
        with pytest.raises(TypeError, match="ids must be integers"):
            tokenizer.decode([id])
    with pytest.raises(TypeError, match=r"backend must be a tokenizers\.Tokenizer, got 'x'"):
        Tokenizer("x")
    with pytest.raises(ValueError, match=r"this tokenizer has no chat template; set tokenizer\.chat_template"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}])


def test_vocab_size_reaches_the_highest_id(made):
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [hf]")
    gaps = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 9}, unk_token="a")))
    assert gaps.vocab_size == 10  # ids 1..8 have no token
    made.add_special_tokens(["<added>"])
    assert Tokenizer(made).vocab_size == 281


def test_a_training_takes_it_and_knows_it_again(made, tmp_path):
    config = loopos.ModelConfig(vocab_size=281, context_length=8, n_layer=1, n_head=2, d_model=8)
    settings = {"output_dir": tmp_path / "run", "progress": False}
    loopos.train(config, TEXT, tokenizer=made, max_steps=1, **settings)
    loopos.train(config, TEXT, tokenizer=made, max_steps=2, resume="auto", **settings)
    made.add_tokens(["zzz"])
    with pytest.raises(ValueError, match="the tokenizer: "):
        loopos.train(config, TEXT, tokenizer=made, max_steps=3, resume="auto", **settings)


def test_a_checkpoint_tells_it_from_others_but_does_not_carry_it(made):
    kept = tokenizer_to_dict(Tokenizer(made))
    assert kept["kind"] == "hf"
    assert kept["vocab_size"] == 280
    with pytest.raises(ValueError, match=r"does not carry the tokenizer\.json"):
        tokenizer_from_dict(kept)


def test_copies_share_nothing(made):
    tokenizer = Tokenizer(made, config={"eos_token": "<eos>"}, templates={"default": "x"})
    for twin in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert twin == tokenizer
        twin.backend.add_tokens(["zzz"])
        twin.config["eos_token"] = "no"
        assert tokenizer.vocab_size == 280
        assert tokenizer.eos == 0
        assert twin.chat_template == "x"


def test_what_cannot_be_read(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers", reason="the extra [hf]")
    with pytest.raises(
        ValueError, match=r"must be one of 'bytes', 'chars', got 'none\.json', which is no tokenizer\.json"
    ):
        resolve("none.json")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json"):
        Tokenizer.from_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"expected a tokenizer\.json that tokenizers can read"):
        resolve(path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[hf\]'"):
        resolve(path)


def test_a_pointer_in_the_place_of_a_tokenizer_is_named(tmp_path):
    pytest.importorskip("tokenizers", reason="the extra [hf]")
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n")
    with pytest.raises(
        ValueError, match=r"tokenizer\.json: no tokenizer\.json: this is a git-lfs pointer.*git lfs pull"
    ):
        Tokenizer.from_file(tmp_path)
