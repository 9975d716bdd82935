"""loopos.train on examples: what is learned, counted, scored, resumed and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from example_tokens import LetterTokenizer

import loopos
from loopos.data.sources import open_sources

TOKENIZER = LetterTokenizer()
CONFIG = loopos.ModelConfig(400, 48, n_layer=1, n_head=2, d_model=32)
RECORDS = [{"prompt": f"{n}+1=", "completion": f"{n + 1}."} for n in range(30)]
QUICK = {"tokenizer": TOKENIZER, "batch_size": 2, "progress": False, "log_every": 1}


def written(path, records=RECORDS):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def weights(model):
    return {name: view.copy() for name, view in model.parameters().items()}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("pack", [True, False])
def test_completions_alone_are_learned(pack):
    result = loopos.train(CONFIG, RECORDS, epochs=1, pack=pack, **QUICK)
    valid = [len(TOKENIZER.encode(record["completion"])) + 1 for record in RECORDS]
    rows = 30 if not pack else open_sources(RECORDS, tokenizer=TOKENIZER, vocab_size=400, context_length=48).train.rows
    assert result.step == -(-rows // 2)
    if rows % 2 == 0:
        assert sum(entry["valid_tokens"] for entry in result.history) == sum(valid)
    everything = loopos.train(CONFIG, RECORDS, epochs=1, pack=pack, mask_prompt=False, **QUICK)
    assert everything.history[0]["valid_tokens"] > 1.5 * result.history[0]["valid_tokens"]


def test_packed_rows_give_the_gradients_of_separate_ones():
    """Complaint 8: packed examples see each other. One update over all of them, in float64: the same weights."""
    found = []
    for pack in (True, False):
        model = loopos.Model(CONFIG, seed=3, dtype="float64")
        rows = open_sources(RECORDS, tokenizer=TOKENIZER, vocab_size=400, context_length=48, pack=pack).train.rows
        settings = QUICK | {"batch_size": rows}
        result = loopos.train(model, RECORDS, max_steps=3, pack=pack, optimizer="sgd", learning_rate=0.5, **settings)
        found.append((weights(model), [entry["loss"] for entry in result.history]))
    (packed, losses), (separate, expected) = found
    assert losses == pytest.approx(expected, rel=1e-12)
    assert losses[2] < losses[0]
    for name, array in separate.items():
        np.testing.assert_allclose(packed[name], array, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("stop", [1, 5])
def test_a_run_on_examples_is_resumed_exactly(tmp_path, pack, stop):
    path = written(tmp_path / "a.jsonl")
    settings = QUICK | {"pack": pack, "grad_accum": 2, "learning_rate": 1e-2}
    whole = loopos.train(CONFIG, path, max_steps=8, **settings).model
    loopos.train(CONFIG, path, max_steps=stop, output_dir=tmp_path / "run", lr_schedule="constant", **settings)
    plain = loopos.train(CONFIG, path, max_steps=8, lr_schedule="constant", **settings).model
    resumed = loopos.train(
        CONFIG, path, max_steps=8, output_dir=tmp_path / "run", resume="auto", lr_schedule="constant", **settings
    )
    assert same(weights(resumed.model), weights(plain))
    assert not same(weights(plain), weights(whole))


@pytest.mark.parametrize(
    ("changed", "records", "named"),
    [
        ({"pack": False}, RECORDS, "the data's packed"),
        ({"mask_prompt": False}, RECORDS, "the data's mask_prompt"),
        ({}, RECORDS[:-1], "the data's length"),
    ],
)
def test_other_examples_are_not_resumed(tmp_path, changed, records, named):
    loopos.train(CONFIG, RECORDS, max_steps=1, output_dir=tmp_path / "run", **QUICK)
    with pytest.raises(ValueError, match=f"this is not the run.*{named}"):
        loopos.train(CONFIG, records, max_steps=2, output_dir=tmp_path / "run", resume="auto", **QUICK, **changed)


def test_a_folder_brings_its_held_out_examples(tmp_path):
    written(tmp_path / "train.jsonl")
    written(tmp_path / "valid.jsonl", RECORDS[:5])
    result = loopos.train(CONFIG, tmp_path, max_steps=2, **QUICK)
    assert result.best["step"] == 2
    model = result.model
    found = open_sources(RECORDS[:5], tokenizer=TOKENIZER, vocab_size=400, context_length=48, pack=False).train
    ids, targets = (np.concatenate(parts) for parts in zip(*(found.batch(0) for _ in range(1)), strict=True))
    assert np.isfinite(model.loss(ids, targets))
    given = loopos.train(CONFIG, str(tmp_path), eval_data=written(tmp_path / "other.jsonl"), max_steps=2, **QUICK)
    assert given.best["eval_loss"] != result.best["eval_loss"]
    assert loopos.train(CONFIG, tmp_path / "train.jsonl", max_steps=1, **QUICK).best is None


def test_evaluation_is_the_mean_over_all_answers(tmp_path):
    result = loopos.train(CONFIG, RECORDS, eval_data=RECORDS[:7], max_steps=1, eval_tokens=None, **QUICK)
    total = count = 0
    for record in RECORDS[:7]:
        prompt = TOKENIZER.encode(record["prompt"])
        ids = np.array([prompt + TOKENIZER.encode(record["completion"]) + [TOKENIZER.eos]])
        targets = ids[:, 1:].copy()
        targets[:, : len(prompt) - 1] = -100
        valid = int((targets != -100).sum())
        total, count = total + valid * result.model.loss(ids[:, :-1], targets), count + valid
    assert result.best["eval_loss"] == pytest.approx(total / count, rel=1e-5)


def test_nothing_left_to_learn_stops_the_run_and_says_why():
    """Complaint 1: trained on no tokens, without a word."""
    with pytest.raises(
        ValueError, match=r"data: nothing is left to learn in any of 30 examples: 30 .*behind the first"
    ):
        loopos.train(CONFIG, RECORDS, seq_len=2, max_steps=1, **QUICK)
    with pytest.raises(ValueError, match=r"eval_data: nothing is left to learn in any of 1 examples"):
        loopos.train(CONFIG, RECORDS, eval_data=[{"prompt": "a", "completion": ""}], max_steps=1, **QUICK)


def test_rows_without_a_target_give_no_nan():
    """Complaint 2: such rows are left out, and no mean is 0/0."""
    mixed = [{"prompt": "x" * 60, "completion": "y"}, *RECORDS[:3], {"prompt": "x", "completion": ""}]
    result = loopos.train(CONFIG, mixed, max_steps=6, pack=False, **{**QUICK, "batch_size": 1})
    assert all(np.isfinite(entry["loss"]) and entry["valid_tokens"] > 0 for entry in result.history)


def test_the_end_is_learned():
    """Complaint 3: a model that never stops. It writes the answer, then the end."""
    records = [{"prompt": f"{letter}=", "completion": letter * 3} for letter in "abcd"]
    settings = QUICK | {"batch_size": 4, "learning_rate": 1e-2}
    model = loopos.train(CONFIG, records, max_steps=120, pack=False, **settings).model
    for record in records:
        prompt = TOKENIZER.encode(record["prompt"])
        written_ids = model.generate(np.array([prompt]), 4, temperature=0)[0, len(prompt) :]
        assert TOKENIZER.decode(written_ids) == record["completion"] + "<end>"


def test_padding_changes_nothing():
    """The same examples in rows of other widths: the same loss."""
    short, long = RECORDS[:4], [*RECORDS[:4], {"prompt": "x" * 40, "completion": "y"}]
    model = loopos.Model(CONFIG, dtype="float64")
    losses = []
    for data in (short, long):
        source = open_sources(
            data, tokenizer=TOKENIZER, vocab_size=400, context_length=48, pack=False, batch_size=1
        ).train
        rows = {source.origin(step, 0, 0): source.batch(step) for step in range(source.rows)}
        losses.append([model.loss(*rows[f"record {n}"]) for n in range(4)])
    batch = open_sources(
        long, tokenizer=TOKENIZER, vocab_size=400, context_length=48, pack=False, batch_size=5
    ).train.batch(0)
    assert batch[0].shape == (5, 48)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_the_audit_is_printed_before_the_training(capsys):
    loopos.train(CONFIG, RECORDS, max_steps=1, **{**QUICK, "progress": True})
    assert "label audit: 30 examples (30 of prompt and completion)" in capsys.readouterr().err
    loopos.train(CONFIG, RECORDS, max_steps=1, **QUICK)
    assert capsys.readouterr().err == ""


def test_settings_are_checked():
    for name in ("pack", "mask_prompt"):
        with pytest.raises(TypeError, match=f"train: {name} must be True or False"):
            loopos.train(CONFIG, RECORDS, max_steps=1, **{name: 1}, **QUICK)
    with pytest.raises(IndexError, match=r"data: id \d+ of record 0 is outside 0..49; vocab_size is 50"):
        loopos.train(loopos.ModelConfig(50, 48, 1, 2, 16), RECORDS, max_steps=1, **QUICK)
    with pytest.raises(ValueError, match="seq_len must be at most context_length 48, got 64"):
        loopos.train(CONFIG, RECORDS, seq_len=64, max_steps=1, **QUICK)


def test_bytes_and_a_list_are_enough():
    config = loopos.ModelConfig(256, 32, 1, 2, 16)
    result = loopos.train(config, RECORDS, max_steps=2, progress=False)
    assert result.step == 2
