"""``loopos replay`` of a watched program."""

from __future__ import annotations

import sys

import pytest

import loopos
from loopos.cli import main
from loopos.errors import CheckpointError

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.replay import replay  # noqa: E402

PROGRAM = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.drop(self.first(x)).exp())

def loss(model, x):
    return torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1]))

def loopos_replay():
    return Net(), loss
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    (tmp_path / "watched_program.py").write_text(PROGRAM)
    (tmp_path / "no_program.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("watched_program", "no_program"):
        sys.modules.pop(name, None)


@pytest.fixture
def bundle(program, tmp_path):
    import watched_program

    torch.manual_seed(3)
    model = watched_program.Net()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(2, 4)
    with loopos.watch(model, optimizer, output_dir=tmp_path / "run") as watch:
        watch.step(lambda: watched_program.loss(model, x))
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step(lambda: watched_program.loss(model, x * 1e3))
    sys.modules.pop("watched_program")
    return error.value


def test_without_the_program_its_operation_is_done_again(bundle):
    found = replay(bundle.bundle)
    assert found
    assert (found.step, found.birth, found.value) == (2, bundle.birth, bundle.birth.value)
    assert "watched_program" not in sys.modules


def test_with_the_program_the_whole_step_is(bundle):
    found = replay(bundle.bundle, "watched_program")
    assert found, str(found)
    assert found.birth.index == bundle.birth.index
    assert found.birth.operands == bundle.birth.operands  # dropout drew the same


def test_the_command_line(bundle, tmp_path, capsys):
    assert main(["replay", str(tmp_path / "run")]) == 0
    assert "reproduced" in capsys.readouterr().out
    assert "watched_program" not in sys.modules
    assert main(["replay", str(tmp_path / "run"), "--import", "watched_program"]) == 0
    assert "the whole step done again: reproduced" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "run"), "--why"]) != 0
    assert "--why is for runs of LoopOS itself" in capsys.readouterr().err


def test_a_module_that_gives_no_model(bundle):
    with pytest.raises(ValueError, match="loopos_replay"):
        replay(bundle.bundle, "no_program")


def test_another_step_is_not_called_reproduced(bundle, monkeypatch):
    import watched_program

    monkeypatch.setattr(watched_program, "loss", lambda model, x: watched_program.Net.forward(model, x * 0).sum())
    assert not replay(bundle.bundle, "watched_program")


def test_a_model_of_transformers_needs_no_function(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.mul_(1e30)
        model.transformer.h[0].mlp.c_proj.weight.mul_(1e30)
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.arange(8)[None]
    with loopos.watch(model, optimizer, output_dir=tmp_path):
        model(input_ids=ids, labels=ids).loss.backward()
        with pytest.raises(loopos.NonFiniteError) as error:
            optimizer.step()
    assert error.value.birth.module.startswith("transformer.h.0.mlp")
    assert error.value.birth.cause_class == "product overflow"
    found = replay(error.value.bundle, "transformers")
    assert found, str(found)


def test_a_bundle_gets_no_other_operation(bundle, monkeypatch):
    import loopos.watch.replay as module

    real = module.read

    def changed(path):
        read = real(path)
        read.about["operation"]["name"] = "aten.x; import os"
        return read

    monkeypatch.setattr(module, "read", changed)
    with pytest.raises(CheckpointError, match="no operation"):
        replay(bundle.bundle)
