"""loopos/gguf/writing.py: what is written, and that llama.cpp opens it and goes on as LoopOS does."""

import importlib.util
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos import NonFiniteError, Tokenizer
from loopos.gguf.container import open_container
from loopos.gguf.pretokenizers import CUTS

gguf = pytest.importorskip("gguf", reason="the extra [gguf]")
tokenizers = pytest.importorskip("tokenizers", reason="the extra [gguf]")

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


def test_a_model_that_is_stored_small(llama, tmp_path):
    small = loopos.Model(llama().config, seed=1, weights="bfloat16")
    loopos.gguf.write(small, tmp_path / "m.gguf", "bf16")
    again = loopos.gguf.read(tmp_path / "m.gguf").parameters()
    numbers = loopos.storage.all_weights(small._core)
    assert all(again[name].tobytes() == array.tobytes() for name, array in numbers.items())
    with pytest.raises(ValueError, match=r"gguf\.write: the weights of this model are stored as int8"):
        loopos.gguf.write(loopos.Model(small.config, weights="int8"), tmp_path / "n.gguf")


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


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_llama_cpp_goes_on_as_loopos_does(model, llama_cpp, tmp_path, kind):
    loopos.gguf.write(model, tmp_path / "m.gguf", kind)
    rounded = loopos.gguf.read(tmp_path / "m.gguf")
    ids = model.tokenizer.encode("the miller had three sons")
    found = llama_cpp(tmp_path / "m.gguf", ids, TEXTS, 12)
    assert found["tokens"] == [model.tokenizer.encode(text) for text in TEXTS]
    if kind in ("f32", "f16"):  # with the others it rounds what it multiplies too, and near ties fall otherwise
        assert found["written"] == rounded.generate(np.array([ids]), 12, temperature=0)[0, len(ids) :].tolist()
    expected = rounded.forward(np.array([ids]))[0]
    assert expected.std() > 0.1
    limit = {"f32": 2e-5, "f16": 2e-2, "bf16": 1e-1, "q8_0": 1e-1}[kind]
    if model.config.activation == "geglu_tanh":
        limit = max(limit, 1e-3)  # its gelu is a table of halves
    assert np.abs(np.array(found["logits"]) - expected).max() < limit * np.abs(expected).max()
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


HARD = (
    *(
        "héllo wörld 12345 3.14  \n\n\t x",
        "日本語 中文 한국어 🎉👩\u200d👩\u200d👧",
        "a\r\nb\u200bc\u00a0d e\u0301",
        "don't I'LL we'VE they're",
    ),
    *(
        "   leading",
        "trailing   ",
        "x=[1,2,3];  y={}",
        "１２３ ²³ ½ 1234567",
        "ﬁ ﷺ",
        "<|im_end|>\n\n a<|im_end|>",
        "the miller's",
        " ",
    ),
)


@pytest.mark.parametrize("kind", [*CUTS, "sentencepiece", "sentencepiece without a space in front"])
def test_llama_cpp_cuts_texts_as_the_tokenizer_does(kind, llama, llama_cpp, tmp_path):
    corpus = [" ".join(HARD[i:] + HARD[:i]) for i in range(len(HARD))] * 3
    if kind in CUTS:
        made = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=CUTS[kind].whole))
        empty = json.loads(made.to_str()) | {"pre_tokenizer": CUTS[kind].pre_tokenizer()}
        made = tokenizers.Tokenizer.from_str(json.dumps(empty))
        made.normalizer = tokenizers.normalizers.NFC() if CUTS[kind].nfc else None
        made.decoder = tokenizers.decoders.ByteLevel()
        alphabet, special = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), ["<|im_end|>"]
    else:
        normal = tokenizers.normalizers
        made = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        front = [] if "without" in kind else [normal.Prepend("▁")]
        made.normalizer = normal.Sequence([*front, normal.Replace(" ", "▁")])
        alphabet, special = [], ["<unk>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(corpus, trainer)
    if kind not in CUTS:  # bytes are no special tokens
        said = json.loads(made.to_str())
        said["added_tokens"] = [each for each in said["added_tokens"] if not each["content"].startswith("<0x")]
        made = tokenizers.Tokenizer.from_str(json.dumps(said))
    model = llama(vocab_size=made.get_vocab_size() + 3)
    model.tokenizer = tokenizer = Tokenizer(made, config={"eos_token": "<|im_end|>"})
    loopos.gguf.write(model, tmp_path / "m.gguf", "f16")
    again = loopos.gguf.read(tmp_path / "m.gguf").tokenizer
    found = llama_cpp(tmp_path / "m.gguf", tokenizer.encode("the"), HARD)["tokens"]
    for text, theirs in zip(HARD, found, strict=True):
        composed = unicodedata.normalize("NFC", text)  # llama.cpp composes nothing
        assert again.encode(text) == tokenizer.encode(text), text
        assert text != composed or theirs == tokenizer.encode(text), text


def test_a_classifier_is_refused(tmp_path):
    model = loopos.Model(loopos.ModelConfig(64, 16, 1, 2, 16)).with_labels(("no", "yes"))
    with pytest.raises(ValueError, match=r"gguf\.write: this model gives scores of 2 classes"):
        loopos.gguf.write(model, tmp_path / "model.gguf")
