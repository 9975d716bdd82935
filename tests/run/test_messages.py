"""loopos/run/messages.py: no stderr, a closed one or one that nobody reads ends nothing."""

import io
import subprocess
import sys

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.run.messages import Output, to_stderr

CONFIG = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=1, n_head=2, d_model=8)
IDS = np.arange(300) % 32


class Gone(io.StringIO):
    def isatty(self):
        return True

    def write(self, text):
        raise BrokenPipeError


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


class Logger:
    """What programs put there to have all in their log: often with write alone."""

    def write(self, text):
        return len(text)


STREAMS = {"none": lambda: None, "closed": closed, "gone": Gone, "bare": object, "logger": Logger}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_training_goes_on_without_stderr(kind, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", STREAMS[kind]())
    run = {"eval_data": IDS[:50], "eval_every": 1, "max_steps": 3, "batch_size": 2}
    assert loopos.train(CONFIG, IDS, **run, learning_rate=1.0).step == 3  # an alarm, or none: both are told
    to_stderr("a line")
    assert main(["train", "no-such-file.txt"]) == 2
    assert capsys.readouterr().out == ""  # print(file=None) would write there


def test_what_is_written(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    to_stderr("a line")
    assert stream.getvalue() == "a line\n"
    assert Output()
    assert not Output().isatty()
    monkeypatch.setattr(sys, "stderr", None)
    assert not Output()
    assert not Output().isatty()


def test_a_program_started_without_stderr(tmp_path):
    """2>&-: Python then has no sys.stderr at all."""
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question.\n" * 40)
    small = "--context-length 16 --n-layer 1 --n-head 2 --d-model 16 --batch-size 2 --max-steps 2 --sample 0"
    command = f'"{sys.executable}" -m loopos train "{path}" {small} 2>&-'
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("updates 2")
