"""Which operation raised a floating-point flag: written down in the step itself, the same for any number of threads,
and what of it is worth a repetition."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest

import loopos
from loopos import testing
from loopos.births.birth import find_birth

THREADS = (1, 2, 5)  # with these sizes: parts of the batch, parts of the batch, operations cut
ROWS, TIME = 16, 16


def config_of(**changes):
    llama = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False, "tie_embeddings": False}
    return loopos.ModelConfig(vocab_size=31, context_length=TIME, n_layer=3, n_head=4, d_model=32, **llama | changes)


CONFIGS = {
    "llama": config_of(),
    "gpt2": config_of(norm="layernorm", position="learned", activation="gelu_tanh", bias=True, tie_embeddings=True),
    "dropout": config_of(dropout=0.1),
}


SEEN = pytest.mark.unsanitized("its operations have tests of theirs; flags are read as in gpt2")


@pytest.fixture(params=[name if name == "gpt2" else pytest.param(name, marks=SEEN) for name in CONFIGS])
def config(request):
    return CONFIGS[request.param]


def tokens(config, rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(8, config.vocab_size, (rows, TIME))
    return ids, np.roll(ids, -1, axis=1)


def step(model, ids, targets):
    """What a training step's forward and backward raise, in order."""
    core = model._core
    _, _, healthy = core.accumulate(ids, targets, scale=1 / targets.size, step=0, seed=1)
    raised = core.raised()
    assert healthy == (not raised)
    return raised


def place(found):
    return found["phase"], found["layer"], found["op"]


def traced(model, ids, targets):
    return model._core.trace(ids, targets, scale=1 / targets.size, step=0, seed=1)


def on_any_threads(model, ids, targets, thread_count):
    """The same list on any number of threads, in parts of the batch and as a whole (few rows are no parts)."""
    lists = []
    for threads in THREADS:
        thread_count(threads)
        lists.append(step(model, ids, targets))
    assert lists[0] == lists[1] == lists[2]
    return lists[0]


def test_a_healthy_step_has_an_empty_list(config, thread_count):
    for dtype in ("float32", "float64"):
        assert on_any_threads(loopos.Model(config, seed=1, dtype=dtype), *tokens(config), thread_count) == []


ALIKE = pytest.mark.unsanitized("the same step, bad at another place")
PARTS = ["0.attn_norm", "2.attn.qkv_proj", "0.attn.o_proj", "2.mlp_norm", "0.mlp.up_proj", "2.mlp.down_proj"]


@pytest.mark.parametrize("part", [PARTS[0], *(pytest.param(part, marks=ALIKE) for part in PARTS[1:]), "final_norm"])
def test_the_first_of_the_list_is_where_the_trace_finds_the_birth(config, part, thread_count):
    model, batch = loopos.Model(config, seed=1), tokens(config)
    name = "final_norm.weight" if part == "final_norm" else f"blocks.{part}.weight"
    if config.activation == "swiglu":
        name = name.replace("up_proj", "gate_up_proj")
    for view in model.parameters().values():
        view *= 10  # so that what meets the huge weight is not small
    with testing.spoiled_weight(model, name, None, 3e38):
        raised = on_any_threads(model, *batch, thread_count)
        birth = traced(model, *batch)
        assert (place(raised[0]), raised[0]["tensor"]) == (place(birth), birth["tensor"])
        assert "overflow" in raised[0]["flags"]
        with pytest.raises(loopos.NonFiniteError, match=f"flags of the step: .*overflow.*{birth['tensor']}") as error:
            model.loss_and_grads(*batch)
        assert place(error.value.birth.raised[0]) == place(birth)
    assert step(model, *batch) == []


def test_a_birth_on_the_way_back(thread_count):
    """A huge head behind a tiny norm: logits of ordinary size, but a sum over many rows that leaves the range."""
    config = CONFIGS["gpt2"]
    model = loopos.Model(loopos.ModelConfig.from_dict(config.to_dict() | {"tie_embeddings": False}), seed=1)
    weights = model.parameters()
    weights["pos_embed.weight"][...] = 0
    weights["final_norm.weight"][...] = 1e-38
    weights["lm_head.weight"][...] = -3e38
    weights["lm_head.weight"][5] = 3e38
    batch = np.zeros((ROWS, TIME), np.int64), np.full((ROWS, TIME), 5)
    raised = on_any_threads(model, *batch, thread_count)
    assert place(raised[0]) == place(traced(model, *batch)) == ("backward", None, "layer_norm")


def two_culprits():
    """Token 6 overflows in block 2, token 7 in block 0, and nothing else does."""
    model = loopos.Model(CONFIGS["llama"], seed=1)
    weights = model.parameters()
    weights["tok_embed.weight"][:, 2:4] = 0
    weights["tok_embed.weight"][6:8] = np.eye(32)[2:4]
    for layer in range(3):
        for part in ("attn.o_proj", "mlp.down_proj"):
            weights[f"blocks.{layer}.{part}.weight"][2:4] = 0
    weights["blocks.2.mlp.gate_up_proj.weight"][5, 2] = 3e38
    weights["blocks.0.mlp.gate_up_proj.weight"][5, 3] = 3e38
    return model


