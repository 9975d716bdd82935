"""loopos/companions.py: a tokenizer goes where its model goes (folder, run, checkpoint, copy); its vocabulary fits."""

import copy
import json
import pickle

import numpy as np
import pytest

import loopos
from loopos import CheckpointError, Tokenizer
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer

TEXT = "the miller had three sons, his mill, his ass, and his cat. " * 30
SHAPE = {"context_length": 16, "n_layer": 1, "n_head": 2, "d_model": 8}
LLAMA = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False}
QUICK = {"max_steps": 2, "progress": False}


@pytest.fixture
def tokenizer():
    pytest.importorskip("tokenizers", reason="the extra [hf]")
    made = Tokenizer.train([TEXT], 264, ["<eos>", "<pad>"])
    made.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    return made


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A Hugging Face folder of 270 ids with a tokenizer of 264."""
    model = loopos.Model(loopos.ModelConfig(vocab_size=270, **SHAPE, **LLAMA))
    model.tokenizer = tokenizer
    model.save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def same(found, expected):
    assert found == expected
    assert (found.eos, found.pad, found.chat_template) == (expected.eos, expected.pad, expected.chat_template)


def test_a_folder_has_it_with_its_special_ids(folder, tokenizer):
    same(loopos.Model.from_pretrained(folder).tokenizer, tokenizer)
    for name in ("config.json", "generation_config.json"):
        said = json.loads((folder / name).read_text())
        assert (said["eos_token_id"], said["pad_token_id"], said["bos_token_id"]) == (0, 1, None)


def test_a_run_learns_a_text_with_it_and_keeps_it(folder, tokenizer, tmp_path):
    model, run = loopos.Model.from_pretrained(folder), tmp_path / "run"
    loopos.train(model, TEXT, output_dir=run, **QUICK)  # without being told which
    ids = loopos.data.load_ids(TEXT, tokenizer)[0]
    twin = loopos.Model.from_pretrained(folder)
    loopos.train(twin, ids, **QUICK)
    assert all(np.array_equal(a, twin.state_dict()[name]) for name, a in model.state_dict().items())
    for place in (run, run / "step-00000002"):
        same(loopos.Model.from_pretrained(place).tokenizer, tokenizer)
        same(Tokenizer.from_pretrained(place), tokenizer)
    resumed = loopos.train(model, TEXT, output_dir=run, resume="auto", **QUICK | {"max_steps": 3}).model
    resumed.save_pretrained(tmp_path / "again")
    same(loopos.Model.from_pretrained(tmp_path / "again").tokenizer, tokenizer)


def test_a_run_from_a_configuration_keeps_what_it_was_given(tokenizer, tmp_path):
    config = loopos.ModelConfig(vocab_size=264, **SHAPE)
    for given, expected in ((tokenizer, tokenizer), ("chars", CharTokenizer(TEXT)), (None, ByteTokenizer())):
        run = tmp_path / str(given)[:5]
        model = loopos.train(config, TEXT, tokenizer=given, output_dir=run, **QUICK).model
        assert model.tokenizer == loopos.Model.from_pretrained(run).tokenizer == expected
    same(loopos.Model.from_pretrained(tmp_path / str(tokenizer)[:5]).tokenizer, tokenizer)


def test_another_tokenizer_replaces_it(folder, tokenizer, tmp_path):
    model = loopos.Model.from_pretrained(folder)
    other = Tokenizer.train([TEXT], 258, ["</s>", "<s>"])
    model.tokenizer = other
    model.save_pretrained(tmp_path / "other")
    same(loopos.Model.from_pretrained(tmp_path / "other").tokenizer, other)
    assert json.loads((tmp_path / "other" / "generation_config.json").read_text())["bos_token_id"] == 1
    assert not (tmp_path / "other" / "chat_template.jinja").exists()
    run = tmp_path / "run"
    with pytest.warns(UserWarning, match="a vocabulary of its own"):
        loopos.train(model, TEXT, tokenizer="chars", output_dir=run, **QUICK)
    again = loopos.Model.from_pretrained(run)
    assert again.tokenizer == CharTokenizer(TEXT)
    again.save_pretrained(tmp_path / "chars")
    assert not (tmp_path / "chars" / "tokenizer.json").exists()


def test_saved_over_a_folder_it_leaves_nothing_of_the_one_before(folder, tokenizer):
    model = loopos.Model.from_pretrained(folder)
    (folder / "merges.txt").write_text("#version: 0.2")
    model.save_pretrained(folder)  # the same one: what stands beside it is its own
    assert (folder / "merges.txt").exists()
    assert (folder / "chat_template.jinja").exists()
    other = Tokenizer.train([TEXT], 258, ["</s>", "<s>"])
    model.tokenizer = other
    model.save_pretrained(folder)
    same(loopos.Model.from_pretrained(folder).tokenizer, other)
    assert not (folder / "merges.txt").exists()


def test_a_chat_template_that_is_set_later_is_saved(folder, tokenizer, tmp_path):
    opened = loopos.Model.from_pretrained(folder)
    made = loopos.Model(loopos.ModelConfig(vocab_size=270, **SHAPE, **LLAMA))
    made.tokenizer = Tokenizer.train([TEXT], 264, ["<eos>", "<pad>"])
    for number, model in enumerate((opened, made)):
        model.stop_ids = [0, 5]
        model.tokenizer.chat_template = "later"
        place, run = tmp_path / f"saved{number}", tmp_path / f"run{number}"
        model.save_pretrained(place)
        loopos.train(model, TEXT, output_dir=run, **QUICK)
        for again in (loopos.Model.from_pretrained(place), loopos.Model.from_pretrained(run), copy.deepcopy(model)):
            assert again.tokenizer.chat_template == "later"
            assert again.stop_ids == [0, 5]
    untouched = loopos.Model.from_pretrained(folder)
    assert untouched.tokenizer.chat_template == tokenizer.chat_template
    assert untouched.source.companions["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()


def test_copies_have_it(folder, tokenizer):
    model = loopos.Model.from_pretrained(folder)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # before it was asked for
        same(twin.tokenizer, tokenizer)
    same(model.tokenizer, tokenizer)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(twin.tokenizer, tokenizer)
        twin.tokenizer.chat_template = "x"
        assert model.tokenizer.chat_template == tokenizer.chat_template


def test_more_tokens_than_ids_are_refused_with_both_numbers(tokenizer, folder):
    config = loopos.ModelConfig(vocab_size=263, **SHAPE)
    both = "the tokenizer has 264 tokens, the model 263 ids"
    with pytest.raises(ValueError, match=both):
        loopos.Model(config).tokenizer = tokenizer
    with pytest.raises(ValueError, match=both):
        loopos.train(config, TEXT, tokenizer=tokenizer, **QUICK)
    made = Tokenizer.from_pretrained(folder)
    made.backend.add_special_tokens([f"<{i}>" for i in range(7)])  # the vocabulary of 270 ids was not resized
    made.save(folder)
    with pytest.raises(ValueError, match="the tokenizer has 271 tokens, the model 270 ids"):
        loopos.train(loopos.Model.from_pretrained(folder), TEXT, **QUICK)
    assert loopos.train(loopos.Model.from_pretrained(folder), np.arange(270), **QUICK).step == 2  # ids need none


def test_tokens_that_were_added_come_along(folder, tmp_path):
    made = Tokenizer.from_pretrained(folder)
    made.backend.add_special_tokens(["<tool>", "<end>"])
    made.backend.add_tokens(["miller"])
    made.config["eos_token"] = "<end>"
    made.save(folder)
    model = loopos.Model.from_pretrained(folder)
    loopos.train(model, TEXT + "<tool><end>", output_dir=tmp_path / "run", **QUICK)
    loopos.Model.from_pretrained(tmp_path / "run").save_pretrained(tmp_path / "out")
    again = loopos.Model.from_pretrained(tmp_path / "out").tokenizer
    assert again.encode("a<tool> miller<end>") == made.encode("a<tool> miller<end>")
    assert again.vocab_size == 267
    assert again.eos == again.token_to_id("<end>") == 265


def test_a_tokenizer_of_a_run_that_is_another_now(tokenizer, tmp_path):
    config = loopos.ModelConfig(vocab_size=300, **SHAPE)
    loopos.train(config, TEXT, tokenizer=tokenizer, output_dir=tmp_path, **QUICK)
    Tokenizer.train([TEXT], 262).save(tmp_path / "pretrained")
    model = loopos.Model.from_pretrained(tmp_path)  # its weights are sound
    with pytest.raises(CheckpointError, match="not the tokenizer that this run was trained with"):
        model.tokenizer  # noqa: B018


def test_without_the_package_a_model_opens_and_ids_are_learned(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    model = loopos.Model.from_pretrained(folder)
    loopos.train(model, np.arange(200), **QUICK)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[hf\]'"):
        loopos.train(model, TEXT, **QUICK)
