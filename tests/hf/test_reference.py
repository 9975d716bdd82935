"""transformers opens what LoopOS writes and the other way round; the logits agree.

The forward pass below is written plainly in numpy, so that names, transposes, head order and rotation are proved
without the C++ core.
"""

import json
import math

import numpy as np
import pytest
from safetensors import safe_open

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.reference

from hf_reading import read_pretrained  # noqa: E402

import loopos  # noqa: E402
from loopos.choices import ACTIVATIONS, FUNCTIONS  # noqa: E402
from loopos.hf import known, write_pretrained  # noqa: E402
from loopos.hf.families import FAMILIES  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

GPT2 = dict(vocab_size=23, n_positions=12, n_embd=16, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None)
LLAMA = dict(
    vocab_size=23,
    max_position_embeddings=12,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    bos_token_id=None,
    eos_token_id=None,
)
CASES = {
    "gpt2": GPT2,
    "gpt2 exact gelu, n_inner": GPT2 | dict(activation_function="gelu", n_inner=20, layer_norm_epsilon=1e-3),
    "gpt2 relu, one head": GPT2 | dict(activation_function="relu", n_head=1),
    **{f"gpt2 {name}": GPT2 | dict(activation_function=name) for name in FAMILIES["gpt2"].activations},
    **{f"llama {name}": LLAMA | dict(hidden_act=name) for name in FAMILIES["llama"].activations},
    "gpt2 gelu_pytorch_tanh": GPT2 | dict(activation_function="gelu_pytorch_tanh", reorder_and_upcast_attn=True),
    "llama": LLAMA,
    "llama grouped, tied": LLAMA | dict(num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-3),
    "llama one key head, theta": LLAMA
    | dict(num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 50.0}),
}


def reference(settings, dtype=torch.float32):
    """A model made at random, far enough from its initialization that every tensor matters."""
    torch.manual_seed(3)
    family = "GPT2" if "n_embd" in settings else "Llama"
    config = getattr(transformers, f"{family}Config")(**settings)
    model = getattr(transformers, {"GPT2": "GPT2LMHeadModel", "Llama": "LlamaForCausalLM"}[family])(config)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    return model.to(dtype).eval()


def normalized(config, p, name, x):
    if config.norm == "rmsnorm":
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps) * p[f"{name}.weight"]
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)