def test_first_is_first_in_the_order_of_operations_not_in_time(thread_count):
    model, (ids, targets) = two_culprits(), tokens(CONFIGS["llama"])
    assert on_any_threads(model, ids, targets, thread_count) == []
    ids[0, 3] = 6
    alone = on_any_threads(model, ids, targets, thread_count)
    assert alone[0]["tensor"] == "blocks.2.mlp.gate_up_proj.y"
    ids[-1, 3] = 7  # in another part, which one thread takes after the first is through
    both = on_any_threads(model, ids, targets, thread_count)
    assert both[0]["tensor"] == "blocks.0.mlp.gate_up_proj.y"
    assert not both[0]["finite"]
    forward = [each["layer"] for each in both if each["phase"] == "forward" and each["layer"] is not None]
    assert forward == sorted(forward)


def test_the_order_is_that_of_the_ledger(config):
    model, batch = loopos.Model(config, seed=1), tokens(config)
    order = [(f["phase"], f["op"], f["tensor"]) for f in loopos.trace_step(model, *batch)]
    model.parameters()["blocks.0.attn_norm.weight"][...] = 3e38
    raised = [(r["phase"], r["op"], r["tensor"]) for r in step(model, *batch)]
    assert len(raised) > 5
    assert raised == [each for each in order if each in raised]


def test_recording_leaves_the_gradients_alone(thread_count):
    model, (ids, targets) = two_culprits(), tokens(CONFIGS["llama"])
    ids[0, 3] = 6
    bits = []
    for threads in THREADS:  # in parts the order of the operations is asked for, which runs a pass of its own
        thread_count(threads)
        step(model, ids, targets)
        bits.append(b"".join(gradient.tobytes() for gradient in model._core.gradients().values()))
    assert bits[0] == bits[1] == bits[2]


@pytest.mark.parametrize("tensor", ["embed.y", "blocks.1.attn_norm.y", "blocks.1.mlp.y", "blocks.2.mlp_residual.y"])
def test_a_nan_from_outside_raises_nothing_where_it_comes_in(config, tensor):
    """Operations that compare do when they meet it; the trace names the tensor where it came in."""
    model, batch = loopos.Model(config, seed=1), tokens(config)
    for flag in (False, True):
        with testing.planted(model, tensor, (1, 2, 3), math.nan, flag=flag):
            raised = [each["tensor"] for each in step(model, *batch)]
            order = [frame["tensor"] for frame in loopos.trace_step(model, *batch)]
        assert order[-1] == tensor
        assert [each for each in raised if each in order] == ([tensor] if flag else [])


def test_a_weight_that_is_nan_raises_nothing_where_it_is_used(config, thread_count):
    model, batch = loopos.Model(config, seed=1), tokens(config)
    model.parameters()["blocks.1.mlp_norm.weight"][3] = math.nan
    raised = on_any_threads(model, *batch, thread_count)
    assert raised[0]["tensor"] == "blocks.1.mlp.y"  # the activation compares; norm and projection do not


class Counting:
    """A core that counts its traces."""

    def __init__(self, core):
        self._core, self.traces = core, 0

    def __getattr__(self, name):
        return getattr(self._core, name)

    def trace(self, *args, **keywords):
        self.traces += 1
        return self._core.trace(*args, **keywords)


def harmless(model, tensor="blocks.1.mlp.y"):
    """A flag without a bad number: it is raised, and what raised it is overwritten."""
    stack = testing.ExitStack()
    stack.enter_context(testing.planted(model, tensor, (0, 0, 0), math.nan))
    stack.enter_context(testing.planted(model, tensor, (0, 0, 0), 0.0))
    return stack


def test_a_flag_with_nothing_but_finite_numbers_costs_no_repetition(config):
    model, (ids, targets) = loopos.Model(config, seed=1), tokens(config)
    core = Counting(model._core)
    with harmless(model):
        (only,) = step(model, ids, targets)
        assert (only["tensor"], only["flags"], only["finite"]) == ("blocks.1.mlp.y", ("invalid",), True)
        calls = [(ids, targets, {"scale": 1 / targets.size})]
        with pytest.warns(RuntimeWarning, match="invalid in computing blocks.1.mlp.y .op .*its result was used. loop"):
            assert find_birth(core, calls, loss=2.0, norm=1.0, step=1, raised={0: [only]}) is None
        assert core.traces == 0
        with pytest.warns(RuntimeWarning, match=r"twice the time|are not"):
            find_birth(core, calls, loss=2.0, norm=1.0, step=1, raised={0: [only | {"finite": False}]})
        assert core.traces == 1


