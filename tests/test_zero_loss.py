"""Case 1 whole, on the real model: truncation removes every completion, and the log of the program said loss 0.0."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

import loopos
from loopos.cli import main

ROWS, LENGTH, STEPS = 6, 32, 3
PROMPT = "Once upon a time a small boat left the harbour in the rain, and nobody on the pier knew where it would go. "
COMPLETION = "It went to the islands."
LONG = "a training of 135 million weights; the operations and the trainer have tests of theirs"


class Forced:
    """What a loader makes that cuts at LENGTH and masks the prompt, without a look at what is left."""

    def __init__(self, tokenizer):
        prompt, answer = tokenizer.encode(2 * PROMPT), tokenizer.encode(COMPLETION)
        ids = np.array([*prompt, *answer])[: LENGTH + 1]
        labels = np.array([-100] * len(prompt) + answer)[: LENGTH + 1]
        self._batch = ids[None, :-1], labels[None, 1:]

    def batch(self, step, micro):
        return self._batch


@pytest.fixture(scope="module")
def model(real_gguf):
    pytest.importorskip("gguf", reason="the real model is a GGUF file: extra [gguf]")
    return loopos.gguf.read(real_gguf)


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = [{"prompt": f"{i}. {2 * PROMPT}", "completion": COMPLETION} for i in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def digest(model):
    return [hashlib.sha256(np.ascontiguousarray(value)).digest() for value in model.parameters().values()]


@pytest.mark.real
@pytest.mark.unsanitized(LONG)
@pytest.mark.timeout(600)
def test_no_step_is_made_of_nothing_and_no_loss_is_invented(model, examples, tmp_path, capsys):
    before = digest(model)
    with pytest.raises(ValueError, match=f"nothing is left to learn in any of {ROWS} examples") as stopped:
        loopos.train(model, examples, max_steps=STEPS, batch_size=1, seq_len=LENGTH, progress=False)
    assert f"{ROWS} with nothing to learn: what is to be learned lies behind the first seq_len tokens" in str(
        stopped.value
    )
    assert "A larger seq_len" in str(stopped.value)
    assert digest(model) == before

    model.freeze("blocks.*")  # keeps the checkpoint small; final norm and head would learn
    run = tmp_path / "forced"
    with pytest.warns(UserWarning, match=f"every target of {STEPS} updates was -100, so nothing was learned"):
        loopos.train(
            model,
            Forced(model.tokenizer),
            max_steps=STEPS,
            output_dir=run,
            log_every=1,
            save_every=None,
            progress=False,
        )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["valid_tokens"] for line in lines] == [0] * STEPS
    assert all("loss" not in line and "grad_norm" not in line for line in lines)
    assert [line["applied"] for line in lines] == [0] * STEPS
    assert digest(model) == before
    capsys.readouterr()
    assert main(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counters"] == []  # there is no loss to count
    assert main(["explain", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["causes"][0] == "labels-masked"


def test_what_the_audit_advises_learns_and_is_in_the_report(examples, tmp_path, capsys):
    model = loopos.ModelConfig(vocab_size=256, context_length=256, n_layer=1, n_head=2, d_model=16)
    runs = [tmp_path / "a", tmp_path / "b"]
    for run, rate in zip(runs, (1e-5, 2e-5), strict=True):
        loopos.train(
            model, examples, max_steps=2, batch_size=1, seq_len=256, learning_rate=rate, output_dir=run, log_every=1,
            progress=False,
        )  # fmt: skip
    assert main(["report", str(runs[0]), "--compare", str(runs[1]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    audit, (loss, norm) = told["audit"], told["counters"]
    assert (audit["examples"], audit["empty_rows"]) == (ROWS, 0)
    assert audit["valid"] + audit["masked"] == audit["tokens"] > 0
    assert (loss["total"], loss["finite"], loss["zero"], norm["nan"]) == (2, 2, 0, 0)
    assert not told["comparison"]["comparable"]
    assert told["comparison"]["reasons"][0].startswith("other learning rates: learning rate 1e-05 against 2e-05")
    page = (runs[0] / "report.html").read_text()
    assert "Label audit" in page
    assert "not comparable: other learning rates" in page