def rotated(x, theta):
    """x (B, H, T, D): elements i and i + D/2 turn by position * theta ** (-2i / D)."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[-2])[:, None] * theta ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def activated(config, p, block, x):
    function = FUNCTIONS[ACTIVATIONS[config.activation].f]
    if config.gated:
        gate, up = np.split(linear(p, f"{block}.mlp.gate_up_proj", x), 2, -1)
        return function.of(gate)[0] * up
    return function.of(linear(p, f"{block}.mlp.up_proj", x))[0]


def logits_of(config, arrays, ids):
    p = {name: array.astype(np.float64) for name, array in arrays.items()}
    B, T = ids.shape
    H, K, D = config.n_head, config.n_kv_head, config.head_width
    x = p["tok_embed.weight"][ids]
    if config.position == "learned":
        x = x + p["pos_embed.weight"][:T]
    for i in range(config.n_layer):
        block = f"blocks.{i}"
        qkv = linear(p, f"{block}.attn.qkv_proj", normalized(config, p, f"{block}.attn_norm", x))
        q, k, v = np.split(qkv.reshape(B, T, H + 2 * K, D).transpose(0, 2, 1, 3), [H, H + K], 1)
        if config.position == "rope":
            q, k = rotated(q, config.rope_theta), rotated(k, config.rope_theta)
        k, v = np.repeat(k, H // K, 1), np.repeat(v, H // K, 1)
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(D)
        scores[..., ~np.tri(T, dtype=bool)] = -np.inf
        e = np.exp(scores - scores.max(-1, keepdims=True))
        y = (e / e.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(B, T, H * D)
        x = x + linear(p, f"{block}.attn.o_proj", y)
        normed = normalized(config, p, f"{block}.mlp_norm", x)
        x = x + linear(p, f"{block}.mlp.down_proj", activated(config, p, block, normed))
    x = normalized(config, p, "final_norm", x)
    return x @ p["tok_embed.weight" if config.tie_embeddings else "lm_head.weight"].T


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def settings(request):
    return request.param


IDS = np.random.default_rng(5).integers(0, 23, (2, 12))


def theirs(model, ids=IDS):
    with torch.no_grad():
        return model(torch.from_numpy(ids)).logits.numpy()


def test_logits_agree_in_float64(settings, tmp_path):
    """transformers takes rotary angles and RMS norm's statistics in float32 even in a float64 model: Llama's gate."""
    model = reference(settings, torch.float64)
    model.save_pretrained(tmp_path)
    config, arrays, _ = read_pretrained(tmp_path)
    ours, expected = logits_of(config, arrays, IDS), theirs(model)
    scale = np.abs(expected).max()
    assert scale > 1
    assert np.abs(ours - expected).max() <= (1e-12 if config.norm == "layernorm" else 2e-6) * scale


def test_logits_agree_in_float32(settings, tmp_path):
    model = reference(settings)
    model.save_pretrained(tmp_path)
    config, arrays, _ = read_pretrained(tmp_path)
    expected = theirs(model)
    assert np.abs(logits_of(config, arrays, IDS) - expected).max() <= 5e-6 * np.abs(expected).max()


def test_the_core_agrees_with_this_forward_pass(settings, tmp_path):
    """Both families at the precision of float64, which transformers' Llama does not have."""
    reference(settings, torch.float64).save_pretrained(tmp_path)
    expected = logits_of(*read_pretrained(tmp_path)[:2], IDS)
    got = loopos.Model.from_pretrained(tmp_path).forward(IDS)
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transformers_opens_what_is_written(settings, dtype, tmp_path):
    model = reference(settings, dtype)
    model.save_pretrained(tmp_path / "theirs")
    config, arrays, _ = read_pretrained(tmp_path / "theirs")
    write_pretrained(tmp_path / "ours", config, arrays)
    opened, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert opened.dtype == dtype
    before, after = model.state_dict(), opened.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    key = "hidden_act" if "hidden_size" in settings else "activation_function"
    # gelu_new and gelu_pytorch_tanh are one activation, computed in two ways
    exact = getattr(opened.config, key) == getattr(model.config, key)
    np.testing.assert_allclose(theirs(opened.eval()), theirs(model), rtol=0, atol=0 if exact else 2e-6)
    names = []
    for folder in ("theirs", "ours"):
        with safe_open(tmp_path / folder / "model.safetensors", "np") as file:
            names.append((sorted(file.keys()), file.metadata()))
    assert names[0] == names[1]
    assert opened.generation_config.eos_token_id is None
    assert opened.config.eos_token_id is None


@pytest.mark.parametrize("case", ["gpt2", "llama", "llama grouped, tied"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(case, dtype, tmp_path):
    model = reference(CASES[case], dtype)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="dtype="):
        read_pretrained(tmp_path)
    for wanted in ("float32", "float64"):
        config, arrays, _ = read_pretrained(tmp_path, wanted)
        assert {str(a.dtype) for a in arrays.values()} == {wanted}
        wide = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, wanted))
        expected = theirs(wide)
        assert np.abs(logits_of(config, arrays, IDS) - expected).max() <= 5e-6 * np.abs(expected).max()


@pytest.mark.parametrize("case", ["gpt2", "llama", "llama grouped, tied"])
def test_a_bfloat16_folder_comes_back_bit_for_bit(case, tmp_path):
    model = reference(CASES[case], torch.bfloat16)
    model.save_pretrained(tmp_path / "theirs")
    loopos.Model.from_pretrained(tmp_path / "theirs", weights="bfloat16").save_pretrained(tmp_path / "ours")
    load = transformers.AutoModelForCausalLM.from_pretrained
    again, about = load(tmp_path / "ours", dtype="auto", output_loading_info=True)
    assert not any(about.values())
    assert again.dtype == torch.bfloat16
    assert model.state_dict().keys() == again.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize("case", ["gpt2", "llama grouped, tied"])
