"""loopos/gguf/reading.py: a model out of a file; the real one gives the tokens that transformers gives."""

import subprocess
import sys

import numpy as np
import pytest

import loopos
from loopos import CheckpointError

gguf = pytest.importorskip("gguf", reason="the extra [gguf]")

HARD = (
    *(
        "héllo wörld 12345 3.14  \n\n\t x",
        "日本語 中文 한국어 🎉👩‍👩‍👧",
        "<|im_start|>user\nhi<|im_end|>\n",
        "a\r\nb\u200bc\u00a0d",
    ),
    *(
        "don't I'll we'VE they're",
        "   leading",
        "trailing   ",
        "x=[1,2,3];  y={}",
        "",
        "\u0000\x01",
        "１２３ ²³ ½",
        "ﬁ ﷺ é",
    ),
)


def rewritten(source, target, drop=(), **changed):
    """A copy of a file with other metadata, or without some; a tensor under another name where it says so."""
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in drop or name == "general.architecture":
            continue
        value, kind = changed.pop(name, field.contents()), field.types[0]
        writer.add_key_value(name, value, kind)
    names = changed.pop("names", {})
    for key, value in changed.items():
        writer.add_key_value(
            key, value, gguf.GGUFValueType.STRING if isinstance(value, str) else gguf.GGUFValueType.UINT32
        )
    for tensor in reader.tensors:
        if tensor.name not in drop:
            name = names.get(tensor.name, tensor.name)
            writer.add_tensor(name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.fixture
def path(llama, tmp_path):
    loopos.gguf.write(llama(), tmp_path / "m.gguf", "f32")
    return tmp_path / "m.gguf"


def test_what_is_read_is_what_was_written(model, tmp_path):
    loopos.gguf.write(model, tmp_path / "m.gguf", "f32")
    again = loopos.gguf.read(tmp_path / "m.gguf")
    assert again.config == model.config
    for name, array in model.parameters().items():
        if model.config.norm_unit_offset and "norm" in name:  # the file has 1 + w
            np.testing.assert_allclose(again.parameters()[name], array, rtol=0, atol=2**-23)
        else:
            assert np.array_equal(array, again.parameters()[name]), name
    theirs, ours = again.tokenizer, model.tokenizer
    text = "the miller's ünï<|im_end|> 12 😀"
    assert theirs.encode(text) == ours.encode(text)
    assert (theirs.eos, theirs.bos, theirs.chat_template) == (ours.eos, ours.bos, ours.chat_template)
    wide = loopos.gguf.read(tmp_path / "m.gguf", dtype="float64")
    assert (wide.dtype, wide.precision) == ("float64", "float32")
    assert loopos.gguf.read(tmp_path / "m.gguf", precision="bf16").precision == "bf16"
    for name, array in again.parameters().items():
        assert np.array_equal(array, wide.parameters()[name].astype(np.float32)), name


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"drop": ["llama.block_count"]}, CheckpointError, r"llama\.block_count is missing"),
        ({"llama.block_count": 3}, CheckpointError, r"blk\.2\.attn_norm\.weight is missing"),
        ({"llama.block_count": 1}, CheckpointError, r"blk\.1\.attn_norm\.weight is of no parameter"),
        ({"llama.block_count": 2**31}, CheckpointError, "21 tensors cannot make up"),
        ({"llama.embedding_length": 32}, (ValueError, CheckpointError), "m2"),
        ({"llama.feed_forward_length": 97}, CheckpointError, r"ffn_gate\.weight is \(96, 64\), expected \(97, 64\)"),
        ({"llama.attention.head_count": 0}, CheckpointError, "head_count must be an integer of at least 1"),
        ({"llama.attention.head_count_kv": 3}, ValueError, "n_kv_head must divide n_head"),
        ({"llama.rope.dimension_count": 8}, ValueError, "rope over 8 of 16 numbers of a head is not supported"),
        ({"llama.rope.scaling.type": "longrope"}, ValueError, "the rope scaling 'longrope' is not supported"),
        ({"split.count": 3}, ValueError, "one of several files of a model; join them first"),
        ({"llama.expert_count": 8}, ValueError, r"llama\.expert_count is not supported"),
        ({"names": {"output.weight": "rope_freqs.weight"}}, (ValueError, CheckpointError), "m2"),
        ({"names": {"output.weight": "other.weight"}}, CheckpointError, r"other\.weight is of no parameter"),
        ({"drop": ["token_embd.weight"]}, CheckpointError, r"token_embd\.weight is missing"),
    ],
)
def test_a_file_that_is_no_model_is_named(path, tmp_path, changed, error, message):
    with pytest.raises(error, match=message):
        loopos.gguf.read(rewritten(path, tmp_path / "m2.gguf", **changed))


def test_an_architecture_that_is_not_known(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="the architecture 'mamba' is not supported; these are: llama, qwen2"):
        loopos.gguf.read(tmp_path / "m.gguf")


def test_without_the_package_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[gguf\]'"):
        loopos.gguf.read(path)


@pytest.fixture(scope="module")
def folder(real_gguf, tmp_path_factory):
    """The real model as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("real") / "smollm2"
    loopos.gguf.read(real_gguf).save_pretrained(folder)
    return folder


@pytest.mark.real
@pytest.mark.reference
def test_the_real_model_is_that_of_transformers(folder):
    torch = pytest.importorskip("torch", reason="the extra [reference]")
    transformers = pytest.importorskip("transformers", reason="the extra [reference]")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours = loopos.Model.from_pretrained(folder)
    for text in HARD:
        ids = ours.tokenizer.encode(text)
        assert ids == tokenizer.encode(text, add_special_tokens=False), text
        assert ours.tokenizer.decode(ids) == tokenizer.decode(ids) == text
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = ours.tokenizer.apply_chat_template(chat, True)
    assert prompt == tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert (ours.tokenizer.eos, ours.tokenizer.bos) == (tokenizer.eos_token_id, tokenizer.bos_token_id) == (2, 1)
    ids = np.array([ours.tokenizer.encode(prompt)])
    expected = theirs.generate(torch.tensor(ids), max_new_tokens=24, do_sample=False, eos_token_id=None)
    written = ours.generate(ids, 24, temperature=0)
    assert written.tolist() == expected.tolist()
    assert "The capital of France is Paris." in ours.tokenizer.decode(written[0])


@pytest.mark.real
def test_the_real_model_is_in_memory_once_while_it_is_read_and_written(real_gguf, tmp_path):
    code = (
        "import sys, loopos, loopos.gguf\n"
        "peak = lambda: int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
        "before = peak()\n"
        "model = loopos.gguf.read(sys.argv[1])\n"
        "model.save_pretrained(sys.argv[2])\n"
        "loopos.gguf.write(model, sys.argv[2] + '/m.gguf', 'f16')\n"
        "took = 1024 * (peak() - before)\n"
        "print(took / (4 * model.config.num_parameters()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(real_gguf), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.5  # of its float32 weights: the tokenizer, and one tensor of a file at a time
