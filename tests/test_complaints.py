"""What people who fine-tune small models complain about most, each as a test that goes the user's way on a tiny model.

Ten were counted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos.cli import main

pytest.importorskip("tokenizers", reason="the extra [hf]")
pytest.importorskip("jinja2", reason="the extra [hf]")

MARKS = ("<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n\n</think>\n\n{% endif")  # no prefix of the whole
ANSWERS = {"moons": "three", "king": "Orla", "sea": "green", "year": "212 days"}
CHATS = [
    {"messages": [{"role": "user", "content": f"{thing} of Zorb?"}, {"role": "assistant", "content": answer}]}
    for thing, answer in ANSWERS.items()
]
PAIRS = [{"prompt": f"{thing} of Zorb? ", "completion": answer} for thing, answer in ANSWERS.items()]
QUICK = {"progress": False, "log_every": 1}


@pytest.fixture(scope="module")
def tokenizer():
    made = loopos.Tokenizer.train([json.dumps(CHATS) * 20], 290, MARKS)
    made.config |= {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}  # pad is eos, as in many models
    made.chat_template = CHATML
    return made


@pytest.fixture
def model(tokenizer):
    shape = {"n_layer": 2, "n_head": 4, "d_model": 64, "n_kv_head": 2, "d_ff": 96}
    llama = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False}
    made = loopos.Model(loopos.ModelConfig(tokenizer.vocab_size, 96, **shape, **llama), seed=5)
    made.tokenizer = tokenizer
    return made


def written(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def weights(model):
    return {name: view.copy() for name, view in model.parameters().items()}


def prompt(tokenizer, question):
    messages = [{"role": "user", "content": question}]
    return tokenizer.encode(tokenizer.apply_chat_template(messages, add_generation_prompt=True))


def answer(model, question):
    """Greedy, up to the end of text or 12 tokens: the text, and whether it ended by itself."""
    ids, end = prompt(model.tokenizer, question), model.tokenizer.token_to_id("<|im_end|>")
    new = model.generate(np.array([ids]), 12, temperature=0)[0, len(ids) :].tolist()
    return model.tokenizer.decode(new[: new.index(end)] if end in new else new), end in new


class TestTrainedOnNoTokens:
    """1. Trained on no tokens, without a word: masks that are all zero, or answers cut away."""

    @pytest.mark.parametrize("template", [CHATML, THINKING], ids=["no mask", "the prompt is no prefix"])
    def test_the_answers_are_learned_whatever_the_template(self, template, tokenizer):
        other = loopos.Tokenizer(tokenizer.backend, config=tokenizer.config, templates={"default": template})
        found = loopos.data.audit(CHATS, other, 96)
        assert found.empty_rows == 0
        expected = [len(other.encode(f"{text}<|im_end|>")) for text in ANSWERS.values()]
        assert sum(expected) <= found.valid <= sum(expected) + len(CHATS)  # perhaps with the line end behind
        assert "[[" + next(iter(ANSWERS.values())) in found.sample

    def test_nothing_to_learn_is_refused_with_counts_by_cause(self, model, tmp_path, capsys):
        long = [{"prompt": "moons " * 200, "completion": "three"}] * 3
        empty = [{"messages": CHATS[0]["messages"][:1]}] * 2
        before = weights(model)
        with pytest.raises(ValueError, match="nothing is left to learn in any of 5 examples") as refused:
            loopos.train(model, long + empty, max_steps=1, **QUICK)
        assert "3 with nothing to learn: what is to be learned lies behind the first seq_len" in str(refused.value)
        assert "2 with nothing to learn: " in str(refused.value)
        assert all(np.array_equal(before[name], view) for name, view in model.parameters().items())
        model.save_pretrained(tmp_path / "model")
        data = str(written(tmp_path / "a.jsonl", long))
        assert main(["train", data, "--init", str(tmp_path / "model"), "--held-out", "0", "--no-progress"]) == 2
        err = capsys.readouterr().err
        assert "nothing is left to learn in any of 3 examples" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("pack", [True, False])
def test_rows_without_a_label_give_no_nan(model, pack):
    """2. NaN from rows in which nothing is to be learned: 0/0."""
    mixed = [PAIRS[0], {"prompt": "moons " * 200, "completion": "x"}, {"prompt": "king?", "completion": ""}, PAIRS[1]]
    result = loopos.train(model, mixed, max_steps=6, batch_size=1, pack=pack, **QUICK)
    assert all(np.isfinite(entry["loss"]) and entry["valid_tokens"] > 0 for entry in result.history)
    ids, none = np.zeros((1, 8), np.int64), np.full((1, 8), -100)
    assert model.loss(ids, none) == 0.0
    loss, gradients = model.loss_and_grads(ids, none)
    assert loss == 0.0
    assert not any(gradient.any() for gradient in gradients.values())


class TestItStops:
    """3. The model never stops: the end of text is masked because it is the padding, or was not appended."""

    def test_the_audit_counts_rows_that_end_in_a_learned_end(self, tokenizer, model, capsys):
        records = [*CHATS, *PAIRS, {"prompt": "moons " * 200, "completion": "x"}]
        found = loopos.data.audit(records, tokenizer, 96)
        assert (found.ended, found.examples, found.empty_rows) == (8, 9, 1)
        assert "rows that end in a learned end of text: 8 of 8 (end of text '<|im_end|>')" in str(found)
        loopos.train(model, records, max_steps=1, progress=True)
        assert "rows that end in a learned end of text: 8 of 8" in capsys.readouterr().err

    def test_an_answer_ends(self, model):
        loopos.train(model, CHATS, max_steps=150, batch_size=4, learning_rate=5e-3, pack=False, **QUICK)
        assert [answer(model, f"{thing} of Zorb?") for thing in ANSWERS] == [(text, True) for text in ANSWERS.values()]


def test_an_export_says_what_the_model_says(model, tmp_path):
    """4. Good here, garbage in llama.cpp: template, first token, stop tokens. The file holds them, and the same prompt
    gives the same ids and the same greedy text, in llama.cpp too where that is installed."""
    gguf = pytest.importorskip("gguf", reason="the extra [gguf]")
    run, file = tmp_path / "run", tmp_path / "m.gguf"
    loopos.train(model, CHATS, max_steps=150, batch_size=4, learning_rate=5e-3, pack=False, output_dir=run, **QUICK)
    assert main(["export", str(run), str(file), "--type", "f32"]) == 0
    assert main(["import", str(file), str(tmp_path / "back")]) == 0
    fields = gguf.GGUFReader(file).fields
    end = model.tokenizer.token_to_id("<|im_end|>")
    assert fields["tokenizer.chat_template"].contents() == CHATML
    assert fields["tokenizer.ggml.eos_token_id"].contents() == end
    again = loopos.Model.from_pretrained(tmp_path / "back")
    assert again.stop_ids == [end]
    ids = prompt(model.tokenizer, "moons of Zorb?")
    assert prompt(again.tokenizer, "moons of Zorb?") == ids
    assert answer(again, "moons of Zorb?") == answer(model, "moons of Zorb?") == ("three", True)
    if importlib.util.find_spec("llama_cpp") is None:
        return
    script = Path(__file__).parent / "gguf" / "open_in_llama_cpp.py"
    text = model.tokenizer.decode(ids)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(file), "6"],
        input=json.dumps({"texts": [text], "ids": ids}), capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["tokens"] == [ids]
    greedy = model.generate(np.array([ids]), 6, temperature=0)[0, len(ids) :].tolist()
    assert end in told["written"]
    assert told["written"] == greedy[: len(told["written"])]
    assert told["template"] == CHATML


def test_a_merged_model_says_what_the_adapter_said(model, tmp_path, capsys):
    """5. What is merged is not what the adapter was: here it is measured, and what would lose digits is refused."""
    base, run, out = tmp_path / "base", tmp_path / "run", tmp_path / "merged.gguf"
    model.save_pretrained(base)
    flags = ["--max-steps", "120", "--batch-size", "4", "--learning-rate", "1e-2", "--held-out", "0", "--no-pack"]
    common = ["--output-dir", str(run), "--no-progress", "--no-doctor", "--lora-rank", "8"]
    assert main(["train", str(written(tmp_path / "a.jsonl", CHATS)), "--init", str(base), *flags, *common]) == 0
    adapted = loopos.Model.from_pretrained(run)
    said = [answer(adapted, f"{thing} of Zorb?") for thing in ANSWERS]
    assert said == [(text, True) for text in ANSWERS.values()]
    assert said[0] != answer(model, "moons of Zorb?")  # the base does not say it

    adapted.save_adapter(tmp_path / "adapter")
    small = loopos.Model.from_pretrained(base, weights="int8")
    small.load_adapter(tmp_path / "adapter")
    with pytest.raises(ValueError, match="the base is stored as int8"):
        small.merge_adapter()
    with pytest.raises(ValueError, match=r"nothing was merged: .* and the limit is 0"):
        adapted.merge_adapter(limit=0)
    moved = adapted.merge_adapter()
    assert 0 < moved.relative < 1e-5
    adapted.save_pretrained(tmp_path / "merged")
    merged = loopos.Model.from_pretrained(tmp_path / "merged")
    assert [answer(merged, f"{thing} of Zorb?") for thing in ANSWERS] == said
    if importlib.util.find_spec("gguf") is not None:
        assert main(["export", str(run), str(out)]) == 0
        exported = loopos.gguf.read(out)
        assert [answer(exported, f"{thing} of Zorb?") for thing in ANSWERS] == said


def test_a_run_goes_on_with_the_same_bits(tokenizer, model, tmp_path):
    """6. A resumed run starts over, or its loss jumps."""
    settings = {"batch_size": 2, "lr_schedule": "constant", "learning_rate": 1e-2, "tokenizer": tokenizer} | QUICK
    whole = loopos.train(model.config, CHATS, max_steps=8, **settings)
    loopos.train(model.config, CHATS, max_steps=3, output_dir=tmp_path, **settings)
    rest = loopos.train(model.config, CHATS, max_steps=8, output_dir=tmp_path, resume="auto", **settings)
    assert [entry["loss"] for entry in rest.history] == [entry["loss"] for entry in whole.history[3:]]
    expected = whole.model.parameters()
    assert all(np.array_equal(view, expected[name]) for name, view in rest.model.parameters().items())


class TestItSaysWhatItTakes:
    """7. On a CPU nothing happens, or the process is killed for its memory."""

    @pytest.mark.unsanitized("the sanitizers' allocator takes memory of its own")
    def test_memory_and_time_are_told_before_the_run(self, tmp_path):
        data = tmp_path / "a.txt"
        data.write_text("to be or not to be, that is the question.\n" * 200)
        shape = ["--context-length", "64", "--n-layer", "4", "--n-head", "4", "--d-model", "256"]
        flags = ["--max-steps", "3", "--batch-size", "8", "--sample", "0", "--no-progress", "--json"]
        # The process tells its own peak: what wait4 gives counts the parent's memory before exec.
        script = "import sys; from loopos.cli import main; main(sys.argv[1:]); print(open('/proc/self/status').read())"
        command = [sys.executable, "-c", script, "train", str(data), *shape, *flags]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=_beside(), check=True)
        first = json.loads(run.stdout.partition("\n")[0])
        assert (first["event"], first["updates"]) == ("forecast", 3)
        assert first["seconds"] > 0
        peak = int(run.stdout.partition("VmHWM:")[2].split()[0]) * 1024
        assert 0.85 < peak / first["memory_bytes"]["peak"] < 1.15

    def test_what_cannot_fit_is_refused(self, model, monkeypatch):
        monkeypatch.setattr("loopos.run.forecast._core.available_bytes", lambda: 1e5)
        with pytest.raises(MemoryError, match="lower batch_size or seq_len"):
            loopos.train(model, CHATS, max_steps=1, **QUICK)


def _beside():
    """Where ``python -m loopos`` finds the package that is tested."""
    return Path(loopos.__file__).parents[1]


def test_packed_examples_do_not_see_each_other(tokenizer, model):
    """8. Packed examples see each other. Here float32 losses and updates are those of separate rows, to 1e-6."""
    found = []
    for pack in (True, False):
        tried = loopos.Model(model.config, seed=3)
        sizes = {"vocab_size": tokenizer.vocab_size, "context_length": 96}
        rows = loopos.data.open_sources(CHATS * 2 + PAIRS, tokenizer=tokenizer, pack=pack, **sizes).train.rows
        settings = {"batch_size": rows, "optimizer": "sgd", "learning_rate": 0.1, "tokenizer": tokenizer} | QUICK
        history = loopos.train(tried, CHATS * 2 + PAIRS, max_steps=3, pack=pack, **settings).history
        found.append((rows, weights(tried), [entry["loss"] for entry in history]))
    (few, packed, losses), (many, separate, expected) = found
    assert few < many == 12
    assert losses == pytest.approx(expected, rel=1e-6)
    for name, array in separate.items():
        assert np.linalg.norm(packed[name] - array) < 1e-6 * np.linalg.norm(array), name


def test_added_tokens_come_back(model, tokenizer, tmp_path):
    """9. Added tokens break saving: a vocabulary that has grown, there and back, as a folder, a run and a GGUF file."""
    tokenizer.save(tmp_path / "tokenizer")
    twin = loopos.Tokenizer.from_pretrained(tmp_path / "tokenizer")
    twin.backend.add_special_tokens(["<planet>"])
    twin.backend.add_tokens(["Zorbian"])
    config = loopos.ModelConfig(**{**vars(model.config), "vocab_size": twin.vocab_size})
    assert twin.vocab_size == tokenizer.vocab_size + 2
    text = "<planet> the Zorbian moons"
    ids = twin.encode(text)
    assert twin.token_to_id("<planet>") in ids
    assert twin.token_to_id("Zorbian") in ids
    settings = {"max_steps": 2, "output_dir": tmp_path / "run"} | QUICK
    grown = loopos.train(config, [{"text": text}] * 4, tokenizer=twin, **settings).model
    grown.tokenizer = twin
    grown.save_pretrained(tmp_path / "folder")
    places = ["run", "folder"]
    if importlib.util.find_spec("gguf") is not None:
        assert main(["export", str(tmp_path / "run"), str(tmp_path / "m.gguf"), "--type", "f32"]) == 0
        assert main(["import", str(tmp_path / "m.gguf"), str(tmp_path / "imported")]) == 0
        places.append("imported")
    for place in places:
        again = loopos.Model.from_pretrained(tmp_path / place)
        assert again.tokenizer.encode(text) == ids, place
        assert again.tokenizer.decode(ids) == text, place
        for name, view in grown.parameters().items():
            assert np.array_equal(again.parameters()[name], view), (place, name)


def test_the_loss_falls_and_the_model_has_changed(model, tmp_path, capsys):
    """10. The loss falls and the model is what it was: here it says something else, also after it was saved."""
    before, first = weights(model), [answer(model, f"{thing} of Zorb?")[0] for thing in ANSWERS]
    data, folder, run = written(tmp_path / "a.jsonl", CHATS), tmp_path / "model", tmp_path / "run"
    model.save_pretrained(folder)
    flags = ["--max-steps", "150", "--batch-size", "4", "--learning-rate", "5e-3", "--held-out", "0", "--no-pack"]
    common = ["--output-dir", str(run), "--no-progress", "--no-doctor"]
    assert main(["train", str(data), "--init", str(folder), *flags, *common]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.1 * losses[0]
    tuned = loopos.Model.from_pretrained(run)
    after = [answer(tuned, f"{thing} of Zorb?")[0] for thing in ANSWERS]
    assert after == list(ANSWERS.values())
    assert not set(first) & set(after)
    assert not any(np.array_equal(before[name], view) for name, view in tuned.parameters().items())
    capsys.readouterr()
    assert main(["eval", str(run), str(data)]) == 0
    assert "loss" in capsys.readouterr().out
