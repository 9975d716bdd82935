"""What a pass through a model holds: activations of a group of sequences, and logits of some rows."""

import json
import subprocess
import sys

import numpy as np
import pytest

import loopos

# Activations of 64 sequences are 700 MB in float32; in groups they are below 98 MB.
MANY = {"vocab_size": 64, "context_length": 128, "n_layer": 32, "n_head": 2, "d_model": 64}
BATCH = 64
MEASURE = """
import json, sys
import numpy as np
import loopos
from pathlib import Path
config, batch, dtype, what = json.loads(sys.argv[1])
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
model = loopos.Model(loopos.ModelConfig(**config), dtype=dtype)
length = config["context_length"]
ids = np.zeros((batch, length), np.int64) + np.arange(length) % config["vocab_size"]
small = ids[:1, :1]
model.loss_and_grads(small, small)
before = peak()
if what == "generate":
    model.generate(ids[:, :-1], 1, temperature=0)
else:
    getattr(model, what)(ids, ids)
print(json.dumps(peak() - before))
"""


@pytest.fixture
def megabytes():
    """How much more a process has resident at most while it does one thing."""
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc/self/status is read")

    def measured(what, config, batch, dtype="float32"):
        given = json.dumps([config, batch, dtype, what])
        done = subprocess.run([sys.executable, "-c", MEASURE, given], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return measured


@pytest.mark.unsanitized("minutes of large passes for a figure that the sanitizer's own memory would blur")
def test_a_large_batch_holds_the_activations_of_a_group(megabytes):
    assert 60 < megabytes("loss_and_grads", MANY, BATCH) < 130  # 98 of activations; gradients are 13


# One sequence holds 161 MB in float32, 80 of them what the up projections give.
LONG = {"vocab_size": 40_000, "context_length": 2048, "n_layer": 32, "n_head": 2, "d_model": 64}


@pytest.mark.unsanitized("minutes of large passes for a figure that the sanitizer's own memory would blur")
def test_one_sequence_that_holds_too_much_repeats_up_projections(megabytes):
    weights = (40_000 + 2048 + 32 * 12 * 64) * 64 * 4 / 2**20
    assert 60 < megabytes("loss_and_grads", LONG, 1) - 2 * weights < 135  # 98, and 13 of logits


@pytest.mark.unsanitized("minutes of large passes; those of smaller ones, in groups, are looked at there")
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize(("dtype", "length"), [("float32", 2048), ("float64", 1024)])
def test_what_is_repeated_has_the_same_bits(dtype, length, activation):
    """Nothing is repeated where most weights are frozen, as here with the embeddings."""
    ids, targets = np.random.default_rng(0).integers(0, 64, (2, 1, length))
    model = loopos.Model(loopos.ModelConfig(**LONG | {"context_length": length, "activation": activation}), dtype=dtype)
    loss, grads = model.loss_and_grads(ids, targets)
    model.freeze("*_embed.*")
    kept_loss, kept = model.loss_and_grads(ids, targets)
    assert kept_loss == loss
    assert len(kept) == len(grads) - 2
    for name, grad in kept.items():
        assert np.array_equal(grad, grads[name]), name


WIDE = {"vocab_size": 150_000, "context_length": 512, "n_layer": 1, "n_head": 1, "d_model": 16}


@pytest.mark.unsanitized("minutes of large passes for a figure that the sanitizer's own memory would blur")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", ["loss", "loss_and_grads"])
def test_all_logits_of_a_large_vocabulary_never_exist(megabytes, what, dtype):
    """They would be 1.2 GB in float32, of 2,048 positions, and 0.6 GB in float64, of 512."""
    weights = 150_000 * 16 * (4 if dtype == "float32" else 8) / 2**20
    batch = 4 if dtype == "float32" else 1
    gradients = 3 * weights if what == "loss_and_grads" else 0  # they are copied
    assert megabytes(what, WIDE, batch, dtype) < 16 + gradients + 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_room_for_logits_is_reserved_where_a_loss_is_asked_for_and_for_a_tile_of_them(dtype):
    model = loopos.Model(loopos.ModelConfig(**WIDE), dtype=dtype)
    ids = np.zeros((4, 511), np.int64)
    model.generate(ids, 1, temperature=0)
    model.forward(ids[:1, :8])
    assert model._core.held_bytes() < 4 << 20  # the activations
    for sequences in (1, 4):
        assert 12 << 20 < model._core.workspace_bytes(sequences, 512, False) < 24 << 20


def test_a_tile_of_logits_has_half_the_bytes_of_the_weight():
    """The more columns the weight has, the more it costs to read it again for the next tile."""
    model = loopos.Model(loopos.ModelConfig(**WIDE | {"vocab_size": 40_000, "d_model": 256}))
    assert 19 << 20 < model._core.workspace_bytes(1, 512, False) < 23 << 20  # 19.5 of logits


@pytest.mark.unsanitized("minutes of large passes for a figure that the sanitizer's own memory would blur")
def test_the_prompt_of_a_generation_reserves_no_logits(megabytes):
    assert megabytes("generate", WIDE, 4) < 20  # the last position's are 2.4


# Sequences that make so many groups; the last is a short one.
TWO_GROUPS, THREE_GROUPS = {"float32": 24, "float64": 12}, 40


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 64, (THREE_GROUPS, 128)) for _ in range(2))


