"""Statements of post-mortems that do not hold: a rule reads the number it speaks of, and settings claim nothing."""

from __future__ import annotations

import pytest

from loopos.health.explain.claims import is_setting
from loopos.health.explain.explain import explain


def doubts(text):
    return {doubt.cause: doubt.says for doubt in explain(text).doubts}


HEALTHY = "".join(f"step {i} loss {3 - 0.05 * i:.3f} lr 3e-4\n" for i in range(25))


def test_a_softmax_that_overflows_is_told_in_whole_sentences():
    for text in ("softmax(192.8) -> inf", "exp(1000) is inf"):
        (found,) = (each for each in explain(text).findings if each.cause == "exp-overflow")
        assert found.says.endswith("unless the row maximum is subtracted first.")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FIX: clamp the logits to [-100, 100]", "a clamp at 100 does not save"),
        ("FIX: Clamp to [-500, 500]", "if it is logits that are clamped: a clamp at 500 does not save"),
        ("logits = torch.clamp(logits, min=-50.0, max=50.0)", "a clamp at 50 keeps exp finite"),
        ("we clip logits to ±30 now", "a clamp at 30 keeps exp finite"),
        ("clip logits at 50", "a clamp at 50 keeps exp finite"),
        ("clamp the logits", "a clamp of logits hides"),
    ],
)
def test_a_clamp_is_judged_by_its_bounds(text, says):
    assert says in doubts(text)["clamped-logits"]


@pytest.mark.parametrize(
    "text",
    [
        "clamp to [0, 1] and resize the image",
        "clamp to [-1, 1]",
        "we clamp to [-2, 100]",
        "pixels are clamped between 0 and 255",
        "Logits range: [-12, 14]",
    ],
)
def test_another_clamp_is_no_claim(text):
    assert doubts(text) == {}


@pytest.mark.parametrize(
    ("text", "says", "silent"),
    [
        ("eps 1e-5 -> 1e-8", ("1 + 1e-08 is 1 in float32", "1e-08 is 0 in float16", "from 316 to 10,000"), ()),
        ("eps 1e-5 -> 1e-6", ("from 316 to 1,000",), ("1e-08", "is 1 in float32", "float16")),
        ("| Normalize eps | 1e-5 | 1e-12 | Better |", ("1 + 1e-12 is 1", "from 316 to 1,000,000"), ("1e-08",)),
        ("Adam's eps 1e-8 -> 1e-12", ("1/eps, grows from 1e+08 to 1e+12",), ("normalisation",)),
        ("epsilon from 0.001 to 0.00001", ("from 32 to 316",), ("is 1 in",)),
    ],
)
def test_a_smaller_eps_is_judged_by_its_numbers(text, says, silent):
    found = doubts(text)["smaller-eps"]
    assert all(each in found for each in says)
    assert not any(each in found for each in silent)


@pytest.mark.parametrize("text", ["eps 1e-8 -> 1e-5", "lr 1e-4 -> 1e-5, eps 1e-8", "eps=1e-5", "eps 1e-6 | 1e-6"])
def test_a_larger_or_equal_eps_is_no_claim(text):
    assert doubts(text) == {}


def test_the_cap_of_a_floor_is_computed():
    assert "a floor of 1e-10 caps the loss at 23.03" in doubts("s = std::max(sum_exp, 1e-10f);")["dead-guard"]


SETTINGS = [
    "clip=1.0 (clip gradients to stabilize)",
    "clip_grad: 1.0  # avoids nan",
    "  gradient_clipping: 1.0,  // stops exploding gradients",
    '"max_grad_norm": 0.5, # aggressive gradient clipping',
    "--clip-grad 1.0 (clip to prevent nan)",
    "[INFO] clip = 1 (against exploding gradients)",
    "bf16: true  # overflow is no problem then",
    "skip_nan_batches: true",
    "run_name: no-nan-lr1e-3-clip1.0",
    '  "output_dir": "runs/clip-nan",',
]


@pytest.mark.parametrize("line", SETTINGS)
def test_a_setting_claims_nothing(line):
    assert is_setting(line)
    assert doubts(line + "\n") == {}
    assert doubts(line + "\n" + HEALTHY) == {}
    assert doubts(line + "\nstep 1 loss nan\n") == {}


@pytest.mark.parametrize(
    "line",
    [
        "FIX: Clamp to [-100, 100]",
        "Aggressive gradient clipping: Max norm of 0.5",
        "eps 1e-5 -> 1e-8",
        "[DEBUG] Loss is finite: 17037672233816678413107200.000000",
        "sum = std::max(sum_exp, 1e-20f);",
        "bfloat16 -> logit overflow -> NaN",
    ],
)
def test_a_statement_is_no_setting(line):
    assert not is_setting(line)


@pytest.mark.parametrize(
    "line",
    [
        "using bfloat16, no overflow",
        "bfloat16 avoids the overflow of float16",
        "training in bf16 without overflow",
        "we clip gradients to stabilize the training",
        "gradient_clip_val: 1.0 to avoid exploding gradients",
        "clipping by norm, against explosions of the gradient",
        "skipped 0 steps because of inf/nan gradients",
        "CUDA memory: reserved 2.0 GiB, out of memory retries: 0",
        "loading a quantized model, compute type float16",
        "a smaller batch size is used for evaluation",
        "logits are clamped to [-50, 50]",
    ],
)
def test_a_healthy_log_has_nothing_to_be_doubted(line):
    found = explain(f"{line}\n{HEALTHY}")
    assert (found.causes, found.doubts) == (("learning",), ())


@pytest.mark.parametrize(
    "text", ["using bfloat16, no overflow", "bf16 avoids overflow", "float16 to prevent nan: bf16"]
)
def test_what_is_denied_is_not_claimed(text):
    assert doubts(text) == {}


def test_a_text_that_speaks_of_a_nan_is_doubted_beside_a_healthy_log_too():
    assert "clipping" in doubts("the loss went to nan at step 900: we clip gradients now, that is stable\n" + HEALTHY)
    assert "replaced-values" in doubts("nan_to_num on the gradients\n" + HEALTHY)


FEW = "{'loss': 2.2549, 'grad_norm': 1.57, 'learning_rate': 2e-05}\n{'loss': 2.1651, 'grad_norm': 1.66}\n"
LONG = "".join(f"step {i} loss {3 - 0.05 * i:.3f}\n" for i in range(40))


@pytest.mark.parametrize(
    "claim",
    [
        "- Loss decreasing (2.25 -> 2.17), indicating learning",
        "Model is learning (loss decreasing over steps)",
        "Training is stable with consistent gradient norms",
        "The fix successfully resolves the NaN gradient norm issue",
        "TEST PASSED: No NaN values detected!",
    ],
)
def test_two_entries_carry_no_claim(claim):
    said = doubts(f"it was nan before\n{FEW}{claim}\n")
    assert "fewer entries than can show it" in said["beyond-the-entries"]
    assert "beyond-the-entries" not in doubts(f"it was nan before\n{LONG}{claim}\n")
    assert "beyond-the-entries" not in doubts(f"it was nan before\n{claim}\n")  # no entry at all


def test_an_entry_is_no_claim():
    assert "beyond-the-entries" not in doubts(f"it was nan before\n{FEW}learning_rate: 2e-5\nvalid tokens 512\n")
