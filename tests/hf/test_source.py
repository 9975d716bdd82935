"""What a folder holds besides the numbers comes back when the model is saved: ids, tokenizer, template, settings."""

import copy
import json
import os

import numpy as np
import pytest
from hf_sizes import SMALL

import loopos
from loopos import cli
from loopos.hf.known import HARMLESS, NEUTRAL, QUANTIZATION
from loopos.hf.settings import config_from_json
from loopos.hf.source import COMPANIONS

FILES = {
    "tokenizer.json": b'{"version": "1.0",  "model": {"type": "BPE"}}\r\n',
    "tokenizer_config.json": b'{"eos_token": "</s>", "chat_template": "x"}',
    "special_tokens_map.json": b"{}",
    "vocab.json": b'{"a": 0}',
    "merges.txt": b"#version: 0.2\n",
    "tokenizer.model": bytes(range(256)),
    "chat_template.jinja": "{{ messages }} ä".encode(),
    "generation_config.json": b'{"eos_token_id": [5, 7], "temperature": 0.6,\n "do_sample": true}',
    "additional_chat_templates/tools.jinja": b"{{ tools }}",
}
EXTRA = {
    "bos_token_id": 1,
    "eos_token_id": [0, 2],
    "pad_token_id": 3,
    "unk_token_id": 0,
    "image_token_id": 9,
    "torch_dtype": "bfloat16",
    "_name_or_path": "someone/something",
    "id2label": {"0": "a"},
    "initializer_range": 0.006,
    "use_cache": False,
    "task_specific_params": {"text-generation": {"do_sample": True}},
    "tokenizer_class": "Any",
    "temperature": 0.7,
}


@pytest.fixture
def full(write_folder, make_settings, make_tensors, family):
    """A folder with everything that people's folders have."""
    more = {"attn_pdrop": 0.05, "embd_pdrop": 0.0, "summary_type": "cls_index"} if family == "gpt2" else {}
    folder = write_folder(make_settings(family, **EXTRA, **more), make_tensors(family))
    (folder / "additional_chat_templates").mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "README.md").write_text("not a part of the model")
    return folder


def _saved(model, folder):
    model.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def test_everything_comes_back(full, tmp_path):
    before = json.loads((full / "config.json").read_text())
    model = loopos.Model.from_pretrained(full)
    after = _saved(model, tmp_path / "out")
    theta = {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}} if "rope_parameters" in before else {}
    assert {key: after[key] for key in before} == before | {"torch_dtype": "float32"} | theta
    for name, content in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == content
    assert sorted(os.listdir(tmp_path / "out")) == sorted(
        {*(name.split("/")[0] for name in FILES), "config.json", "model.safetensors"}
    )
    again = loopos.Model.from_pretrained(tmp_path / "out")
    assert again.config == model.config
    assert _saved(again, tmp_path / "third") == after


def test_the_ids_reach_generation_config(family, write_folder, make_settings, make_tensors, tmp_path):
    settings = make_settings(family, eos_token_id=[0, 1], pad_token_id=1)
    model = loopos.Model.from_pretrained(write_folder(settings, make_tensors(family)))
    assert _saved(model, tmp_path / "out")["eos_token_id"] == [0, 1]
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {
        "_from_model_config": True, "bos_token_id": None, "eos_token_id": [0, 1], "pad_token_id": 1,
    }  # fmt: skip


def test_it_goes_with_copies_and_outlives_its_folder(full, tmp_path):
    model = loopos.Model.from_pretrained(full)
    for name in FILES:
        (full / name).unlink()
    loopos.train(model, np.arange(50) % 11, max_steps=1, progress=False)
    for i, each in enumerate((model, copy.deepcopy(model), copy.copy(model))):
        assert _saved(each, tmp_path / str(i))["eos_token_id"] == [0, 2]
        assert (tmp_path / str(i) / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]


def test_a_companion_that_cannot_be_read_is_told(full, tmp_path, monkeypatch):
    monkeypatch.setattr("loopos.hf.source.MAX_BYTES", 100)
    with pytest.warns(RuntimeWarning, match=r"tokenizer\.model is left out"):
        model = loopos.Model.from_pretrained(full)
    model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer.model").exists()
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_a_model_of_ones_own_has_none_of_it(tmp_path):
    loopos.Model(loopos.ModelConfig(11, 6, 1, 2, 8)).save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "generation_config.json", "model.safetensors"]


