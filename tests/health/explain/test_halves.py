"""What is said of bfloat16 and float16, judged by their numbers: their limits, and statements of the five cases."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.health.explain import halves
from loopos.health.explain.explain import explain

HEALTHY = "".join(f"step {i} loss {3 - 0.05 * i:.3f} lr 3e-4\n" for i in range(25))


def doubts(text):
    return {doubt.cause: doubt.says for doubt in explain(text).doubts}


def findings(text):
    return {found.cause: found.says for found in explain(text).findings}


def rounded(number):
    """To the nearest bfloat16, ties to even."""
    bits = np.float32(number).view(np.uint32).astype(np.uint64)
    kept = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return float(kept.astype(np.uint32).view(np.float32))


def test_the_limits_are_those_of_the_types():
    first = np.float32(halves.BFLOAT16_INF)
    assert rounded(first) == np.inf
    assert f"{rounded(np.nextafter(first, np.float32(0))):.4e}" == "3.3895e+38"
    assert f"{halves.BFLOAT16_INF:.4e} {halves.FLOAT32_MAX:.4e}" == "3.3962e+38 3.4028e+38"
    for weight in (1.0, 1.5, 1.99):
        assert rounded(weight) - rounded(rounded(weight) * (1 - 2**-9 * 0.99)) == 0  # an update that is lost
        assert rounded(rounded(weight) * (1 - 2**-8 * 1.01)) < rounded(weight)


CASE_0 = """1. Mixed Precision:
   bfloat16 → logit overflow → NaN
   FIX: Use float32

2. Large Logits:
   softmax(192.8) → Inf → NaN
