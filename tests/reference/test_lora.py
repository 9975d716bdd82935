"""A run with LoRA beside peft: the same base, first values and batches give the same losses and matrices."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import some, stir
from hf_against import computing
from hf_sizes import SMALL

import loopos
from loopos import LoRA

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip("transformers", reason="compares with transformers")
peft = pytest.importorskip("peft", reason="compares with peft")
pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]  # of peft and transformers

STEPS, RATE, DECAY, CLIP, BETAS, EPS = 50, 3e-3, 0.1, 0.5, (0.9, 0.95), 1e-8
OPTIONS = {"plain": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}
OPTIONS["patterns"] = {"rank_pattern": {"v_proj": 6, "c_attn": 7}, "alpha_pattern": {"up_proj": 20, "mlp.c_proj": 15}}


class Batches:
    """Copies of a periodic sequence; one target in eight is masked."""

    def __init__(self):
        self.sequence = np.resize(np.random.default_rng(0).permutation(23), 4000)

    def batch(self, step, micro):
        rng = np.random.default_rng([step, micro])
        starts = rng.integers(0, len(self.sequence) - 13, 4)
        windows = np.stack([self.sequence[start : start + 13] for start in starts])
        targets = windows[:, 1:].copy()
        targets[rng.random(targets.shape) < 0.125] = -100
        return windows[:, :-1].copy(), targets


def run_peft(model, batches):
    """The losses of the training loop that loopos.train is, in PyTorch."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        ids, targets = (torch.from_numpy(each) for each in batches.batch(step, 0))
        logits = model(ids).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        for p in trained:
            p.grad.mul_(min(1.0, CLIP / norm.item()))
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_losses_and_matrices_follow_peft(family, options, dtype, tmp_path):
    batches = Batches()
    torch.manual_seed(3)
    settings = {name: value for name, value in SMALL[family].items() if name != "model_type"}
    if family == "gpt2":
        settings |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    with computing(dtype):
        theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **settings))
        stir({name: view.detach().numpy() for name, view in theirs.named_parameters()})
        theirs.to(getattr(torch, dtype)).save_pretrained(tmp_path / "base")
        names = list(some(family))
        asked = peft.LoraConfig(r=4, lora_alpha=6, target_modules=names, task_type="CAUSAL_LM", **options)
        theirs = peft.get_peft_model(theirs, asked, autocast_adapter_dtype=False)
        theirs.save_pretrained(tmp_path / "start")
        expected = run_peft(theirs.train(), batches)
        theirs.save_pretrained(tmp_path / "end")

    ours = loopos.Model.from_pretrained(tmp_path / "base")
    assert ours.dtype == dtype
    ours.load_adapter(tmp_path / "start")
    start = {name: view.copy() for name, view in ours.adapter_parameters().items()}
    how = dict(max_steps=STEPS, learning_rate=RATE, lr_schedule="constant", weight_decay=DECAY, betas=BETAS, eps=EPS)
    result = loopos.train(ours, batches, max_grad_norm=CLIP, log_every=1, progress=False, **how)
    losses = [entry["loss"] for entry in result.history]
    assert losses[-1] < 0.9 * losses[0]  # it learns, so equality is not that of two dead runs
    gate = 1e-9 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(losses, expected, rtol=gate)

    end = loopos.Model.from_pretrained(tmp_path / "base")
    end.load_adapter(tmp_path / "end")
    for name, want in end.adapter_parameters().items():
        got = ours.adapter_parameters()[name]
        assert np.any(got != start[name]), name
        assert np.linalg.norm(got - want) <= gate * np.linalg.norm(want), name


def test_the_first_values_have_the_law_of_peft():
    """kaiming_uniform of a = √5, and zeros: bounds and spread, since its generator is another."""
    settings = {name: value for name, value in SMALL["llama"].items() if name != "model_type"}
    model = peft.get_peft_model(
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)),
        peft.LoraConfig(r=64, target_modules=["down_proj"]),
    )
    theirs = next(p for name, p in model.named_parameters() if "lora_A" in name).detach().numpy()
    ours = loopos.Model(loopos.ModelConfig(23, 12, 1, 4, 16, d_ff=24, activation="swiglu", norm="rmsnorm", bias=False))
    ours.add_adapter(LoRA(64, targets=("down_proj",)))
    drawn = ours.adapter_parameters()["blocks.0.mlp.down_proj.lora_A"]
    assert drawn.shape == theirs.shape
    for each in (drawn, theirs):
        assert 0.98 * 24**-0.5 < np.abs(each).max() <= 24**-0.5
        assert abs(each.std() - (3 * 24) ** -0.5) < 0.05 * (3 * 24) ** -0.5
