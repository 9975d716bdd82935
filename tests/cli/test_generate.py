"""loopos generate: one prompt as it comes, several at once, ends and cuts."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.cli.generate import BETWEEN, Told
from loopos.data.tokenizer import ByteTokenizer
from loopos.generation import Stops

GREEDY = ["--temperature", "0", "--max-new-tokens", "9"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    text = "the miller had a mill and the mill had a wheel. " * 30
    config = loopos.ModelConfig(256, 32, 1, 2, 32)
    loopos.train(config, text, max_steps=60, batch_size=8, learning_rate=1e-2, output_dir=folder, progress=False)
    return str(folder)


def said(capsys, *arguments, code=0):
    assert main(["generate", *arguments]) == code
    return capsys.readouterr()


def answers(capsys, *arguments):
    return json.loads(said(capsys, *arguments, "--json").out)


def test_one_prompt_is_what_the_model_generates(run, capsys):
    model = loopos.Model.from_pretrained(run)
    prompt = np.frombuffer(b"the mil", np.uint8).astype(np.int64)
    want = model.generate(prompt[None], 9, temperature=0)[0]
    assert said(capsys, run, "--prompt", "the mil", *GREEDY).out == bytes(want.tolist()).decode() + "\n"
    reply = answers(capsys, run, "--prompt", "the mil", *GREEDY)
    assert reply["ids"] == want.tolist()
    assert (reply["prompt_tokens"], reply["new_tokens"]) == (7, 9)
    assert reply["text"] == "the mil" + reply["completion"] == bytes(want.tolist()).decode()
    ids = said(capsys, run, "--prompt-ids", ",".join(map(str, prompt)), *GREEDY).out
    assert ids == ",".join(map(str, want)) + "\n"


def test_several_prompts_at_once(run, capsys, tmp_path):
    alone = [answers(capsys, run, "--prompt", text, *GREEDY) for text in ("the mil", "a", "wheel. the")]
    together = ["--prompt", "the mil", "--prompt", "a", "--prompt", "wheel. the"]
    assert answers(capsys, run, *together, *GREEDY) == {"results": alone}
    assert said(capsys, run, *together, *GREEDY).out == BETWEEN.join(each["text"] for each in alone) + "\n"
    lines = tmp_path / "prompts.txt"
    lines.write_text("a\n\nwheel. the\n")
    assert answers(capsys, run, "--prompt", "the mil", "--prompts-file", str(lines), *GREEDY) == {"results": alone}
    lines.write_text("\n")
    assert "holds no prompt" in said(capsys, run, "--prompts-file", str(lines), code=2).err
    assert "No such file" in said(capsys, run, "--prompts-file", str(tmp_path / "none"), code=2).err


def test_ends(run, capsys):
    whole = answers(capsys, run, "--prompt", "the mil", *GREEDY)["completion"]
    stop = whole[3:5]
    at = whole.index(stop)
    for prompts in (["--prompt", "the mil"], ["--prompt", "the mil", "--prompt", "the mil"]):
        reply = answers(capsys, run, *prompts, *GREEDY, "--stop", "never", "--stop", stop)
        for each in reply.get("results", [reply]):
            assert each["completion"] == whole[:at]
            assert each["new_tokens"] == at + 2
        eos = whole[4]
        reply = answers(capsys, run, *prompts, *GREEDY, "--eos", f"1,{ord(eos)}")
        for each in reply.get("results", [reply]):
            assert each["completion"] == whole[: whole.index(eos)]
            assert each["ids"][-1] == ord(eos)
    assert answers(capsys, run, "--prompt", "the mil", *GREEDY, "--eos", "none")["completion"] == whole
    assert said(capsys, run, "--prompt", "the mil", *GREEDY, "--stop", stop).out == f"the mil{whole[:at]}\n"


def test_cuts_and_penalty_reach_the_model(run, capsys):
    greedy = answers(capsys, run, "--prompt", "the mil", *GREEDY)["ids"]
    sampled = ["--prompt", "the mil", "--max-new-tokens", "9", "--temperature", "2"]
    assert answers(capsys, run, *sampled, "--min-p", "1")["ids"] == greedy
    new = answers(capsys, run, "--prompt", "the mil", *GREEDY, "--repetition-penalty", "1e9")["ids"][7:]
    assert new != greedy[7:]
    assert len(set(new)) > len(set(greedy[7:]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt", ""], "at least one character"),
        (["--prompt", "a", "--prompt-ids", "1"], "cannot both be given"),
        (["--prompt-ids", "1,x"], "prompt_ids must be integers with commas between, got '1,x'"),
        (["--eos", "x"], "eos must be integers with commas between, got 'x'"),
        (["--eos", "256"], "eos must be"),
        (["--min-p", "2"], "min_p"),
        (["--repetition-penalty", "0"], "repetition_penalty"),
        (["--stop", ""], "empty string or sequence"),
        (["--prompt", "a", "--prompt", "b", "--max-new-tokens", "40"], "do not fit the context_length 32"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence(run, capsys, options, words):
    error = said(capsys, run, *options, code=2).err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--temperature", "-1"], ["--top-k", "0"], ["--seed", "-1"], ["--max-new-tokens", "-1"]], ids=str
)
def test_nothing_is_told_before_all_is_checked(run, capsys, options):
    result = said(capsys, run, "--prompt", "the mil", *options, code=2)
    assert result.out == ""
    assert options[0][2:].replace("-", "_") in result.err


def test_a_prompt_begins_with_what_the_tokenizer_puts_there(tmp_path, capsys):
    """The model reads it; the text does not show it, and shows the special tokens that were asked for."""
    tokenizers = pytest.importorskip("tokenizers", reason="a post-processor needs a tokenizer (extra [hf])")
    text = "the miller had a mill and the mill had a wheel. " * 30
    tokenizer = loopos.Tokenizer.train(text, 270, special_tokens=("<s>", "<x>"))
    begin = tokenizer.token_to_id("<s>")
    tokenizer.backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    config = loopos.ModelConfig(tokenizer.vocab_size, 32, 1, 2, 32)
    settings = {"max_steps": 2, "batch_size": 4, "tokenizer": tokenizer, "output_dir": tmp_path, "progress": False}
    model = loopos.train(config, text, **settings).model
    prompt = [begin, *tokenizer.encode("the<x> mill")]
    want = model.generate([np.array(prompt)], 9, temperature=0)[0].tolist()
    reply = answers(capsys, str(tmp_path), "--prompt", "the<x> mill", *GREEDY, "--eos", "none")
    assert reply["ids"] == want
    assert reply["prompt_tokens"] == len(prompt)
    assert reply["text"] == "the<x> mill" + reply["completion"] == tokenizer.decode(want[1:])
    out = said(capsys, str(tmp_path), "--prompt", "the<x> mill", *GREEDY, "--eos", "none").out
    assert out == reply["text"] + "\n"
    both = answers(capsys, str(tmp_path), "--prompt", "the<x> mill", "--prompt", "the", *GREEDY, "--eos", "none")
    assert both["results"][0] == reply
    assert both["results"][1]["ids"][0] == begin
    assert both["results"][1]["text"].startswith("the")


def test_text_is_told_as_it_comes_and_whole_characters_only():
    class Stream:
        def __init__(self):
            self.written = []

        def write(self, text):
            self.written.append(text)

        def flush(self):
            self.written.append(None)

    stream = Stream()
    told = Told(Stops(), ByteTokenizer(), np.frombuffer("é".encode(), np.uint8), stream=stream)
    for byte in "aü\n".encode():
        assert not told.put(byte)
    told.end()
    assert stream.written == ["é", None, "a", None, "ü", None, "\n", None, "\n", None]
    assert told.prompt + told.completion == "éaü\n"
