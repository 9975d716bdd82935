"""Sentences that programs print: what explain makes of each, alone in a text."""

from __future__ import annotations

import pytest

from loopos.health.explain.explain import explain


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "Loss.cu:250: nll_loss: block: [0,0,0], thread: [5,0,0] Assertion `t >= 0 && t < n_classes` failed.",
            "label-out-of-range",
        ),
        (
            "ClassNLLCriterion.cu:56: Assertion `cur_target >= 0 && cur_target < n_classes' failed.",
            "label-out-of-range",
        ),
        (
            "Indexing.cu:1146: indexSelectLargeIndex: Assertion `srcIndex < srcSelectDimSize` failed.",
            "label-out-of-range",
        ),
        ("InvalidArgumentError: indices[0,12] = 50257 is not in [0, 50257)", "label-out-of-range"),
        ("Received a label value of 10 which is outside the valid range of [0, 10).", "label-out-of-range"),
        ("IndexError: index 300 is out of bounds for axis 0 with size 256", "label-out-of-range"),
        ("cross_entropy: targets must be in 0..10, got 11", "label-out-of-range"),
        ("ValueError: token 50257 is out of range", "label-out-of-range"),
        ("IndexError: class index 10 is out of bounds", "label-out-of-range"),
        ("OSError: Unable to load weights from pytorch checkpoint file for 'x' at 'x.bin'.", "damaged-file"),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 9 GiB", "memory"),
        ("MemoryError", "memory"),
        ("out of memory retries: 3", "memory"),
        ("skipped 10 steps because of inf/nan gradients", "not-finite-reported"),
        ("WARNING:root:NaN or Inf found in input tensor.", "not-finite-reported"),
        ("Batch 5: Invalid loss, terminating training", "not-finite-reported"),
        ("FloatingPointError: Loss became infinite or NaN at iteration=2!", "not-finite-reported"),
        ("ValueError: Input X contains NaN.", "not-finite-reported"),
        ("RuntimeError: loss is not finite, aborting", "not-finite-reported"),
        (
            "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",
            "not-finite-reported",
        ),
        ("RuntimeError: \"addmm_impl_cpu_\" not implemented for 'Half'", "half-precision"),
        ("RuntimeError: \"LayerNormKernelImpl\" not implemented for 'Half'", "half-precision"),
        ("RuntimeError: \"triu_tril_cuda_template\" not implemented for 'BFloat16'", "half-precision"),
        ("AssertionError: No inf checks were recorded for this optimizer.", "no-gradient"),
        ("SafetensorError: Error while deserializing header: HeaderTooLarge", "damaged-file"),
        ("Error while deserializing header: MetadataIncompleteBuffer", "damaged-file"),
        ("_pickle.UnpicklingError: invalid load key, 'v'.", "damaged-file"),
        ("PytorchStreamReader failed reading zip archive: failed finding central directory", "damaged-file"),
        ("RuntimeWarning: overflow encountered in cosh", "exp-overflow"),
        ("NaN detected in loss", "not-finite-reported"),
        ("W1122 NaN/Inf detected in gradients, skipping", "not-finite-reported"),
        ("Found inf in grads", "not-finite-reported"),
        ("gradients are NaN at step 5", "not-finite-reported"),
        ("RuntimeError: expected scalar type Half but found Float", "half-precision"),
        ("RuntimeError: mat1 and mat2 must have the same dtype, but got Float and BFloat16", "half-precision"),
        ("RuntimeError: Class values must be smaller than num_classes.", "label-out-of-range"),
        ("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)", "damaged-file"),
        ("std::bad_alloc", "memory"),
        ("skipping step, because the loss scale is lowered", "half-precision"),
        ("there are no weight updates at all", "no-update"),
        ("Random logits can be extreme values (e.g., -500 to +500)", "initialisation"),
        ("Random logits can be extreme values, -500 to +500", "initialisation"),
        ("the logits are between, cf. fig. 3, −512.5 and 498", "initialisation"),
        ("initial logits of ±350", "initialisation"),
        ("every one of the labels, i.e. the targets, is -100", "labels-masked"),
    ],
)
def test_a_sentence_alone_is_recognised(text, cause):
    assert cause in explain(text).causes


@pytest.mark.parametrize(
    "text",
    [
        "clamp logits to [-100, 100]",
        "The logits are small. We trained 500 to 600 steps",
        "logits of 32000 classes",
        "Non-finite gradient check enabled",
        "Assertion `x.size() == y.size()` failed",
        "number of non-finite gradient steps: 0",
        "No NaN detected in loss",
        "0 NaN found in the data",
        "Found inf in grads: 0",
        "found nan in loss: False",
        "the nan bread was found in a shop",
        "no NaN or Inf found in input tensor",
        "MemoryError guard: on",
        "out of memory retries: 0",
        "skipped 0 steps because of inf/nan gradients",
    ],
)
def test_a_sentence_that_is_another_is_not(text):
    assert explain(text).causes == ()


def test_what_a_half_precision_error_says_names_the_operation():
    found = explain("RuntimeError: \"addmm_impl_cpu_\" not implemented for 'Half'").findings[0]
    assert "addmm_impl_cpu_ does not exist for Half" in found.says
    assert "float32" in found.check


def test_the_check_names_the_operation_too():
    found = explain("RuntimeError: Function 'LogBackward0' returned nan values in its 0th output.").findings[0]
    assert "the inputs of the forward Log at" in found.check
    assert "{" not in str(found)


def test_a_file_in_the_place_of_a_safetensors_file_is_named():
    found = explain("SafetensorError: Error while deserializing header: HeaderTooLarge").findings[0]
    assert "git-lfs pointer" in found.says
    assert "web page" in found.says