def test_the_bare_model_without_its_head_loads(case, tmp_path):
    model = reference(CASES[case])
    model.save_pretrained(tmp_path / "whole")
    model.base_model.save_pretrained(tmp_path / "bare")
    whole, bare = read_pretrained(tmp_path / "whole"), read_pretrained(tmp_path / "bare")
    assert whole[0] == bare[0]
    for name, array in whole[1].items():
        np.testing.assert_array_equal(array, bare[1][name])


def test_the_rotary_base_of_older_files(tmp_path):
    """What transformers 4 wrote: rope_theta at the top level, torch_dtype, rope_scaling null."""
    model = reference(CASES["llama one key head, theta"])
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings |= {"rope_theta": settings.pop("rope_parameters")["rope_theta"], "rope_scaling": None}
    settings["torch_dtype"] = settings.pop("dtype")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert opened.config.rope_parameters["rope_theta"] == 50.0
    config, arrays, _ = read_pretrained(tmp_path)
    assert config.rope_theta == 50.0
    expected = theirs(opened)
    assert np.abs(logits_of(config, arrays, IDS) - expected).max() <= 5e-6 * np.abs(expected).max()


def test_every_default_is_theirs(tmp_path):
    """A config.json of the sizes alone means the same to both."""
    for settings, cls in ((GPT2, transformers.GPT2Config), (LLAMA, transformers.LlamaConfig)):
        family = cls.model_type
        sizes = {key: value for key, value in settings.items() if not key.endswith("_id")}
        folder = tmp_path / family
        reference(settings).save_pretrained(folder)
        config = read_pretrained(folder).config
        (folder / "config.json").write_text(json.dumps(sizes | {"model_type": family}))
        assert read_pretrained(folder)[0] == config


def test_the_table_of_common_keys_is_theirs():
    """A newer transformers may give more: then the table and its SOURCE are to be brought up to it."""
    pretrained = set(transformers.PreTrainedConfig().to_dict()) - {"_name_or_path", "is_encoder_decoder"}
    generation = set(transformers.GenerationConfig().to_dict()) - {"_from_model_config"}
    assert pretrained <= known.PRETRAINED
    assert generation <= known.GENERATION
    if f"transformers {transformers.__version__}" == known.SOURCE:
        assert (pretrained, generation) == (known.PRETRAINED, known.GENERATION)


@pytest.mark.parametrize("settings", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_special_tokens_survive_the_round_trip(settings, tmp_path):
    model = reference(settings | {"eos_token_id": [0, 1], "pad_token_id": 2, "bos_token_id": 3})
    model.generation_config = transformers.GenerationConfig(eos_token_id=[0, 5], temperature=0.5, do_sample=True)
    model.save_pretrained(tmp_path / "theirs")
    loopos.Model.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    opened, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert (opened.config.eos_token_id, opened.config.pad_token_id, opened.config.bos_token_id) == ([0, 1], 2, 3)
    assert (opened.generation_config.eos_token_id, opened.generation_config.temperature) == ([0, 5], 0.5)
    assert opened.config.to_dict() | {"dtype": None} == model.config.to_dict() | {
        "dtype": None,
        "_name_or_path": str(tmp_path / "ours"),
    }


def test_a_tokenizer_opens_where_the_model_was_saved_again(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<unk>": 0, "a": 1, "tale": 2}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    theirs.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    reference(GPT2).save_pretrained(tmp_path / "theirs")
    theirs.save_pretrained(tmp_path / "theirs")
    loopos.Model.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert opened("a tale")["input_ids"] == [1, 2]
    assert opened.chat_template == theirs.chat_template
