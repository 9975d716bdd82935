"""Models whose products are made of bfloat16 pieces: the same bits for any number of threads, in parts or whole, and
near to float32.

Where the products of this process are multiply-adds, a test runs itself again with LOOPOS_PRODUCTS=emulated: any
machine tests all of this.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos import LoRA, ModelConfig, _core, storage
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, VisionConfig

LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "tie_embeddings": False}
MODELS = {
    "in parts": (ModelConfig(65, 32, 2, 2, 64), 9),
    "whole": (ModelConfig(300, 48, 2, 4, 128, d_ff=640), 3),
    "grouped heads": (ModelConfig(70, 40, 2, 4, 64, n_kv_head=2, **LLAMA), 5),
}
LARGE = (ModelConfig(390, 48, 1, 4, 384, d_ff=390), 12)  # large enough for six products, which float32 is made of then
NARROW = ("bf16x3", "bf16")
FAR = {"bf16x3": 2e-5, "bf16": 2e-2}  # of gradients against float32's, relative; measured 4e-6 to 8e-6, and 6e-3

pieces = pytest.mark.skipif(
    _core.products("bf16") == "fma", reason="products are multiply-adds here; run again with the emulation below"
)


def made(name, precision, **how):
    config, rows = MODELS[name]
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, config.vocab_size, (2, rows, config.context_length))
    return loopos.Model(config, seed=1, precision=precision, **how), ids, targets


def learned(model, ids, targets):
    loss, grads = model.loss_and_grads(ids, targets)
    return loss, {name: grad.copy() for name, grad in grads.items()}


@pieces
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("name", MODELS)
def test_threads_change_no_bit(name, precision, thread_count):
    model, ids, targets = made(name, precision)
    seen = []
    for threads in (1, 2, 3, 7):  # a small model goes in parts while there are as many as threads
        thread_count(threads)
        loss, grads = learned(model, ids, targets)
        seen.append((loss, model.forward(ids).tobytes(), *(grad.tobytes() for grad in grads.values())))
    assert all(each == seen[0] for each in seen)


@pieces
def test_float32_by_six_products_is_no_farther_from_float64_than_by_multiply_adds(thread_count):
    config, rows = LARGE
    ids, targets = np.random.default_rng(0).integers(0, config.vocab_size, (2, rows, config.context_length))
    model = loopos.Model(config, seed=1)
    double = loopos.Model(config, dtype="float64")
    double.load_state_dict({name: value.astype(float) for name, value in model.state_dict().items()})

    def off(pass_of):
        """Of the gradients, relative, over passes that together see all rows."""
        _, exact = learned(double, ids, targets)
        got = {name: np.zeros(grad.shape) for name, grad in exact.items()}
        for begin in range(0, rows, pass_of):
            part = slice(begin, begin + pass_of)
            for name, grad in learned(model, ids[part], targets[part])[1].items():
                got[name] += grad.astype(float) * pass_of / rows
        square = sum(np.sum((got[name] - exact[name]) ** 2) for name in exact)
        return np.sqrt(square / sum(np.sum(grad**2) for grad in exact.values()))

    seen = []
    for threads in (1, 2, 3):
        thread_count(threads)
        seen.append([x.tobytes() for x in learned(model, ids, targets)[1].values()])
    assert seen[0] == seen[1] == seen[2]
    assert 0 < off(rows) < off(rows // 4) < 1e-6  # 144 rows: by multiply-adds


@pieces
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_near_to_those_of_float32(name, precision):
    want_loss, want = learned(*made(name, "float32"))
    loss, got = learned(*made(name, precision))
    assert loss != want_loss
    assert loss == pytest.approx(want_loss, rel=FAR[precision] / 10)
    size = np.sqrt(sum(np.sum(grad.astype(float) ** 2) for grad in want.values()))
    off = np.sqrt(sum(np.sum((got[key].astype(float) - want[key]) ** 2) for key in want))
    assert 0 < off < FAR[precision] * size


@pieces
def test_a_precision_holds_until_it_is_changed():
    model, ids, targets = made("in parts", "bf16")
    narrow = learned(model, ids, targets)[0]
    model.precision = "float32"
    assert learned(model, ids, targets)[0] == learned(*made("in parts", "float32"))[0] != narrow
    model.precision = "bf16"
    assert learned(model, ids, targets)[0] == narrow


@pieces
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_stored_weights_give_the_bits_of_the_numbers_that_are_stored(precision, weights, thread_count):
    small, ids, targets = made("whole", precision, weights=weights)
    plain = loopos.Model(MODELS["whole"][0], precision=precision)
    plain.load_state_dict(storage.all_weights(small._core))
    for threads in (1, 2):
        thread_count(threads)
        assert small.forward(ids).tobytes() == plain.forward(ids).tobytes()
        assert small.loss(ids, targets) == plain.loss(ids, targets)
    for model in (small, plain):
        model.add_adapter(LoRA(rank=4), seed=2)
    assert learned(small, ids, targets)[1].keys() == learned(plain, ids, targets)[1].keys()
    for name, grad in learned(small, ids, targets)[1].items():
        assert np.array_equal(grad, learned(plain, ids, targets)[1][name]), name


@pieces
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_large_stored_weights_give_the_bits_of_the_numbers_that_are_stored(weights, thread_count):
    """By six products; of bfloat16 weights, which are one piece, by the three that are not zero."""
    config, rows = LARGE
    ids, targets = np.random.default_rng(0).integers(0, config.vocab_size, (2, rows, config.context_length))
    small, plain = loopos.Model(config, seed=1, weights=weights), loopos.Model(config)
    plain.load_state_dict(storage.all_weights(small._core))
    for model in (small, plain):
        model.add_adapter(LoRA(rank=4), seed=2)
    want = learned(plain, ids, targets)
    for threads in (1, 2):
        thread_count(threads)
        loss, grads = learned(small, ids, targets)
        assert loss == want[0]
        assert all(np.array_equal(grad, want[1][name]) for name, grad in grads.items())


@pieces
@pytest.mark.parametrize("precision", NARROW)
def test_small_stored_models_do_not_depend_on_threads(precision, thread_count):
    """In parts a product of the last few rows would be float32's."""
    config = ModelConfig(65, 8, 2, 2, 64)
    ids = np.random.default_rng(0).integers(0, 65, (17, 8))
    model = loopos.Model(config, seed=1, weights="int8", precision=precision)
    seen = set()
    for threads in (1, 2, 5):
        thread_count(threads)
        seen.add(model.forward(ids).tobytes())
    assert len(seen) == 1


