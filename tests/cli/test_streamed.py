"""loopos train on a folder of texts, a batch at a time, with the adapter and the flags of case 3's run line."""

from __future__ import annotations

import json

import pytest

import loopos
from loopos import LoRA, Model, Modulated
from loopos.cli import main
from loopos.cli.adapter import take

CONFIG = loopos.ModelConfig(
    256, 16, 2, 2, 32, norm="rmsnorm", activation="swiglu", position="rope", bias=False, d_ff=48
)
QUICK = ["--max-steps", "3", "--sample", "0", "--no-progress", "--log-every", "1"]


@pytest.fixture
def hf(tmp_path):
    Model(CONFIG, seed=1).save_pretrained(tmp_path / "hf")
    return str(tmp_path / "hf")


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts").mkdir()
    for name in "ab":
        (tmp_path / "texts" / f"{name}.txt").write_text("to be, or not to be, that is the question. " * 30)
    return str(tmp_path / "texts")


def refused(capsys, *options):
    assert main(["train", *options]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_run_line_of_case_3(hf, texts, weights, tmp_path):
    """But for what is learned of a teacher, which is in docs/modulated.md."""
    out = str(tmp_path / "run")
    line = ["--adapter", "modulated", "--adapter-rank", "16", "--weights", weights, "--safe-mode", "--streaming"]
    line += ["--share-embeddings", "--batch-size", "1", "--grad-accum", "8", "--learning-rate", "5e-5"]
    line += ["--warmup-steps", "2", "--save-every", "500"]
    assert main(["train", texts, "--init", hf, *line, *QUICK, "--output-dir", out]) == 0
    model, base = Model.from_pretrained(out), Model.from_pretrained(hf, weights=weights)
    assert model.adapter == Modulated(16, safe_mode=True)
    assert model.weights == weights
    for name, view in base.parameters().items():
        assert model.parameters()[name].tobytes() == view.tobytes()
    with open(f"{out}/metrics.jsonl") as log:
        lines = [json.loads(line) for line in log]
    assert [line["valid_tokens"] for line in lines] == [8 * 16] * 3


def test_a_new_model_learns_a_folder_of_bytes(texts, tmp_path, capsys):
    small = ["--context-length", "8", "--n-layer", "1", "--n-head", "2", "--d-model", "16", "--batch-size", "2"]
    out = str(tmp_path / "run")
    assert main(["train", texts, "--streaming", "--no-share-embeddings", *small, *QUICK, "--output-dir", out]) == 0
    assert "updates 3" in capsys.readouterr().out
    assert not Model.from_pretrained(out).config.tie_embeddings


def test_what_cannot_be_streamed_is_refused(hf, texts, capsys, tmp_path):
    assert "streaming reads a folder of text files; name it" in refused(capsys, "--streaming", *QUICK)
    assert "there is none" in refused(capsys, str(tmp_path / "absent"), "--streaming", *QUICK)
    assert "'chars' reads all of a text" in refused(capsys, texts, "--streaming", "--tokenizer", "chars", *QUICK)


def test_share_embeddings_is_a_fact_of_a_model_that_is_there(hf, texts, capsys):
    said = refused(capsys, texts, "--init", hf, "--streaming", "--no-share-embeddings", *QUICK)
    assert "the model of init has the token embedding as its head; leave it out" in said
    said = refused(capsys, texts, "--streaming", "--no-share-embeddings", "--tie-embeddings", *QUICK)
    assert "contradict each other" in said


def test_kinds_of_adapters():
    assert take({}) is None
    assert take({"adapter": "modulated"}) == Modulated()
    asked = {"adapter": "modulated", "adapter_rank": 4, "adapter_gate": "tanh", "safe_mode": False}
    assert take(asked) == Modulated(4, "tanh")
    assert asked == {}
    assert take({"adapter": "lora", "adapter_rank": 4}) == take({"lora_rank": 4}) == LoRA(4)
    assert take({"lora_rank": 4, "adapter_rank": 4}) == LoRA(4)
    for given, words in (
        ({"adapter": "lora"}, "adapter without lora_rank|lora_rank: the rank of the adapter must be given"),
        ({"adapter_rank": 3, "lora_rank": 4}, "say the same thing; give one"),
        ({"adapter": "modulated", "lora_alpha": 3.0}, "lora_alpha belong to --adapter lora, got --adapter modulated"),
        ({"lora_rank": 3, "safe_mode": True}, "safe_mode belong to --adapter modulated, got --adapter lora"),
        ({"adapter": "prefix"}, "train: adapter must be one of"),
    ):
        with pytest.raises(ValueError, match=words):
            take(given)
