"""loopos/cli/chat.py: turns, the context, what stops an answer, and lines for programs."""

import io
import json
import os
import signal

import pytest

import loopos
from loopos.cli import chat, engines, main
from loopos.cli.chat import Conversation
from loopos.generation.session import Piece


class Echo:
    """An engine without a model: it answers with the last message, a character a token; ids are code points."""

    vocab_size, chats = 0x110000, True

    def __init__(self, context_length=200):
        self.context_length, self.seen, self.at, self.error = context_length, [], None, None

    def chat_ids(self, messages):
        return [ord(c) for c in "|".join(f"{m['role'][0]}:{m['content']}" for m in messages) + "|a:"]

    def answer(self, ids, *, max_new_tokens, stopped=lambda: False, **sampling):
        text = "".join(map(chr, ids))
        self.seen.append((text, max_new_tokens, sampling))
        if self.error is not None:
            raise self.error
        words = text.rpartition("u:")[2].removesuffix("|a:")
        for number, letter in enumerate(words[:max_new_tokens], 1):
            if self.at is not None:
                self.at(number)
            if stopped():
                yield Piece(None, "", "stopped")
                return
            ends = number == len(words)
            reason = "stop" if ends else "length" if number == max_new_tokens else None
            yield Piece(ord(letter), letter, reason)


def said(talk, question, **options):
    asked = talk.ask(question, **({"max_new_tokens": 50, "stopped": lambda: False} | options))
    return "".join(asked), asked


def test_an_answer_belongs_to_the_conversation():
    engine = Echo()
    talk = Conversation(engine, "be kind")
    text, asked = said(talk, "hello")
    assert (text, asked.tokens, asked.finish_reason, asked.gone) == ("hello", 5, "stop", 0)
    said(talk, "more", temperature=0)
    assert engine.seen[1] == ("s:be kind|u:hello|a:hello|u:more|a:", 50, {"temperature": 0})


def test_the_oldest_turns_leave_a_full_context():
    engine = Echo(context_length=60)
    talk = Conversation(engine, "sys")
    said(talk, "first-question", max_new_tokens=20)
    _, asked = said(talk, "second", max_new_tokens=20)
    assert asked.gone == 1
    assert engine.seen[-1][0] == "s:sys|u:second|a:"
    _, asked = said(talk, "third", max_new_tokens=20)
    assert asked.gone == 0
    assert engine.seen[-1][0] == "s:sys|u:second|a:second|u:third|a:"
    with pytest.raises(ValueError, match="no room for an answer"):
        said(talk, "x" * 60, max_new_tokens=20)
    assert said(talk, "ok", max_new_tokens=20)[0] == "ok"  # the one that was too long is not part of it


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came():
    engine = Echo()
    talk = Conversation(engine)
    stop = []
    engine.at = lambda number: stop.append(1) if number == 3 else None
    text, asked = said(talk, "abcdef", stopped=lambda: bool(stop))
    assert (text, asked.finish_reason) == ("ab", "stopped")
    assert talk.turns[-1] == {"role": "assistant", "content": "ab"}
    stop.append(1)
    assert said(talk, "next", stopped=lambda: True)[0] == ""
    assert talk.turns[-1] == {"role": "assistant", "content": "ab"}  # a question without an answer is dropped


@pytest.fixture
def talk(monkeypatch, capsys):
    """talk(engine, lines, *flags) -> (exit code, stdout, stderr)"""

    def run(engine, lines, *flags):
        monkeypatch.setattr(engines, "chatting", lambda command, given: engine)
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
        code = main(["chat", "folder", *flags])
        return (code, *capsys.readouterr())

    return run


def test_lines_of_a_pipe(talk):
    engine = Echo()
    code, out, err = talk(engine, ["hi", "", "  there  ", "/exit", "never"], "--temperature", "0", "--seed", "7")
    assert (code, out, err) == (0, "hi\nthere\n", "")
    assert [sampling["seed"] for *_, sampling in engine.seen] == [7, 8]
    assert engine.seen[0][2]["temperature"] == 0


def test_commands(talk):
    engine = Echo()
    _, out, err = talk(engine, ["one", "/reset", "two", "/system be brief", "three", "/system", "four", "/help", "/no"])
    assert out == "one\ntwo\nthree\nfour\n"
    assert [text for text, *_ in engine.seen] == ["u:one|a:", "u:two|a:", "s:be brief|u:three|a:", "u:four|a:"]
    assert "/reset          forget" in err
    assert "there is no /no" in err


def test_an_answer_that_was_cut_is_told(talk):
    _, out, err = talk(Echo(), ["abcdef"], "--max-new-tokens", "3")
    assert out == "abc\n"
    assert "cut after 3 tokens" in err


def test_a_question_that_is_too_long_ends_nothing(talk):
    code, out, err = talk(Echo(60), ["x" * 99, "short"], "--max-new-tokens", "8")
    assert (code, out) == (0, "short\n")
    assert err.count("\n") == 1
    assert "no room for an answer" in err


def test_a_system_message_that_fills_the_context_is_told(talk):
    _, out, err = talk(Echo(60), [f"/system {'x' * 99}", "short", "/system", "short"], "--max-new-tokens", "8")
    assert out == "short\n"
    assert "with the system message" in err
    assert "give another /system" in err


def test_ctrl_c_stops_the_answer_and_not_the_chat(talk):
    engine = Echo()
    engine.at = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == 3 else None
    code, out, _ = talk(engine, ["abcdef", "ab"])
    assert (code, out) == (0, "ab\nab\n")
    assert engine.seen[1][0] == "u:abcdef|a:ab|u:ab|a:"


def test_lines_for_programs(talk):
    code, out, err = talk(Echo(), ["hi", "abc"], "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["event"] for line in lines] == ["answer", "answer", "end"]
    assert [line.get("content") for line in lines] == ["hi", "abc", None]
    assert lines[0]["finish_reason"] == "stop"
    assert lines[0]["tokens"] == 2
    assert lines[2]["answers"] == 2
    assert "hi\nabc\n" in err


def test_bad_options(talk):
    for flags in (["--max-new-tokens", "0"], ["--temperature", "-1"]):
        code, out, err = talk(Echo(), ["hi"], *flags)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1


def test_a_folder_that_cannot_chat(tmp_path, capsys):
    config = loopos.ModelConfig(vocab_size=256, context_length=16, n_layer=1, n_head=2, d_model=16)
    loopos.Model(config).save_pretrained(tmp_path)
    assert main(["chat", str(tmp_path)]) == 2
    assert "holds no tokenizer" in capsys.readouterr().err
    run = tmp_path / "run"
    loopos.train(config, "to be or not to be " * 20, max_steps=1, batch_size=2, output_dir=run, progress=False)
    assert main(["chat", str(run)]) == 2
    assert "has no chat template" in capsys.readouterr().err


def test_the_help_of_the_chat_is_that_of_the_command():
    assert "/system TEXT" in chat.HELP
    assert chat.HELP in chat.CHAT