def test_a_run_in_which_it_happens_in_every_step_is_told_once(config, recwarn):
    model, data = loopos.Model(config, seed=1), tokens(config)[0].ravel()
    with harmless(model):
        model._core, core = Counting(model._core), model._core
        try:
            result = loopos.train(model, data, max_steps=4, batch_size=4, progress=False)
            traces = model._core.traces
        finally:
            model._core = core
    assert (traces, result.history[-1]["nonfinite"]) == (0, 0)
    assert len(recwarn) == 1


def test_the_flags_of_an_earlier_micro_batch_are_not_denied(config):
    """The message quotes the flags of the micro-batch of the birth, and claims no more."""
    model, data = loopos.Model(config, seed=1), tokens(config)[0].ravel()
    with testing.ExitStack() as stack:
        for tensor, value, micro in (("0.mlp.y", math.nan, 0), ("0.mlp.y", 0.0, 0), ("1.mlp.y", math.nan, 1)):
            planted = testing.planted(model, f"blocks.{tensor}", (0, 0, 0), value, micro_batch=micro)
            stack.enter_context(planted)
        with pytest.raises(loopos.NonFiniteError) as error:
            loopos.train(model, data, max_steps=1, batch_size=4, grad_accum=2, progress=False)
    assert error.value.birth.micro_batch == 1
    assert "The first floating-point flags of that micro-batch: invalid in computing blocks.1." in str(error.value)


def test_an_overflow_that_a_later_operation_hides_is_born_all_the_same(thread_count):
    """relu turns -inf into 0: no number of the loss or of the norm tells. The flag and the tensor do."""
    model, batch = loopos.Model(config_of(activation="relu", bias=True, norm="layernorm"), seed=1), tokens(config_of())
    weights = model.parameters()
    weights["blocks.0.mlp.up_proj.bias"][3] = -3e38
    weights["blocks.0.mlp_norm.bias"][:] = 1.0
    weights["blocks.0.mlp.up_proj.weight"][3, :] = -3e37
    (only,) = on_any_threads(model, *batch, thread_count)
    assert (only["tensor"], only["finite"]) == ("blocks.0.mlp.up_proj.y", False)
    for threads in THREADS:
        thread_count(threads)
        with pytest.raises(loopos.NonFiniteError) as error:
            model.loss_and_grads(*batch)
        assert error.value.birth.tensor == "blocks.0.mlp.up_proj.y"


def test_the_flags_of_the_step_reach_the_python_thread(thread_count):
    """What workers raised in their parts is still told by raised_flags."""
    model, batch = loopos.Model(CONFIGS["llama"], seed=1), tokens(CONFIGS["llama"])
    model.parameters()["blocks.1.mlp.gate_up_proj.weight"][...] = 3e38
    for threads in THREADS:
        thread_count(threads)
        loopos._core.raised_flags()
        assert step(model, *batch)
        assert loopos._core.raised_flags()["overflow"]
        assert not any(loopos._core.raised_flags().values())


def test_the_list_of_operations_counts_no_guard():
    """It is made with a pass over token 0, whose row of zeros is eps's; that row is in no batch."""
    model = loopos.Model(config_of(norm="layernorm"), seed=1)
    for name in ("tok_embed.weight", "pos_embed.weight"):
        if name in model.parameters():
            model.parameters()[name][0 if name.startswith("tok") else ...] = 0
    ids, targets = tokens(config_of())
    ids = np.maximum(ids, 1)
    counts = []
    for raise_flags in (False, True):
        loopos.reset_guard_counts()
        with harmless(model) if raise_flags else nullcontext():
            model._core.accumulate(ids, targets, scale=1 / targets.size)
        counts.append(loopos.guard_counts())
    assert model._core.raised()
    assert counts[0] == counts[1]


def test_a_row_that_is_recomputed_is_counted_once(thread_count):
    """In parts of the batch what norms give is kept; where operations are cut it is made again."""
    config = config_of()
    model = loopos.Model(config, seed=1)
    for array in model.parameters().values():
        array[...] = array.ndim == 1  # matrices of zeros: every row of every norm is zeros, and eps's
    ids, targets = tokens(config)
    for threads in THREADS:
        thread_count(threads)
        loopos.reset_guard_counts()
        model._core.accumulate(ids, targets, scale=1.0)
        norms = 2 * config.n_layer + 1
        assert loopos.guard_counts()["rms_norm_eps"] == norms * ids.size, threads


def test_the_order_holds_when_other_parameters_become_trainable():
    """The list of operations is made once; a gradient that was frozen then has its place in it later."""
    model, batch = loopos.Model(config_of(), seed=1), tokens(config_of())
    gradient, below = "blocks.1.mlp.down_proj.weight", "blocks.0.attn.dqkv"
    model.freeze(gradient)
    with testing.planted(model, "blocks.0.attn.y", None, np.nan):
        step(model, *batch)
    model.unfreeze(gradient)
    faults = [testing.planted(model, name, None, np.inf, phase="backward") for name in (gradient, below)]
    with faults[0], faults[1]:
        raised = step(model, *batch)
    order = [entry["tensor"] for entry in raised if entry["phase"] == "backward"]
    assert order.index(gradient) < order.index(below)