4. ✅ **Disabled Mixed Precision** - Avoids bfloat16 issues
| **AMP** | On (bfloat16) | Off (float32) | Prevent overflow |
"""
CASE_1 = """3. **✅ Numerical Stability**: bf16/fp16 handling prevents overflow
The fix successfully resolves the NaN gradient norm issue:
- Better numerical precision (bf16)
"""


@pytest.mark.parametrize("text", [CASE_0, CASE_0.encode().decode("cp1252", "replace")], ids=["read well", "mojibake"])
def test_the_overflow_that_case_0_blames_on_bfloat16(text):
    """Its document stands read as cp1252: the arrows are three characters each."""
    (doubt,) = (each for each in explain(text).doubts if each.cause == "bfloat16-overflow")
    assert [line.partition(":")[0] for line in doubt.evidence] == ["line 2", "line 7", "line 8"]
    assert "what overflows in it overflows in float32 too; it lacks digits, not range." in doubt.says
    assert "float16, at 65504" in doubt.says
    assert "softmax(192.8)" in explain(text).findings[0].evidence[0]
    assert explain(text).causes[0] == "exp-overflow"
    assert "bfloat16-range" not in explain(text).causes


def test_the_precision_that_case_1_thanks():
    said = doubts(CASE_1)
    assert "bfloat16 has 8 binary digits, float16 has 11 and float32 24" in said["bfloat16-digits"]
    assert "float16 ends at 65504 and wants its loss scaled" in said["halves-confused"]
    assert "bfloat16-overflow" not in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("logits of 192.8 overflow in bf16", " 192.8 is far within it."),
        ("bfloat16 overflow: attention scores up to 1e5 became inf", " 100000 is far within it."),
        ("bf16 overflows above 65504", " 65504 is far within it."),
        ("loss NaN because of bf16 autocast", "not range. Only"),
    ],
)
def test_an_overflow_is_judged_by_the_number_that_is_named(text, says):
    assert says in doubts(text)["bfloat16-overflow"]


@pytest.mark.parametrize("number", ["3.4e38", "-3.4028e38", "3.3963e+38"])
def test_a_number_that_only_float32_holds_bears_the_claim_out(number):
    text = f"the mask's {number} gave an overflow in bfloat16 and then NaN"
    assert "bfloat16-overflow" not in doubts(text)
    assert findings(text)["bfloat16-range"].startswith(f"{float(number):.6g} is finite in float32 and rounds to inf")


@pytest.mark.parametrize("number", ["3.395e38", "1e38", "3.5e38", "65504"])
def test_other_numbers_do_not(number):
    text = f"the mask's {number} gave an overflow in bfloat16 and then NaN"
    assert "bfloat16-overflow" in doubts(text)
    assert "bfloat16-range" not in findings(text)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("improved numerical accuracy with bf16, nan is gone", "bfloat16-digits"),
        ("bf16 gives better precision, so no more nan", "bfloat16-digits"),
        ("we added loss scaling for bf16, it was nan before", "loss-scaling"),
        ("GradScaler with bfloat16 stops the nan", "loss-scaling"),
        ("gradients underflow in bf16", "bfloat16-underflow"),
        ("in bfloat16 gradients of 1e-9 vanish", "bfloat16-underflow"),
        ("bf16 and fp16 overflow easily", "halves-confused"),
        ("float16/bfloat16 underflow made it nan", "halves-confused"),
    ],
)
def test_what_is_said_of_the_wrong_type_is_doubted(text, cause):
    assert list(doubts(text)) == [cause]


def test_a_small_number_is_named():
    assert (
        " 1e-09 is an ordinary number in both." in doubts("in bfloat16 gradients of 1e-9 vanish")["bfloat16-underflow"]
    )


@pytest.mark.parametrize(
    "text",
    [
        "bfloat16 avoids the overflow of float16",
        "float16 overflows at 65504, so we use bf16",
        "float16 overflowed; bf16 did not",
        "float32 has better precision than bf16",
        "bf16 is more accurate than int8",
        "bf16 needs no loss scaling",
        "bf16 doesn't need a GradScaler",
        "GradScaler is only for fp16, with bf16 it is off",
        "bf16 gradients do not underflow",
        "bf16 gives no better precision",
        "run_name: bf16-nan-overflow",
    ],
)
def test_what_is_true_is_not_doubted(text):
    assert doubts(text) == {}
    assert findings(text) == {}


@pytest.mark.parametrize(
    ("text", "cause", "says"),
    [
        (
            "RuntimeError: value cannot be converted to type at::BFloat16 without overflow: -3.40282e+38",
            "half-precision",
            "bfloat16 ends at 3.3895e38",
        ),
        (
            "RuntimeError: value cannot be converted to type at::Half without overflow: -1e+09",
            "half-precision",
            "float16 ends at 65504",
        ),
        (
            "mask = mask.to(torch.bfloat16) * torch.finfo(torch.float32).min",
            "bfloat16-range",
            "a row that is masked whole is NaN",
        ),
        (
            "with pure bf16 weights small updates are rounded to zero",
            "bfloat16-update",
            "less than 2^-9 (0.2 %) of it is rounded away",
        ),
        ("updates vanish: the weights are bfloat16", "bfloat16-update", "Weights and moments in float32 keep it"),
        ("AMX tiles flush products of 1e-36 to zero", "bfloat16-flush", "1e-36 is there"),
        ("bf16: 1e-40 is a denormal", "bfloat16-flush", "1e-40 is there"),
    ],
)
def test_what_bfloat16_does_lose_is_told(text, cause, says):
    found = findings(text)
    assert says in found[cause]
    assert not {"bfloat16-overflow", "bfloat16-underflow"} & set(doubts(text))


@pytest.mark.parametrize(
    "line",
    [
        "Using bf16 mixed precision",
        "bf16: true",
        "torch_dtype=torch.bfloat16, GradScaler(enabled=False)",
        "AMX tiles in use, bf16x3, zero copies",
        "update 3: bf16 weights saved",
        "bf16 updates are not lost: master weights are float32",
    ],
)
def test_a_healthy_log_stays_healthy(line):
    found = explain(f"{line}\n{HEALTHY}")
    assert (found.causes, found.doubts) == (("learning",), ())