@pieces
@pytest.mark.parametrize("precision", NARROW)
def test_a_head_of_few_rows_does_not_depend_on_threads(precision, thread_count):
    """Its product is float32's where the batch goes whole, so it must not go in parts."""
    rng = np.random.default_rng(0)
    vision = {"image_size": 32, "patch_size": 4, "n_layer": 1, "n_head": 2, "d_model": 32}
    images = rng.random((3, 32, 32, 3), np.float32)
    classifier = ImageEncoder(VisionConfig(**vision, num_classes=40), seed=1, precision=precision)
    captioner = Captioner(
        CaptionerConfig(VisionConfig(**vision), ModelConfig(65, 8, 1, 2, 32)), seed=1, precision=precision
    )
    ids, targets = rng.integers(0, 65, (2, 3, 3))
    seen = []
    for threads in (1, 3, 5, 16):
        thread_count(threads)
        loss, grads = classifier.loss_and_grads(images, np.array([3, 20, 39]))
        captions, of_captions = captioner.loss_and_grads(images, ids, targets)
        every = (*grads.values(), *of_captions.values())
        seen.append((loss, captions, *(grad.tobytes() for grad in every)))
    assert all(each == seen[0] for each in seen)


@pieces
@pytest.mark.parametrize("precision", NARROW)
def test_generation_goes_on_from_its_cache(precision):
    """A prompt goes by pieces, one token after it by float32: all are as near to float32 as forward is."""
    model, ids, _ = made("whole", precision)
    model._core.start_generation(1, 40)
    steps = [model._core.next_logits(ids[:1, :30]), *(model._core.next_logits(ids[:1, i : i + 1]) for i in (30, 31))]
    whole = made("whole", "float32")[0].forward(ids[:1, :32])[0, 29:]
    error = np.linalg.norm(np.concatenate(steps) - whole) / np.linalg.norm(whole)
    assert 0 < error < FAR[precision]


@pytest.mark.skipif("LOOPOS_PRODUCTS" in os.environ, reason="this is a run with products that were asked for")
@pytest.mark.unsanitized("the emulation is slow there, and tests/ops/test_products.py runs it")
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_all_of_this_by_the_emulation(isa):
    if isa not in _core.available_isas():
        pytest.skip(f"this processor has no {isa}")
    environment = os.environ | {"LOOPOS_PRODUCTS": "emulated", "LOOPOS_ISA": isa}
    files = [__file__, str(Path(__file__).parent / "ops" / "test_products.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    command += ["-k", "not emulation and not bits_do_not_depend and not environment"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
