"""The same tokens and the same cuts as transformers' generate."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loopos
from loopos.generation.sampling import distribution, penalised

from .conftest import LLAMA

pytestmark = pytest.mark.reference
PROMPTS = [np.random.default_rng(0).integers(0, 61, n) for n in (4, 40, 1)]


@pytest.fixture(scope="module", params=["llama", "mistral"])
def both(request, tmp_path_factory):
    """(our model, the same of transformers); mistral has a sliding window."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp(request.param)
    model = loopos.Model(loopos.ModelConfig(61, 128, 2, 4, 32, **LLAMA), seed=1)
    for weight in model.parameters().values():
        weight *= 6
    model.save_pretrained(folder)
    if request.param == "mistral":
        named = json.loads((folder / "config.json").read_text())
        named |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 9}
        (folder / "config.json").write_text(json.dumps(named))
        weights = model.state_dict()
        model = loopos.Model(loopos.ModelConfig(61, 128, 2, 4, 32, **LLAMA, sliding_window=9))
        model.load_state_dict(weights)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    assert theirs.config.model_type == request.param
    return model, theirs.eval()


def generated(theirs, prompts, new, **options):
    """Greedy, rows of unequal length padded on the left."""
    import torch

    longest = max(map(len, prompts))
    ids = torch.tensor(np.stack([np.r_[np.zeros(longest - len(p), int), p] for p in prompts]))
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    options.setdefault("pad_token_id", options["eos_token_id"][0] if options.get("eos_token_id") else 0)
    with torch.no_grad():
        return theirs.generate(
            ids, attention_mask=mask, max_new_tokens=new, do_sample=False, **options
        ).numpy(), longest


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_tokens_rows_by_rows_and_together(both, penalty):
    ours, theirs = both
    given = {"repetition_penalty": penalty}
    for prompt in PROMPTS:
        want, _ = generated(theirs, [prompt], 20, eos_token_id=None, **given)
        assert ours.generate(prompt[None], 20, temperature=0, **given).tolist() == want.tolist()
    if penalty == 1.0:  # theirs counts the tokens that fill up a row among those it had
        want, longest = generated(theirs, PROMPTS, 20, eos_token_id=None)
        got = ours.generate(PROMPTS, 20, temperature=0)
        for row, prompt, reference in zip(got, PROMPTS, want, strict=True):
            assert row[len(prompt) :].tolist() == reference[longest:].tolist()


def test_rows_end_and_are_filled_as_there(both):
    ours, theirs = both
    ids = np.stack([PROMPTS[0], PROMPTS[1][:4], PROMPTS[1][4:8]])
    plain = ours.generate(ids, 20, temperature=0)
    for eos in ([int(plain[0, 9])], [int(plain[1, 12]), int(plain[0, 7])], [int(plain[2, 4])]):
        want, _ = generated(theirs, list(ids), 20, eos_token_id=eos)
        np.testing.assert_array_equal(ours.generate(ids, 20, temperature=0, eos=eos), want)


@pytest.mark.parametrize(
    "cuts",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
        {"temperature": 0.4, "top_k": 3, "min_p": 0.3},
        {"repetition_penalty": 1.4},
        {"repetition_penalty": 0.6, "temperature": 1.3, "top_p": 0.5},
    ],
    ids=str,
)
def test_what_is_left_of_the_probabilities(cuts):
    """By the processors that their generate makes of these settings, in its order."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    rng = np.random.default_rng(3)
    logits, history = 3 * rng.standard_normal((7, 61)), rng.integers(0, 61, (7, 12))
    settings = transformers.GenerationConfig(do_sample=True, **({"top_k": 0} | cuts))
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=61, **size)
    model = transformers.LlamaForCausalLM(config)
    processors = model._get_logits_processor(generation_config=settings, input_ids_seq_length=12, device="cpu")
    assert len(processors) == len(cuts)
    scores = processors(torch.tensor(history), torch.tensor(logits))
    want = torch.softmax(scores, -1).numpy()

    ours = penalised(logits, list(history), cuts.get("repetition_penalty", 1.0))
    order, p = distribution(ours, **{name: cut for name, cut in cuts.items() if name != "repetition_penalty"})
    got = np.zeros_like(want)
    np.put_along_axis(got, order, p / p.sum(-1, keepdims=True), -1)
    np.testing.assert_array_equal(got > 0, want > 0)
    np.testing.assert_allclose(got, want, rtol=1e-12)
