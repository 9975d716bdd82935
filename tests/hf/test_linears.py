"""The matrices of products by the names of transformers: every row of every projection once, in the file's order."""

from __future__ import annotations

import numpy as np
import pytest
from hf_sizes import SMALL

import loopos
from loopos.hf.linears import linears
from loopos.hf.settings import config_from_json


@pytest.mark.parametrize("family", SMALL)
def test_every_row_of_every_projection_is_there_once(family):
    config = config_from_json("config.json", SMALL[family])
    found = linears(config, family)
    rows = {}
    for each in found:
        assert each.first == rows.get(each.projection, (0, 0))[0]
        rows[each.projection] = (each.first + each.rows, each.columns)
    views = loopos.Model(config).parameters()
    matrices = {n.removesuffix(".weight"): v.shape for n, v in views.items() if "blocks" in n and v.ndim == 2}
    assert rows == matrices
    assert len({each.name for each in found}) == len({each.module for each in found}) == len(found)


@pytest.mark.reference
@pytest.mark.parametrize("family", SMALL)
def test_the_modules_are_those_of_transformers(family):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    settings = {name: value for name, value in SMALL[family].items() if name != "model_type"}
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **settings))
    kinds = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    head = theirs.get_output_embeddings()
    modules = {name: m for name, m in theirs.named_modules() if isinstance(m, kinds) and m is not head}
    found = linears(config_from_json("config.json", SMALL[family]), family)
    assert {each.module for each in found} == set(modules)
    for each in found:
        shape = tuple(modules[each.module].weight.shape)
        assert (each.rows, each.columns) == (shape[::-1] if family == "gpt2" else shape)


def test_rows_that_stand_head_by_head_go_there_and_back():
    config = config_from_json("config.json", SMALL["gpt_neox"])
    qkv = linears(config, "gpt_neox")[0]
    ours = np.arange(qkv.rows * 2).reshape(qkv.rows, 2)
    theirs = qkv.to_file(ours)
    heads = theirs.reshape(config.n_head, 3, config.head_width, 2)
    np.testing.assert_array_equal(heads.swapaxes(0, 1).reshape(ours.shape), ours)
    np.testing.assert_array_equal(qkv.from_file(theirs), ours)
    np.testing.assert_array_equal(qkv.from_file(qkv.to_file(ours[:, 0])), ours[:, 0])
    assert not np.array_equal(theirs, ours)


@pytest.mark.parametrize(
    ("activation", "end"), [("swiglu", "layers.0.mlp.gate_proj"), ("relu2", "h.0.mlp.c_fc")], ids=["gate", "none"]
)
def test_a_model_of_no_family_has_the_names_of_the_next(activation, end):
    config = loopos.ModelConfig(11, 8, 2, 2, 8, activation=activation, norm_unit_offset=True, tie_embeddings=False)
    with pytest.raises(ValueError, match="no Hugging Face family"):
        loopos.Model(config).save_pretrained("nowhere")
    assert any(each.module.endswith(end) for each in linears(config))
    assert len(linears(config)) == 2 * (7 if activation == "swiglu" else 4)
