"""PEFT's folders: what peft writes is read, what is written peft reads; what does not fit is refused in a sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from adapters import IDS, adapted, base, some, stir
from hf_sizes import SMALL
from safetensors.numpy import load_file, save_file

import loopos
from loopos import CheckpointError, LoRA, NonFiniteError

FAMILIES = ("llama", "gpt2", "qwen2", "gpt_neox", "phi3")
OPTIONS = {"plain": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}


@pytest.fixture
def written(tmp_path):
    model = adapted(LoRA(3, 6, 0.25, targets=("q_proj", "mlp.down_proj"), rslora=True))
    model.save_adapter(tmp_path / "adapter")
    return tmp_path / "adapter", model


def change(folder, **settings):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def as_bfloat16(bits):
    """A file of numbers that numpy has no type for."""
    header, at = {}, 0
    for name, array in bits.items():
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in bits.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_is_saved_is_loaded_bit_for_bit(family, options, dtype, tmp_path):
    model = adapted(LoRA(4, 6, 0.1, targets=some(family), **options), family, dtype=dtype)
    model.save_adapter(tmp_path)
    again = base(family, dtype=dtype)
    again.load_adapter(tmp_path)
    assert again.adapter == model.adapter
    assert list(again.parameters(trainable=True)) == list(model.adapter_parameters())
    for name, view in model.adapter_parameters().items():
        assert again.parameters()[name].tobytes() == view.tobytes()
    assert again.forward(IDS).tobytes() == model.forward(IDS).tobytes()


def test_the_folder_is_that_of_peft(written):
    folder, model = written
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA"
    assert settings["task_type"] == "CAUSAL_LM"
    assert (settings["r"], settings["lora_alpha"], settings["lora_dropout"]) == (3, 6, 0.25)
    assert settings["target_modules"] == ["q_proj", "down_proj"]
    assert (settings["use_rslora"], settings["use_dora"], settings["fan_in_fan_out"]) == (True, False, False)
    assert settings["base_model_name_or_path"] is None
    tensors = load_file(folder / "adapter_model.safetensors")
    modules = [f"model.layers.{i}.{m}" for i in range(2) for m in ("self_attn.q_proj", "mlp.down_proj")]
    assert set(tensors) == {f"base_model.model.{m}.lora_{x}.weight" for m in modules for x in "AB"}
    a = tensors["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"]
    np.testing.assert_array_equal(a, model.parameters()["blocks.1.mlp.down_proj.lora_A"])


def test_the_base_is_named(tmp_path):
    base().save_pretrained(tmp_path / "base")
    model = loopos.Model.from_pretrained(tmp_path / "base")
    model.add_adapter(LoRA(2))
    model.save_adapter(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")


@pytest.mark.parametrize("stored", ["F16", "BF16", "F64"])
def test_other_types_are_widened_or_rounded(written, stored):
    folder, _ = written
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    if stored == "BF16":
        bits = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in tensors.items()}
        file.write_bytes(as_bfloat16(bits))
        expected = {name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in bits.items()}
    else:
        kind = {"F16": np.float16, "F64": np.float64}[stored]
        save_file({name: array.astype(kind) for name, array in tensors.items()}, file)
        expected = {name: array.astype(kind).astype(np.float32) for name, array in tensors.items()}
    again = base()
    again.load_adapter(folder)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    np.testing.assert_array_equal(again.parameters()["blocks.0.attn.q_proj.lora_B"], expected[name])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported; it must be 'LORA'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias 'all' is not supported; it must be 'none' .*biases of the base"),
        ({"bias": "lora_only"}, "bias 'lora_only'"),
        ({"task_type": "SEQ_CLS"}, "task_type 'SEQ_CLS' is of a classifier, and it has no head of one"),
        ({"task_type": "SEQ_2_SEQ_LM"}, "task_type"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'.*path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights 'olora'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights 'loftq'"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"target_parameters": ["mlp.experts"]}, "target_parameters"),
        ({"lora_bias": True}, "lora_bias True is not supported"),
        ({"use_qalora": True}, "use_qalora"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"a_setting_of_tomorrow": 1}, "a_setting_of_tomorrow 1 is not supported"),
    ],
)
def test_a_setting_that_would_change_the_numbers_is_refused_by_name(written, settings, says):
    folder, _ = written
    change(folder, **settings)
    model = base()
    before = model.forward(IDS)
    with pytest.raises(ValueError, match=says):
        model.load_adapter(folder)
    assert model.adapter is None
    assert model.forward(IDS).tobytes() == before.tobytes()


def test_settings_without_effect_are_passed_over(written):
    folder, model = written
    change(
        folder,
        peft_version="0.99",
        revision="main",
        target_modules="(?:.*)+q_proj",
        exclude_modules=["o_proj"],
        layers_to_transform=[0],
        layers_pattern="layers",
        fan_in_fan_out=True,
        init_lora_weights="gaussian",
        loftq_config={},
        megatron_core="megatron.core",
    )
    again = base()
    again.load_adapter(folder)
    assert again.forward(IDS).tobytes() == model.forward(IDS).tobytes()


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"r": 4}, r"lora_A \(3, 16\).*lora_A \(4, 16\)"), ({"use_dora": True}, "lora_magnitude")],
)
def test_settings_and_tensors_must_fit_each_other(written, settings, says):
    folder, _ = written
    change(folder, **settings)
    with pytest.raises(CheckpointError, match=says):
        base().load_adapter(folder)


@pytest.mark.parametrize("settings", [{"r": "3"}, {"lora_alpha": 0}, {"lora_dropout": 1.5}, {"use_rslora": 1}])
def test_a_value_out_of_range_is_the_files_fault(written, settings):
    change(written[0], **settings)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        base().load_adapter(written[0])


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_an_adapter_of_another_family_is_told_so(written, family):
    with pytest.raises(CheckpointError, match="belongs to another base") as caught:
        base(family).load_adapter(written[0])
    assert "c_attn" in str(caught.value) or "query_key_value" in str(caught.value)
    assert str(caught.value).count(". ") == 0


def test_an_adapter_of_another_size_is_told_so(written):
    config = loopos.ModelConfig(23, 12, 2, 4, 32, norm="rmsnorm", activation="swiglu", position="rope", bias=False)
    with pytest.raises(CheckpointError, match=r"q_proj has lora_A \(3, 16\).*\(3, 32\).*another base"):
        loopos.Model(config).load_adapter(written[0])


def test_strange_tensors_are_named(written):
    file = written[0] / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((3, 4), np.float32)}, file)
    with pytest.raises(CheckpointError, match=r"embed_tokens.lora_embedding_A"):
        base().load_adapter(written[0])
    save_file({"nothing": np.zeros(1, np.float32)}, file)
    with pytest.raises(CheckpointError, match="nothing"):
        base().load_adapter(written[0])
    tensors.pop(next(iter(tensors)))
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="need lora_A"):
        base().load_adapter(written[0])


def test_a_pickle_is_not_read(written):
    (written[0] / "adapter_model.safetensors").rename(written[0] / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        base().load_adapter(written[0])
    (written[0] / "adapter_model.bin").unlink()
    with pytest.raises(FileNotFoundError):
        base().load_adapter(written[0])
    with pytest.raises(FileNotFoundError):
        base().load_adapter(written[0] / "nowhere")


def test_a_number_that_is_not_finite_is_not_written(written):
    folder, model = written
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model.parameters()["blocks.1.attn.q_proj.lora_B"][2, 1] = np.nan
    with pytest.raises(NonFiniteError, match="save_adapter: nothing was written") as caught:
        model.save_adapter(folder)
    assert caught.value.birth.tensor == "blocks.1.attn.q_proj.lora_B"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")  # of peft and transformers
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("targets", ["all-linear", "some"])
def test_peft_reads_and_writes_the_same(family, options, targets, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    peft = pytest.importorskip("peft", reason="compares with peft")
    torch.manual_seed(3)
    settings = {name: value for name, value in SMALL[family].items() if name != "model_type"}
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **settings))
    stir({name: view.detach().numpy() for name, view in theirs.named_parameters()})
    theirs.eval().save_pretrained(tmp_path / "base")
    names = list(some(family)) if targets == "some" else targets
    given = {f"use_{name}": value for name, value in options.items()}
    asked = peft.LoraConfig(r=4, lora_alpha=6, lora_dropout=0.2, target_modules=names, task_type="CAUSAL_LM", **given)
    theirs = peft.get_peft_model(theirs, asked)
    stir({name: view.detach().numpy() for name, view in theirs.named_parameters() if "lora_" in name})
    theirs.eval().save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)).logits.numpy()

    ours = loopos.Model.from_pretrained(tmp_path / "base")
    plain = ours.forward(IDS)
    ours.load_adapter(tmp_path / "theirs")
    assert ours.adapter == LoRA(4, 6, 0.2, targets if targets == "all-linear" else ours.adapter.targets, **options)
    close = 5e-6 * np.abs(expected).max()
    assert np.abs(ours.forward(IDS) - expected).max() <= close
    assert np.abs(plain - expected).max() > 1e4 * close

    ours.save_adapter(tmp_path / "ours")
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    opened = peft.PeftModel.from_pretrained(opened, tmp_path / "ours").eval()
    before, after = (peft.get_peft_model_state_dict(model) for model in (theirs, opened))
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    with torch.no_grad():
        assert np.abs(opened(torch.from_numpy(IDS)).logits.numpy() - expected).max() <= close
    assert np.abs(_merged(ours) - expected).max() <= close


def _merged(model):
    model.merge_adapter()
    return model.forward(IDS)
