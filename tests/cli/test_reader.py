"""loopos/cli/reader.py: a text is read by the tokenizer of the model, or not at all."""

import numpy as np
import pytest

import loopos
from loopos.cli import main

TEXT = "the miller had three sons, his mill, his ass, and his cat. " * 30
SMALL = {"context_length": 16, "n_layer": 1, "n_head": 2, "d_model": 16}
FLAGS = [*(f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()), "--batch-size", "2"]
QUICK = ["--max-steps", "2", "--sample", "0", "--no-progress"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def base(tmp_path):
    """base(vocab_size): a Hugging Face folder without a tokenizer."""

    def make(vocab_size):
        folder = tmp_path / f"base{vocab_size}"
        loopos.Model(loopos.ModelConfig(vocab_size=vocab_size, **SMALL)).save_pretrained(folder)
        return str(folder)

    return make


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("vocab_size", [128, 257, 331])
@pytest.mark.parametrize("command", ["eval", "train", "doctor"])
def test_a_folder_without_a_tokenizer_reads_no_text(command, vocab_size, base, text, capsys):
    folder = base(vocab_size)
    place = [folder, text] if command == "eval" else [text, "--init", folder]
    told = refused(capsys, command, *place)
    assert f"{folder} holds no tokenizer, so a text cannot be turned into ids of its {vocab_size}" in told
    assert f"'bytes' has 256 tokens, the model in {folder} has {vocab_size}" in refused(
        capsys, command, *place, "--tokenizer", "bytes"
    )
    assert "'chars' makes a vocabulary of its own" in refused(capsys, command, *place, "--tokenizer", "chars")


def test_ids_need_no_tokenizer(base, tmp_path, capsys):
    folder, ids = base(331), str(tmp_path / "ids.npy")
    np.save(ids, np.arange(900) % 331)
    assert main(["eval", folder, ids]) == 0
    assert main(["train", ids, "--init", folder, *QUICK]) == 0
    assert "over 899 tokens" in capsys.readouterr().out


def test_an_exported_model_of_bytes_reads_bytes(base, text):
    assert main(["eval", base(256), text]) == 0
    assert main(["train", text, "--init", base(256), *QUICK]) == 0


@pytest.mark.parametrize("kind", ["bytes", "chars"])
def test_a_run_reads_with_its_own(kind, text, tmp_path, capsys):
    run, other = str(tmp_path / "run"), str(tmp_path / "few.txt")
    (tmp_path / "few.txt").write_text("the cat and his sons " * 3)  # fewer characters than the run knows
    assert main(["train", text, *FLAGS, *QUICK, "--tokenizer", kind, "--output-dir", run]) == 0
    capsys.readouterr()
    told = []
    for more in ([], ["--tokenizer", kind]):
        assert main(["eval", run, other, *more]) == 0
        told.append(capsys.readouterr().out)
        assert main(["train", other, "--init", run, *more, *QUICK]) == 0
        capsys.readouterr()
    assert told[0] == told[1]
    another = {"bytes": "chars", "chars": "bytes"}[kind]
    told = refused(capsys, "eval", run, other, "--tokenizer", another)
    assert "makes a vocabulary of its own" in told or "is another than that of" in told


def test_a_run_whose_data_were_ids_reads_no_text(text, tmp_path, capsys):
    run, ids = str(tmp_path / "run"), str(tmp_path / "ids.npy")
    np.save(ids, np.arange(900) % 256)
    assert main(["train", ids, *FLAGS, *QUICK, "--vocab-size", "256", "--output-dir", run]) == 0
    assert "holds no tokenizer" in refused(capsys, "eval", run, text)
    assert main(["eval", run, text, "--tokenizer", "bytes"]) == 0  # as many as there are bytes: they may be
    assert main(["eval", run]) == 0  # the ids it held out


def test_a_tokenizer_json_is_used_and_kept(text, tmp_path, capsys):
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [hf]")
    words = {word: i for i, word in enumerate(["?", *sorted(set(TEXT.split()))])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    size, path = made.get_vocab_size(), str(tmp_path / "words.json")
    made.save(path)
    run, folder = str(tmp_path / "run"), tmp_path / "hf"
    assert main(["train", text, *FLAGS, *QUICK, "--tokenizer", path, "--output-dir", run, "--export", str(folder)]) == 0
    (tmp_path / "words.json").unlink()  # the run has its own
    assert main(["eval", run, text]) == 0
    tokens = len(TEXT.split()) - 1
    assert f"over {tokens} tokens" in capsys.readouterr().out
    assert main(["generate", run, "--prompt", "the miller", "--max-new-tokens", "2"]) == 0
    assert capsys.readouterr().out.startswith("the miller")
    assert "is another than that of" in refused(capsys, "eval", run, text, "--tokenizer", "bytes")

    assert f"that of {folder}, tokenizer.json with {size} tokens" in refused(
        capsys, "eval", str(folder), text, "--tokenizer", "bytes"
    )
    assert main(["eval", str(folder), text]) == 0
    assert f"over {tokens} tokens" in capsys.readouterr().out
    assert main(["generate", str(folder), "--prompt", "the miller", "--max-new-tokens", "2"]) == 0
    assert main(["train", text, "--init", str(folder), *QUICK]) == 0
    assert main(["doctor", text, "--init", str(folder), "--quick"]) in (0, 1)
    made.add_tokens(["zzz"])
    kept = tmp_path / "run" / "pretrained" / "tokenizer.json"
    made.save(str(kept))
    told = refused(capsys, "eval", run, text)
    assert f"the tokenizer has {size + 1} tokens, the model {size} ids" in told or "not the tokenizer that" in told
    kept.unlink()
    assert "holds no tokenizer" in refused(capsys, "eval", run, text)