@pytest.mark.unsanitized("minutes of large passes; other tests of passes in groups are run there")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_gradients_are_those_of_the_sequences(batch, dtype, tolerance):
    ids, targets = batch
    if dtype == "float64":
        ids, targets = (each[: TWO_GROUPS[dtype]] for each in batch)
    targets = targets.copy()
    targets[::3, :50] = -100
    model = loopos.Model(loopos.ModelConfig(**MANY), dtype=dtype)
    loss, grads = model.loss_and_grads(ids, targets)
    expected = dict.fromkeys(grads, 0.0)
    total = 0.0
    valid = (targets != -100).sum()
    for begin in range(0, len(ids), 6):
        some = slice(begin, begin + 6)
        share = (targets[some] != -100).sum() / valid
        one, of_some = model.loss_and_grads(ids[some], targets[some])
        total += one * share
        for name, grad in of_some.items():
            expected[name] = expected[name] + grad.astype(np.float64) * share
    assert loss == pytest.approx(total, rel=1e-12 if dtype == "float64" else 1e-6)
    for name, grad in grads.items():
        error = np.linalg.norm(grad - expected[name]) / np.linalg.norm(expected[name])
        assert error < tolerance, name
    # The losses of each position outlive the groups.
    losses = model.losses(ids, targets)
    assert losses.sum() / valid == pytest.approx(loss, rel=1e-12 if dtype == "float64" else 1e-6)
    assert not losses[::3, :50].any()


@pytest.mark.unsanitized("minutes of large passes; other tests of passes in groups are run there")
def test_dropout_and_documents_go_on_from_group_to_group(batch):
    """A trace takes the batch as one, and so tells what each position's loss has to be."""
    core = loopos.Model(loopos.ModelConfig(**MANY, dropout=0.3))._core
    ids, targets = (each[: TWO_GROUPS["float32"]] for each in batch)
    documents = np.repeat([[0] * 50 + [1] * 78], 24, axis=0)
    documents[18:] = 0
    seen = []

    def tap(place, shape, first, elements):
        if place["tensor"] == "loss":
            seen.append(elements.copy())

    given = {"scale": 1.0, "step": 0, "seed": 1, "documents": documents}
    assert core.trace(ids, targets, **given, tap=tap) is None
    expected = np.concatenate(seen).reshape(ids.shape)
    for used in (0, 12, 23):  # the first group, and the second
        one = np.full_like(targets, -100)
        one[used] = targets[used]
        total, count, _ = core.accumulate(ids, one, **given)
        assert count == 128
        assert total == pytest.approx(expected[used].sum(), rel=1e-5)


def test_bits_do_not_depend_on_threads(batch):
    found = []
    ids, targets = (each[: TWO_GROUPS["float32"]] for each in batch)
    before = loopos.get_num_threads()
    try:
        for threads in (1, 3):
            loopos.set_num_threads(threads)
            _, grads = loopos.Model(loopos.ModelConfig(**MANY)).loss_and_grads(ids, targets)
            found.append([grad.tobytes() for grad in grads.values()])
    finally:
        loopos.set_num_threads(before)
    assert found[0] == found[1]


def test_the_plan_of_any_batch_is_told_without_walking_through_it():
    core = loopos.Model(loopos.ModelConfig(**MANY))._core
    losses = 8 * 128  # bytes of a sequence; groups of sequences share all the rest
    few, many = (core.workspace_bytes(sequences, 128, True) - losses * sequences for sequences in (2**10, 2**33))
    assert 0 < many <= 192 << 20
    assert abs(many - few) <= 11 << 20  # a sequence more or less in a group
    with pytest.raises(ValueError, match=r"expected at most 2\*\*40 positions"):
        core.workspace_bytes(2**33 + 1, 128, True)


SAVE = """
import sys
import numpy as np
import loopos
from pathlib import Path
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
seen = []
class Watch:
    def on_step_end(self, info):
        seen.append(peak())
    def on_save(self, info):
        seen.append(peak())
config = loopos.ModelConfig(vocab_size=200_000, context_length=8, n_layer=1, n_head=1, d_model=64)
ids = np.arange(100) % 7
loopos.train(config, ids, max_steps=1, batch_size=1, progress=False, callbacks=[Watch()], output_dir=sys.argv[1])
print(seen[1] - seen[0])
"""


@pytest.mark.unsanitized("minutes of large passes for a figure that the sanitizer's own memory would blur")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/status is read")
def test_a_checkpoint_is_written_without_a_copy_of_the_state(tmp_path):
    """Weights and moments are 150 MB here; what is not finite is looked for with a byte a number of one tensor."""
    done = subprocess.run(
        [sys.executable, "-c", SAVE, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 45
