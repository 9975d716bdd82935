"""Model.from_pretrained and save_pretrained against transformers: logits, loss, gradients, greedy text."""

import numpy as np
import pytest

import loopos

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.reference
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

GPT2 = dict(vocab_size=23, n_positions=12, n_embd=16, n_layer=2, n_head=4)
LLAMA = dict(
    vocab_size=23,
    max_position_embeddings=12,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
CASES = {
    "gpt2": GPT2,
    "gpt2 gelu, n_inner": GPT2 | dict(activation_function="gelu", n_inner=20, layer_norm_epsilon=1e-3),
    "gpt2 relu": GPT2 | dict(activation_function="relu", n_head=1),
    "llama": LLAMA,
    "llama tied, theta": LLAMA
    | dict(tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 50.0}),
}
IDS, TARGETS = np.random.default_rng(5).integers(0, 23, (2, 2, 12))
TARGETS[0, 3:5] = -100


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def settings(request):
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def theirs(settings, dtype):
    """A model made at random, far enough from its initialization that every tensor matters."""
    torch.manual_seed(3)
    family, cls = ("GPT2", "GPT2LMHeadModel") if "n_embd" in settings else ("Llama", "LlamaForCausalLM")
    config = getattr(transformers, f"{family}Config")(**settings, bos_token_id=None, eos_token_id=None)
    model = getattr(transformers, cls)(config)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    return model.to(getattr(torch, dtype)).eval()


@pytest.fixture
def ours(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    return loopos.Model.from_pretrained(tmp_path / "theirs")


@pytest.fixture
def gate(theirs, dtype):
    """Relative to a tensor's norm. Llama's angles and norms are float32 in transformers even in a float64 model."""
    return 1e-12 if dtype == "float64" and theirs.config.model_type == "gpt2" else 1e-5


def close(got, expected, gate):
    assert got.shape == expected.shape
    assert np.linalg.norm(expected) > 0
    assert np.linalg.norm(got - expected) <= gate * np.linalg.norm(expected)


def test_logits_and_loss(ours, theirs, dtype, gate):
    assert ours.dtype == dtype
    with torch.no_grad():
        logits = theirs(torch.from_numpy(IDS)).logits
    close(ours.forward(IDS), logits.numpy(), gate)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(TARGETS).flatten())
    assert ours.loss(IDS, TARGETS) == pytest.approx(loss.item(), rel=gate)


def test_gradients(ours, theirs, gate, tmp_path):
    logits = theirs(torch.from_numpy(IDS)).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(TARGETS).flatten()).backward()
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(p.grad)
    theirs.save_pretrained(tmp_path / "gradients")  # the same names and transposes as the weights
    expected = loopos.Model.from_pretrained(tmp_path / "gradients").state_dict()
    _, got = ours.loss_and_grads(IDS, TARGETS)
    assert list(got) == list(expected) == list(ours.parameters())
    for name in expected:
        close(got[name], expected[name], 2 * gate)


def test_greedy_text(ours, theirs):
    prompt = torch.from_numpy(IDS[:, :3])
    options = dict(max_new_tokens=9, do_sample=False, attention_mask=torch.ones_like(prompt), pad_token_id=0)
    expected = theirs.generate(prompt, **options).numpy()
    np.testing.assert_array_equal(ours.generate(IDS[:, :3], 9, temperature=0), expected)


def test_a_saved_model_opens_there_with_the_same_bits(ours, theirs, tmp_path):
    ours.save_pretrained(tmp_path / "ours")
    opened, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    before, after = theirs.state_dict(), opened.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    again = loopos.Model.from_pretrained(tmp_path / "ours")
    assert (again.config, again.dtype) == (ours.config, ours.dtype)
    assert all(again.parameters()[name].tobytes() == p.tobytes() for name, p in ours.parameters().items())


def test_the_whole_backward_pass(ours):
    assert loopos.gradcheck(ours, (IDS, TARGETS))
