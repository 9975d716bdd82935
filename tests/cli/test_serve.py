"""loopos/cli/serve.py: a real process, a real model, and how it ends."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

import loopos
from loopos.cli import main

pytest.importorskip("uvicorn", reason="the server needs uvicorn (extra [serve])")
pytest.importorskip("starlette", reason="the server needs Starlette (extra [serve])")
CONFIG = {"vocab_size": 256, "context_length": 64, "n_layer": 1, "n_head": 2, "d_model": 16}


@pytest.fixture
def run(tmp_path):
    config = loopos.ModelConfig(**CONFIG)
    loopos.train(config, "to be or not to be " * 20, max_steps=2, batch_size=2, output_dir=tmp_path / "hamlet")
    return str(tmp_path / "hamlet")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_model_is_served_until_a_signal(number, code, run):
    command = [sys.executable, "-m", "loopos", "serve", run, "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = process.stderr.readline()
            assert told.startswith("hamlet is served at http://127.0.0.1:")
            url = told.split()[4]
            with urllib.request.urlopen(f"{url}/models", timeout=30) as response:
                assert json.load(response)["data"][0]["id"] == "hamlet"
            body = json.dumps({"prompt": "to be", "max_tokens": 5, "temperature": 0}).encode()
            asked = urllib.request.Request(f"{url}/completions", body, {"content-type": "application/json"})
            with urllib.request.urlopen(asked, timeout=30) as response:
                answer = json.load(response)
            model = loopos.Model.from_pretrained(run)
            ids = pytest.importorskip("numpy").array([list(b"to be")])
            greedy = bytes(model.generate(ids, 5, temperature=0)[0, 5:].tolist()).decode(errors="replace")
            assert answer["choices"][0]["text"] == greedy
            process.send_signal(number)
            assert process.wait(30) == code
        finally:
            process.kill()


def test_what_cannot_be_served(run, capsys, monkeypatch):
    monkeypatch.delenv("LOOPOS_API_KEY", raising=False)
    assert main(["serve", run, "--host", "0.0.0.0"]) == 2
    assert "LOOPOS_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("LOOPOS_API_KEY", "short")
    assert main(["serve", run]) == 2
    assert "16 characters" in capsys.readouterr().err
    monkeypatch.delenv("LOOPOS_API_KEY")
    assert main(["serve", run, "--max-tokens", "0"]) == 2
    assert "max_tokens" in capsys.readouterr().err
    assert main(["serve", run + "nowhere"]) == 2