def test_export_takes_it_along(full, tmp_path, capsys):
    np.save(tmp_path / "ids.npy", np.arange(200) % 11)
    out = tmp_path / "out"
    settings = ["--max-steps", "1", "--seq-len", "4", "--sample", "0", "--no-progress"]
    code = cli.main(["train", str(tmp_path / "ids.npy"), "--init", str(full), "--export", str(out), *settings])
    assert code == 0, capsys.readouterr()
    for name, content in FILES.items():
        assert (out / name).read_bytes() == content
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == [0, 2]


@pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL)
def test_every_common_key_is_harmless(settings):
    plain = config_from_json("config.json", settings)
    for key in sorted(HARMLESS - {"model_type"}):
        for value in (0, [1], "x", None, {"a": 1}):
            assert config_from_json("config.json", settings | {key: value}) == plain, key


@pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("key", [key for key, values in NEUTRAL.items() if key != "sliding_window"])
def test_what_would_change_numbers_is_named(settings, key):
    for value in NEUTRAL[key] or (None,):
        config_from_json("config.json", settings | {key: value})
    with pytest.raises(ValueError, match=key):
        config_from_json("config.json", settings | {key: "another"})


def test_the_tables_do_not_overlap():
    assert not HARMLESS & {*NEUTRAL, *QUANTIZATION}
    assert not set(COMPANIONS) & {"config.json", "model.safetensors"}


@pytest.mark.parametrize("key", QUANTIZATION)
@pytest.mark.parametrize(
    "value", [None, False, {}, {"load_in_4bit": False, "load_in_8bit": False, "quant_method": "bitsandbytes"}]
)
def test_weights_that_are_not_quantized(make_settings, make_tensors, write_folder, family, key, value, tmp_path):
    folder = write_folder(make_settings(family, **{key: value}), make_tensors(family))
    assert _saved(loopos.Model.from_pretrained(folder), tmp_path / "out").get(key) is None


@pytest.mark.parametrize(
    ("value", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"load_in_4bit": True, "load_in_8bit": False, "quant_method": "bitsandbytes"}, "bitsandbytes"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"bits": 4}, "a method it does not name"),
        (True, "a method"),
    ],
)
def test_quantized_weights_are_named_as_such(make_settings, family, value, method):
    for key in QUANTIZATION:
        with pytest.raises(ValueError, match=rf"{key} says that the weights are quantized \({method}.*F32.*dequantize"):
            config_from_json("config.json", make_settings(family, **{key: value}))


@pytest.mark.parametrize("where", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("name", ["rope_type", "type"])
def test_the_rotary_type_is_named_before_its_settings(make_settings, where, name):
    rope = {"factor": 32.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, name: "longrope"}
    settings = make_settings("llama", rope_parameters=None) | {where: rope}
    with pytest.raises(ValueError, match=rf"{where}\.{name} = 'longrope' is not supported"):
        config_from_json("config.json", settings)


def test_a_config_with_a_byte_order_mark(full):
    path = full / "config.json"
    plain = loopos.Model.from_pretrained(full).config
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert loopos.Model.from_pretrained(full).config == plain


def test_a_run_keeps_it(full, tmp_path):
    """Of a model that was trained, from wherever it is loaded again; and the next run in that folder starts without."""
    ids, settings = np.arange(200) % 11, {"seq_len": 4, "progress": False}
    run, model = tmp_path / "run", loopos.Model.from_pretrained(full)
    loopos.train(model, ids, max_steps=2, save_every=1, output_dir=run, **settings)
    for i, place in enumerate((run, run / "step-00000001")):
        after = _saved(loopos.Model.from_pretrained(place), tmp_path / f"out{i}")
        assert after["eos_token_id"] == [0, 2]
        assert after["torch_dtype"] == "float32"
        for name, content in FILES.items():
            assert (tmp_path / f"out{i}" / name).read_bytes() == content
    resumed = loopos.train(model.config, ids, max_steps=3, resume=run, output_dir=tmp_path / "other", **settings)
    for i, each in enumerate((resumed.model, loopos.Model.from_pretrained(tmp_path / "other"))):
        assert _saved(each, tmp_path / f"more{i}")["eos_token_id"] == [0, 2]
    with pytest.warns(UserWarning, match="checkpoints of another run"):
        loopos.train(model.config, ids, max_steps=1, output_dir=run, **settings)
    assert loopos.Model.from_pretrained(run).source is None


def test_a_run_of_ones_own_model_keeps_none(tmp_path):
    loopos.train(
        loopos.ModelConfig(11, 6, 1, 2, 8), np.arange(50) % 11, max_steps=1, output_dir=tmp_path, progress=False
    )
    assert loopos.Model.from_pretrained(tmp_path).source is None
    assert not (tmp_path / "pretrained").exists()
