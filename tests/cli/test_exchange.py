"""loopos/cli/exchange.py: loopos import and loopos export, there and back."""

import json

import numpy as np
import pytest

import loopos
from loopos import Tokenizer
from loopos.cli import main

TEXT = "the miller had three sons, his mill, his ass, and his cat. " * 30
LLAMA = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False}
SHAPE = {"vocab_size": 264, "context_length": 16, "n_layer": 1, "n_head": 2, "d_model": 32}


@pytest.fixture
def run(tmp_path):
    """A run that learned a text with a tokenizer of its own."""
    for package in ("gguf", "tokenizers", "jinja2"):
        pytest.importorskip(package, reason="the extra [gguf]")
    tokenizer = Tokenizer.train([TEXT], 264, ["<eos>"])
    tokenizer.chat_template = "{{ messages[0].content }}"
    config = loopos.ModelConfig(**SHAPE, **LLAMA)
    loopos.train(config, TEXT, tokenizer=tokenizer, max_steps=2, output_dir=tmp_path / "run", progress=False)
    return tmp_path / "run"


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main([str(each) for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_there_and_back(run, tmp_path, capsys):
    file, folder, direct = str(tmp_path / "m.gguf"), str(tmp_path / "hf"), str(tmp_path / "direct")
    assert main(["export", str(run), file, "--type", "f32"]) == 0
    assert "GGUF file (f32)" in capsys.readouterr().out
    assert main(["import", file, folder]) == 0
    assert "264 tokens, a chat template" in capsys.readouterr().out
    assert main(["export", str(run), direct, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["tokens"], told["chat_template"]) == ("Hugging Face folder", 264, True)
    first = loopos.Model.from_pretrained(run)
    for place in (folder, direct):
        again = loopos.Model.from_pretrained(place)
        assert all(np.array_equal(array, again.parameters()[name]) for name, array in first.parameters().items())
        assert again.tokenizer.encode(TEXT) == first.tokenizer.encode(TEXT)
        assert again.tokenizer.chat_template == first.tokenizer.chat_template
        assert again.stop_ids == [0]
    assert main(["eval", folder, str(_text(tmp_path))]) == 0
    assert main(["generate", folder, "--prompt", "the cat", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.count("the cat") == 1


def _text(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    return path


def test_what_is_refused(run, tmp_path, capsys):
    assert "type is that of a .gguf file" in refused(capsys, "export", run, tmp_path / "hf", "--type", "f16")
    assert "is the folder that is exported" in refused(capsys, "export", run, run)
    (tmp_path / "a.gguf").mkdir()
    assert "is a folder" in refused(capsys, "export", run, tmp_path / "a.gguf")
    assert "no GGUF file" in refused(capsys, "import", _text(tmp_path), tmp_path / "hf")
    assert "m.gguf" in refused(capsys, "import", tmp_path / "m.gguf", tmp_path / "hf")
    loopos.train(loopos.ModelConfig(256, 16, 1, 2, 16), TEXT, max_steps=1, output_dir=tmp_path / "gpt", progress=False)
    assert "no architecture of GGUF has this configuration" in refused(capsys, "export", tmp_path / "gpt", "x.gguf")
    assert not (tmp_path / "hf").exists()
