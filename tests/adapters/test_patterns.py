"""Ranks and alphas that differ between modules: which key counts, what is refused, folders both ways with peft."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from adapters import IDS, adapted, base, stir
from hf_sizes import SMALL
from safetensors.numpy import load_file, save_file

import loopos
from loopos import CheckpointError, LoRA
from loopos.adapters import patterns

RANKS = {"^model.layers.1.self_attn.q_proj": 5, "q_proj": 2, "1.mlp.down_proj": 1}
ALPHAS = {"down_proj": 12, "0.self_attn.q_proj": 3.5}
SPEC = LoRA(3, 6, targets=("q_proj", "v_proj", "down_proj"), rank_pattern=RANKS, alpha_pattern=ALPHAS)


def change(folder, **settings):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ("pattern", "module"),
    [
        ({"q_proj": 4}, "model.layers.0.self_attn.q_proj"),
        ({"proj": 4}, "model.layers.0.self_attn.q_proj"),
        ({"0.q_proj": 4, "attn.q_proj": 5}, "model.layers.0.self_attn.q_proj"),
        ({"0.self_attn.q_proj": 4}, "model.layers.10.self_attn.q_proj"),
        ({"^model.layers.0.mlp.up_proj": 4}, "model.layers.0.mlp.up_proj"),
        ({"^layers.0.mlp.up_proj": 4}, "model.layers.0.mlp.up_proj"),
        ({r"layers\.0\.mlp\.up_proj": 4}, "model.layers.0.mlp.up_proj"),
        ({"up_proj": 4, "0.mlp.up_proj": 5}, "model.layers.0.mlp.up_proj"),
    ],
)
def test_a_key_means_what_it_means_in_peft(pattern, module):
    """peft: re.match(rf"(.*\\.)?({key})$", module), the first key that fits."""
    theirs = next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), 8)
    ours = patterns.checked("LoRA", "rank_pattern", pattern, lambda where, name, value: value)
    assert patterns.lookup(ours, module, 8) == theirs


@pytest.mark.parametrize("rslora", [False, True])
def test_rank_and_scale_are_those_of_the_module(rslora):
    given = {"rank_pattern": {"q_proj": 16}, "alpha_pattern": {"up_proj": 2}}
    spec = LoRA(4, 8, targets=("q_proj", "up_proj"), rslora=rslora, **given)
    root = (lambda rank: rank**0.5) if rslora else float
    assert spec.of_module("model.layers.0.self_attn.q_proj") == (16, 8 / root(16))
    assert spec.of_module("model.layers.0.mlp.up_proj") == (4, 2 / root(4))
    assert spec.scale == 8 / root(4)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (dict(rank_pattern=["q_proj"]), TypeError, "rank_pattern must be a dict"),
        (dict(rank_pattern={3: 4}), TypeError, "rank_pattern must be a dict"),
        (dict(rank_pattern={"q_proj": 0}), ValueError, r"rank_pattern\['q_proj'\] must be an integer of at least 1"),
        (dict(rank_pattern={"q_proj": 4.0}), TypeError, "rank_pattern"),
        (dict(alpha_pattern={"q_proj": "4"}), TypeError, r"alpha_pattern\['q_proj'\]"),
        (dict(alpha_pattern={"q_proj": -1}), ValueError, "alpha_pattern"),
        (dict(rank_pattern={".*q_proj": 4}), ValueError, r"the key '\.\*q_proj', and expressions are not run"),
        (dict(rank_pattern={"layers.[0-9].mlp": 4}), ValueError, "expressions are not run"),
        (dict(alpha_pattern={"": 4}), ValueError, "expressions are not run"),
        (dict(alpha_pattern={"q_proj|v_proj": 4}), ValueError, "expressions are not run"),
    ],
)
def test_what_is_no_name_or_no_rank_is_refused(given, error, says):
    with pytest.raises(error, match=says):
        LoRA(**given)


def test_a_key_that_names_no_module_of_the_adapter_is_refused():
    model = base()
    before = model.forward(IDS).tobytes()
    with pytest.raises(ValueError, match="rank_pattern has k_proj, and the adapter stands on no module of that name"):
        model.add_adapter(LoRA(2, targets=("q_proj",), rank_pattern={"k_proj": 4}))
    assert model.adapter is None
    assert model.forward(IDS).tobytes() == before


@pytest.mark.parametrize("dora", [False, True])
def test_what_is_saved_is_loaded_bit_for_bit(dora, tmp_path):
    spec = LoRA.from_dict(SPEC.to_dict() | {"dora": dora})
    model = adapted(spec)
    shapes = {name: view.shape for name, view in model.adapter_parameters().items()}
    assert shapes["blocks.1.attn.q_proj.lora_A"] == (5, 16)
    assert shapes["blocks.0.attn.q_proj.lora_A"] == (2, 16)
    assert shapes["blocks.0.mlp.down_proj.lora_B"] == (16, 3)
    assert shapes["blocks.1.mlp.down_proj.lora_B"] == (16, 1)
    model.save_adapter(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["rank_pattern"] == RANKS
    assert settings["alpha_pattern"] == ALPHAS
    again = base()
    again.load_adapter(tmp_path)
    assert again.adapter == spec
    assert list(again.adapter.rank_pattern) == list(RANKS)  # their order counts
    assert again.forward(IDS).tobytes() == model.forward(IDS).tobytes()


def test_the_tensors_and_the_pattern_must_fit_each_other(tmp_path):
    adapted(SPEC).save_adapter(tmp_path)
    change(tmp_path, rank_pattern={"q_proj": 4})
    with pytest.raises(CheckpointError, match=r"q_proj has lora_A \(2, 16\).* need lora_A \(4, 16\)"):
        base().load_adapter(tmp_path)
    change(tmp_path, rank_pattern={"layers.*.q_proj": 2})
    with pytest.raises(CheckpointError, match="expressions are not run"):
        base().load_adapter(tmp_path)


def test_in_a_folder_a_key_without_a_module_has_no_effect_as_in_peft(tmp_path):
    adapted(LoRA(2, targets=("q_proj",))).save_adapter(tmp_path)
    change(tmp_path, rank_pattern={"lm_head": 9}, alpha_pattern=None)
    again = base()
    again.load_adapter(tmp_path)
    assert again.adapter == LoRA(2, targets=("q_proj",))


def test_a_base_that_was_saved_without_its_head_has_shorter_names(tmp_path):
    spec = LoRA(2, 4, targets=("q_proj",), alpha_pattern={"^model.layers.0.self_attn.q_proj": 9})
    model = adapted(spec)
    model.save_adapter(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({name.replace("model.model.", "model."): array for name, array in load_file(file).items()}, file)
    change(tmp_path, alpha_pattern={"^layers.0.self_attn.q_proj": 9})
    again = base()
    again.load_adapter(tmp_path)
    assert again.adapter == spec
    assert again.forward(IDS).tobytes() == model.forward(IDS).tobytes()


def test_checkpoints_hold_them(tmp_path):
    base().save_pretrained(tmp_path / "base")
    data = np.random.default_rng(1).integers(0, 23, 400)
    given = dict(max_steps=4, batch_size=2, seq_len=8, learning_rate=1e-2, save_every=2, progress=False)

    def run(folder, **how):
        model = loopos.Model.from_pretrained(tmp_path / "base")
        return loopos.train(model, data, adapter=SPEC, output_dir=tmp_path / folder, **given | how).model

    whole = run("whole")
    again = run("again", resume=tmp_path / "whole/step-00000002")
    assert again.adapter == SPEC
    for name, view in whole.adapter_parameters().items():
        assert again.parameters()[name].tobytes() == view.tobytes()
    opened = loopos.Model.from_pretrained(tmp_path / "whole")
    assert opened.adapter == SPEC
    assert opened.forward(IDS).tobytes() == whole.forward(IDS).tobytes()


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")  # of peft and transformers
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_reads_and_writes_the_same(rslora, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    peft = pytest.importorskip("peft", reason="compares with peft")
    torch.manual_seed(3)
    settings = {name: value for name, value in SMALL["llama"].items() if name != "model_type"}
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model("llama", **settings))
    stir({name: view.detach().numpy() for name, view in theirs.named_parameters()})
    theirs.eval().save_pretrained(tmp_path / "base")
    asked = peft.LoraConfig(
        r=3,
        lora_alpha=6,
        target_modules=["q_proj", "v_proj", "down_proj"],
        task_type="CAUSAL_LM",
        use_rslora=rslora,
        rank_pattern=RANKS,
        alpha_pattern=ALPHAS,
    )
    theirs = peft.get_peft_model(theirs, asked)
    stir({name: view.detach().numpy() for name, view in theirs.named_parameters() if "lora_" in name})
    theirs.eval().save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)).logits.numpy()

    ours = loopos.Model.from_pretrained(tmp_path / "base")
    ours.load_adapter(tmp_path / "theirs")
    assert ours.adapter.of_module("model.layers.1.self_attn.q_proj")[0] == 5
    close = 5e-6 * np.abs(expected).max()
    assert np.abs(ours.forward(IDS) - expected).max() <= close
    ours.save_adapter(tmp_path / "ours")
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    opened = peft.PeftModel.from_pretrained(opened, tmp_path / "ours").eval()
    before, after = (peft.get_peft_model_state_dict(model) for model in (theirs, opened))
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    with torch.no_grad():
        assert np.abs(opened(torch.from_numpy(IDS)).logits.numpy() - expected).max() <= close
    ours.merge_adapter()
    assert np.abs(ours.forward(IDS) - expected).max() <= close
