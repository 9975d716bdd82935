"""loopos bench real: the parts, their figures, and engines that are not there."""

from __future__ import annotations

import copy
import json

import pytest

import loopos
from loopos.bench import real, suites, tables
from loopos.cli import main


@pytest.fixture(scope="module")
def runs():
    """Measured once."""
    return {}


@pytest.fixture
def tiny(without, runs):
    """A run of our own engine on a model at random."""
    without("transformers", "llama_cpp")
    if not runs:
        runs["tiny"] = suites.run("real", setting="tiny-llama", rounds=2, steps=1)
    return copy.deepcopy(runs["tiny"])


def test_the_parts_and_their_figures(tiny):
    assert json.loads(json.dumps(tiny)) == tiny
    assert tiny["workload"] == {"batch": 4, "length": 8, "start": 1, "new": 4, "prompt": 7}
    parts = tiny["parts"]
    assert list(parts) == ["training", "generation", "prompt", "opening"]
    ours = {part: each["peers"][0] for part, each in parts.items()}
    for part, peer in ours.items():
        assert peer["peer"] == "loopos", part
        assert peer["storage"] == "float32"
        assert 0 < peer["seconds"]["min"] <= peer["seconds"]["median"]
        assert peer["peak_rss"] > 1 << 20
    for part, tokens in (("training", 32), ("generation", 4), ("prompt", 7)):
        assert ours[part]["tokens_per_second"] == pytest.approx(tokens / ours[part]["seconds"]["median"])
    assert len(ours["training"]["losses"]) == 3  # a warm-up and two rounds
    assert ours["training"]["losses"][-1] < 4
    weights, rate = ours["generation"]["weight_bytes"], tiny["limits"][0]["bytes_per_second"]["median"]
    assert weights == 4 * tiny["model"]["parameters"]
    share = ours["generation"]["fraction_of_bandwidth"]
    assert share == pytest.approx(ours["generation"]["tokens_per_second"] * weights / rate)
    assert ours["generation"]["agrees_for"] == 4
    for part, each in parts.items():
        assert "transformers is not installed" in {lost["reason"] for lost in each["absent"]}, part
    assert {lost["peer"] for lost in parts["opening"]["absent"]} == {"transformers", "llama.cpp-f16"}


def test_losses_of_engines_are_compared(tiny):
    training = tiny["parts"]["training"]
    assert training["loss_difference"] is None
    assert real.difference([[2.0, 1.0], [2.0, 1.5]]) == 0.5
    training["loss_difference"] = 0.5
    assert "differ by at most 5.0e-01 of themselves" in tables.render(tiny)


@pytest.mark.reference
def test_transformers_starts_from_the_same_weights_and_learns_the_same():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    result = suites.run("real", setting="tiny-llama", peers="loopos,transformers", rounds=1, steps=4)
    training = result["parts"]["training"]
    assert [each["peer"] for each in training["peers"]] == ["loopos", "transformers"]
    assert training["loss_difference"] < 1e-5
    generated = result["parts"]["generation"]["peers"]
    assert [each["agrees_for"] for each in generated] == [4, 4]
    assert len(result["parts"]["opening"]["peers"]) == 2


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (8192, (4, 256, 1, 64, 512)),
        (256, (4, 256, 1, 64, 255)),
        (8, (4, 8, 1, 4, 7)),
    ],
)
def test_the_work_fits_the_context(context, expected):
    work = real.Workload.of(context)
    assert tuple(work) == expected
    assert work.start + work.new <= context
    assert work.prompt + 1 <= context


def test_a_model_of_its_own_folder_is_named(tmp_path, without, capsys):
    without("transformers", "llama_cpp")
    config = loopos.ModelConfig(17, 8, 1, 2, 16, norm="rmsnorm", activation="swiglu", position="rope", bias=False)
    loopos.Model(config).save_pretrained(tmp_path / "mine")
    file = tmp_path / "result.json"
    command = ["bench", "real", "--model", str(tmp_path / "mine"), "--peers", "loopos", "--rounds", "1"]
    assert main([*command, "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "mine: " in shown
    assert "Full fine-tuning in float32, a step of 4 × 8 tokens" in shown
    assert main(["bench", "show", str(file)]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"suite": "steps", "model": "x"}, "a model's folder is for real and adapters, not for steps"),
        ({"suite": "real", "model": "nowhere"}, "'nowhere' without one"),
        ({"suite": "real", "setting": "tiny,tiny-llama"}, "real takes one setting, got 2"),
        ({"suite": "real", "peers": "jax"}, "peers must be names with commas between"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        suites.run(**given)
