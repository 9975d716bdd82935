"""loopos/data/hf_tokenizer.py: a tokenizer of Hugging Face as object, file and folder. The package is an extra."""

import sys

import numpy as np
import pytest

import loopos
from loopos.data import load_ids
from loopos.data.hf_tokenizer import HuggingFaceTokenizer, load
from loopos.data.tokenizer import resolve, tokenizer_from_dict, tokenizer_to_dict

pytestmark = pytest.mark.reference
TEXT = "the miller had three sons, his mill, his ass, and his cat. " * 20


@pytest.fixture
def made():
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<eos>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 0)]
    )
    return tokenizer


def test_every_form_gives_the_same_ids(made, tmp_path):
    made.save(str(tmp_path / "tokenizer.json"))
    expected = made.encode(TEXT, add_special_tokens=False).ids
    for spec in (made, tmp_path / "tokenizer.json", str(tmp_path / "tokenizer.json"), str(tmp_path), load(tmp_path)):
        ids, tokenizer = load_ids(TEXT, spec)
        assert ids.tolist() == expected
        assert ids.dtype == np.int32
        assert tokenizer.vocab_size == made.get_vocab_size() == 280
        assert tokenizer.decode(ids) == TEXT
        assert tokenizer_to_dict(tokenizer) == tokenizer_to_dict(resolve(made))
    with pytest.raises(TypeError, match="text must be str"):
        resolve(made).encode(b"x")


def test_a_training_takes_it_and_knows_it_again(made, tmp_path):
    config = loopos.ModelConfig(vocab_size=280, context_length=8, n_layer=1, n_head=2, d_model=8)
    settings = {"output_dir": tmp_path / "run", "progress": False}
    loopos.train(config, TEXT, tokenizer=made, max_steps=1, **settings)
    loopos.train(config, TEXT, tokenizer=made, max_steps=2, resume="auto", **settings)
    made.add_tokens(["zzz"])
    with pytest.raises(ValueError, match="the tokenizer: "):
        loopos.train(config, TEXT, tokenizer=made, max_steps=3, resume="auto", **settings)


def test_a_checkpoint_tells_it_from_others_but_does_not_carry_it(made):
    kept = tokenizer_to_dict(HuggingFaceTokenizer(made))
    assert kept["kind"] == "hf"
    assert kept["vocab_size"] == 280
    with pytest.raises(ValueError, match=r"does not carry the tokenizer\.json"):
        tokenizer_from_dict(kept)


def test_what_cannot_be_read(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    with pytest.raises(
        ValueError, match=r"must be one of 'bytes', 'chars', got 'none\.json', which is no tokenizer\.json"
    ):
        resolve("none.json")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json"):
        load(tmp_path)
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
        load(tmp_path)
