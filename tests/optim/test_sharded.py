"""Moments that are shared out between processes: the same weights, and every update in all of them or in none."""

from __future__ import annotations

import numpy as np
import pytest
from under_mpi import mpi_needed, result_of

import loopos
from loopos.optim.sharded import ShardedOptimizer, owners
from loopos.optim.training import for_training
from loopos.run.alike import refuse_sharding
from loopos.training import default_settings


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_parameters_are_shared_out_in_their_order(size):
    sizes = [1000, 10, 10, 500, 500, 10, 1, 1]
    found = owners(sizes, size)
    assert found == sorted(found)
    assert set(found) == set(range(size))
    if size == 2:
        assert found == [0, 0, 0, 1, 1, 1, 1, 1]


def test_fewer_parameters_than_ranks_are_refused():
    with pytest.raises(ValueError, match="shares 2 parameters out, and there are 3 ranks"):
        owners([5, 5], 3)


def test_settings_that_do_not_go_with_it():
    for settings, says in (({"on_nonfinite": "rewind"}, "rewind"), ({"moments": "bfloat16"}, "moments='bfloat16'")):
        with pytest.raises(ValueError, match=says):
            refuse_sharding(default_settings(**settings))


class Two:
    """Two processes, of which this test plays one after the other; the other one says ``safe``."""

    size, others_are_safe = 2, 1.0

    def __init__(self, rank):
        self.rank = rank

    def total(self, numbers):
        return numbers + self.others_are_safe

    def gather(self, thing):
        return [thing, {"phase": "backward"}]

    def spread(self, owned):
        pass

    def collect(self, arrays):
        return {}


def model():
    config = loopos.ModelConfig(vocab_size=31, context_length=8, n_layer=1, n_head=2, d_model=16)
    made = loopos.Model(config, seed=1)
    ids = np.arange(16).reshape(2, 8)
    made._core.accumulate(ids, ids + 1, scale=1 / 16)
    return made


def test_each_updates_its_own_as_one_would():
    whole = model()
    for_training("adamw", whole).step_core(0.1, 1.0)
    for rank in range(2):
        own = model()
        before = own.state_dict()
        optimizer = ShardedOptimizer(Two(rank), "adamw", own)
        assert optimizer.step_core(0.1, 1.0) is None
        mine = {name for name, owner in optimizer._owned.items() if owner == rank}
        for name, array in own.parameters().items():
            assert np.array_equal(array, whole.parameters()[name] if name in mine else before[name]), name
        assert {name.split(".", 1)[1] for name in optimizer.living_state() if "." in name} == mine


def test_one_that_cannot_leaves_all_as_they_were():
    own, team = model(), Two(0)
    team.others_are_safe = 0.0
    before, optimizer = own.state_dict(), ShardedOptimizer(team, "adamw", own)
    assert optimizer.step_core(0.1, 1.0) == {"phase": "backward"}
    assert all(np.array_equal(array, before[name]) for name, array in own.parameters().items())
    assert optimizer.living_state()["step"] == 0


NORM = """
import json, sys
import numpy as np, loopos
from mpi4py import MPI
from loopos.distributed.options import Distributed
from loopos.distributed.ranks import Ranks
from loopos.optim import sharded
asked = json.loads(sys.argv[1])
ranks = Ranks(MPI, Distributed(shard_optimizer=True))
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=2, n_head=4, d_model=asked["width"])
model = loopos.Model(config, seed=1, dtype=asked["dtype"])
optimizer = sharded.ShardedOptimizer(ranks, "sgd", model)
numbers = model._core.gradient_buffer()
rng = np.random.default_rng(2)
for _, gradient in optimizer._all_grads:
    gradient[...] = rng.normal(size=gradient.shape) * asked["scale"]
if asked["bad"]:
    gradient.flat[-1] = np.nan
whole = numbers.copy()
expected = model._core.grad_norm()
ranges = optimizer.owned(numbers)
start, stop = ranges[ranks.rank]
for owner, gradient in optimizer._all_grads:
    if owner != ranks.rank:
        gradient.fill(np.inf)  # what this rank has of the others'
found = optimizer.grad_norm()
unchanged = numbers[start:stop].tobytes() == whole[start:stop].tobytes()
before = numbers.tobytes() == whole.tobytes()
optimizer.complete_gradients()
tell([float(expected).hex(), float(found).hex(), unchanged, before, numbers.tobytes() == whole.tobytes(),
      any(first % 8192 for first, _ in ranges)])
"""


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
@pytest.mark.parametrize(
    ("width", "dtype", "scale", "bad"),
    [
        (64, "float32", 1.0, False),
        (8, "float32", 1.0, False),
        (64, "float64", 1e200, False),
        (64, "float32", 1.0, True),
    ],
)
def test_the_norm_has_the_bits_of_one_process(width, dtype, scale, bad, tmp_path):
    """A width of 8 leaves all in one block. Where squares are beyond double, or a number is bad, all ranks have all
    gradients afterwards; else none has."""
    asked = {"width": width, "dtype": dtype, "scale": scale, "bad": bad}
    for expected, found, unchanged, before, completed, mixed in result_of(NORM, asked, ranks=3, folder=tmp_path):
        assert found == expected
        assert unchanged
        assert before == (bad or scale > 1)
        assert completed
        assert mixed


SCRIPT = """
import hashlib, json, sys
import numpy as np, loopos
asked = json.loads(sys.argv[1])
how = loopos.Distributed(shard_optimizer=True) if asked.pop("sharded") else "auto"
config = loopos.ModelConfig(vocab_size=61, context_length=16, n_layer=2, n_head=4, d_model=32, dropout=0.1)
ids = np.random.default_rng(0).integers(0, 61, 3000)
def once(**more):
    result = loopos.train(config, ids, batch_size=8, learning_rate=1e-2, progress=False, distributed=how, **more)
    weights = b"".join(each.tobytes() for each in result.model.parameters().values())
    return hashlib.sha256(weights).hexdigest()
class Stop:
    def on_step_end(self, info):
        return info["step"] == 3
told = [once(max_steps=6, optimizer=name) for name in ("adamw", "muon")]
if how != "auto":
    once(max_steps=6, output_dir="run", callbacks=[Stop()])
told.append(once(max_steps=6, output_dir="run", resume="auto"))
try:
    once(max_steps=2, lr_schedule="constant", weight_decay=1e38, optimizer="adamw")
except loopos.NonFiniteError as error:
    told.append(str(error)[:60])
tell(told)
"""


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
def test_the_bits_are_those_of_whole_moments(tmp_path):
    sharded = result_of(SCRIPT, {"sharded": True}, ranks=3, folder=tmp_path)
    assert sharded[0][0] == sharded[0][2]  # a run that was stopped, and went on
    (alone,) = result_of(SCRIPT, {"sharded": False}, folder=tmp_path)  # goes on from that checkpoint, too
    assert sharded == [alone] * 3
