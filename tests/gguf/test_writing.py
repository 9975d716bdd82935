"""loopos/gguf/writing.py: what is written, and that llama.cpp opens it and goes on as LoopOS does."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

import loopos
from loopos import NonFiniteError
from loopos.gguf.container import open_container

TEXTS = ["the miller's cat 123", "a  b\n\n\t ünï 你好 😀", "<|im_start|>user\nhi<|im_end|>\n", "don't  ", ""]


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_the_numbers_of_every_type(llama, tmp_path, kind):
    model = llama()
    loopos.gguf.write(model, tmp_path / "m.gguf", kind)
    found = open_container(tmp_path / "m.gguf")
    assert found.metadata["general.file_type"] == {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}[kind]
    again = loopos.gguf.read(tmp_path / "m.gguf").parameters()
    for name, tensor in found.tensors.items():
        assert tensor.type.name == ("F32" if len(tensor.shape) == 1 else kind.upper()), name
    for name, array in model.parameters().items():
        largest = np.abs(array).max()
        limit = {"f32": 0, "f16": 2**-11, "bf16": 2**-8, "q8_0": 1 / 254 + 2**-11}[kind] * (array.ndim == 2)
        assert np.abs(again[name] - array).max() <= limit * largest, name
    assert list(tmp_path.iterdir()) == [tmp_path / "m.gguf"]


def test_rows_that_are_no_whole_blocks_are_f16(llama, tmp_path):
    loopos.gguf.write(llama(d_ff=40), tmp_path / "m.gguf", "q8_0")
    types = {name: tensor.type.name for name, tensor in open_container(tmp_path / "m.gguf").tensors.items()}
    assert types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.ffn_up.weight"] == "Q8_0"


def test_the_reader_of_the_gguf_package_agrees(llama, tmp_path):
    model = llama()
    loopos.gguf.write(model, tmp_path / "m.gguf", "q8_0")
    ours = open_container(tmp_path / "m.gguf")
    theirs = gguf.GGUFReader(tmp_path / "m.gguf")
    for tensor in theirs.tensors:
        stored = ours.tensors[tensor.name]
        assert (stored.shape, stored.begin) == (tuple(tensor.shape.tolist())[::-1], tensor.data_offset)
    values = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert values.keys() == ours.metadata.keys()
    for name, value in ours.metadata.items():
        assert np.array_equal(value, values[name]), name


def test_what_it_refuses(llama, tmp_path):
    path, model = tmp_path / "m.gguf", llama()
    with pytest.raises(ValueError, match="type must be one of 'f32', 'f16', 'bf16', 'q8_0', got 'q4_0'"):
        loopos.gguf.write(model, path, "q4_0")
    with pytest.raises(TypeError, match="model must be a Model"):
        loopos.gguf.write("model", path)
    other = loopos.Model(loopos.ModelConfig(vocab_size=9, context_length=8, n_layer=1, n_head=2, d_model=8))
    with pytest.raises(ValueError, match=r"no architecture of GGUF has this configuration; .* needs norm 'rmsnorm'"):
        loopos.gguf.write(other, path)
    view = model.parameters()["blocks.1.mlp.down_proj.weight"]
    view[2, 3] = 1e5
    with pytest.raises(ValueError, match=r"a number of blk\.1\.ffn_down\.weight is beyond the range of F16"):
        loopos.gguf.write(model, path, "f16")
    view[2, 3] = np.inf
    with pytest.raises(NonFiniteError, match="nothing was written") as refused:
        loopos.gguf.write(model, path, "f32")
    assert refused.value.birth.tensor == "blocks.1.mlp.down_proj.weight"
    view[2, 3] = 1
    with pytest.raises(OSError, match="nothing"):
        loopos.gguf.write(model, Path("/proc/nothing/m2.gguf"))
    assert list(tmp_path.iterdir()) == []


def test_a_float64_model_is_written_as_float32(llama, tmp_path):
    model = loopos.Model(llama().config, seed=3, dtype="float64")
    loopos.gguf.write(model, tmp_path / "m.gguf", "f32")
    again = loopos.gguf.read(tmp_path / "m.gguf").parameters()
    for name, array in model.parameters().items():
        assert np.array_equal(again[name], array.astype(np.float32))


@pytest.fixture
def llama_cpp():
    """llama_cpp(path, ids, texts, count): what llama.cpp makes of a file."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed; it takes ten minutes to build, so this is a check by hand")
    script = Path(__file__).with_name("open_in_llama_cpp.py")

    def run(path, ids, texts=(), count=0):
        asked = json.dumps({"ids": [int(id) for id in ids], "texts": list(texts)})
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), str(path), str(count)], input=asked, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_llama_cpp_goes_on_as_loopos_does(llama, llama_cpp, tmp_path, kind):
    model = llama()
    loopos.gguf.write(model, tmp_path / "m.gguf", kind)
    rounded = loopos.gguf.read(tmp_path / "m.gguf")
    ids = model.tokenizer.encode("the miller had three sons")
    found = llama_cpp(tmp_path / "m.gguf", ids, TEXTS, 12)
    assert found["tokens"] == [model.tokenizer.encode(text) for text in TEXTS]
    assert found["written"] == rounded.generate(np.array([ids]), 12, temperature=0)[0, len(ids) :].tolist()
    assert "".join(found["pieces"]) == "the miller had three sons"
    assert found["template"] == model.tokenizer.chat_template


@pytest.mark.real
@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_llama_cpp_goes_on_as_the_real_model_does(real_gguf, llama_cpp, tmp_path, kind):
    model = loopos.gguf.read(real_gguf)
    loopos.gguf.write(model, tmp_path / "m.gguf", kind)
    tokenizer = model.tokenizer
    ids = tokenizer.encode(tokenizer.apply_chat_template([{"role": "user", "content": "Name three fruits."}], True))
    found = llama_cpp(tmp_path / "m.gguf", ids, TEXTS, 16)
    assert found["tokens"] == [tokenizer.encode(text) for text in TEXTS]
    assert found["written"] == model.generate(np.array([ids]), 16, temperature=0)[0, len(ids) :].tolist()
    assert found["template"] == tokenizer.chat_template
