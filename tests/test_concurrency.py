"""Several Python threads at once: nothing wrong, nothing hangs, nothing crashes. Each case is a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import threading, numpy as np, loopos
from loopos import ops
def together(count, work):
    errors = []
    def run(k):
        try:
            work(k)
        except BaseException as error:
            errors.append(repr(error))
    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert not errors, errors
config = loopos.ModelConfig(31, 16, 2, 2, 32)
model = loopos.Model(config, seed=1)
ids = np.arange(24).reshape(3, 8) % 31
"""

GRADIENTS = """
batches = [(ids + k) % 31 for k in range(4)]
want = [model.loss_and_grads(b, b) for b in batches]
def work(k):
    for _ in range(40):
        loss, grads = model.loss_and_grads(batches[k], batches[k])
        assert loss == want[k][0]
        assert all((grads[n] == want[k][1][n]).all() for n in grads)
together(4, work)
"""

GENERATION = """
want = [model.generate(ids[:, : 3 + k], 6, seed=3) for k in range(4)]
def work(k):
    for _ in range(20):
        assert (model.generate(ids[:, : 3 + k], 6, seed=3) == want[k]).all()
together(4, work)
"""

TRAINING = """
def trained(disturbed):
    m = loopos.Model(config, seed=1)
    over = threading.Event()
    def disturb():
        while disturbed and not over.is_set():
            m.loss_and_grads(ids, ids)
            m.generate(ids[:, :3], 2)
    t = threading.Thread(target=disturb); t.start()
    data = (np.arange(2000) * 7) % 31
    loopos.train(m, data, max_steps=60, batch_size=2, progress=False)
    over.set(); t.join()
    return b"".join(v.tobytes() for v in m.parameters().values())
assert trained(True) == trained(False)
"""

RESIZING = """
def work(k):
    for i in range(200):
        loopos.set_num_threads(1 + (k + i) % 4)
        ops.softmax(np.ones((300, 300)))
together(3, work)
"""

SENTINEL = """
relu = loopos.ModelConfig(31, 16, 1, 2, 32, activation="relu")
bad, good = loopos.Model(relu, seed=1), loopos.Model(config, seed=2)
w = bad.parameters()
w["blocks.0.mlp_norm.bias"][:] = 1.0
w["blocks.0.mlp.up_proj.weight"][3] = -3e37
w["blocks.0.mlp.up_proj.bias"][3] = -3e38
over = threading.Event()
def work(k):
    if k:
        while not over.is_set():
            good.loss_and_grads(ids, ids)
        return
    try:
        for _ in range(150):
            try:
                bad.loss_and_grads(ids, ids)
            except loopos.NonFiniteError as error:
                assert error.birth.value == -np.inf
            else:
                raise AssertionError("an activation that is not finite was missed")
    finally:
        over.set()
together(3, work)
"""

CHANGING_IDS = """
weight, ids = np.ones((50, 64), np.float32), np.zeros(400_000, np.int64)
over = threading.Event()
def work(k):
    if k:
        while not over.is_set():
            ids[-1000:] = 2**40
            ids[-1000:] = 0
        return
    try:
        for _ in range(30):
            try:
                ops.embedding(ids, weight)
            except IndexError:
                pass
    finally:
        over.set()
together(2, work)
"""

CASES = {
    "gradients": GRADIENTS,
    "generation": GENERATION,
    "training": TRAINING,
    "resizing": RESIZING,
    "sentinel": SENTINEL,
    "changing_ids": CHANGING_IDS,
}


@pytest.mark.parametrize("case", CASES)
def test_threads_do_not_disturb_each_other(case):
    code = PRELUDE + CASES[case]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]


def test_resized_parameters_are_refused():
    code = """
import numpy as np, loopos
x = np.ones(10**6, np.float32)
o = loopos.optim.SGD({"x": x}, 0.1)
x.resize(10, refcheck=False)
try:
    o.step({"x": np.ones(10**6, np.float32)})
except ValueError as error:
    assert "resized" in str(error), error
else:
    raise AssertionError("not refused")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.reference
def test_a_callers_flush_to_zero_changes_no_bit():
    pytest.importorskip("torch")
    code = """
import numpy as np, torch, loopos
from loopos import ops
loopos.set_num_threads(4)
x = (np.random.default_rng(0).standard_normal(300_000) * 1e-38).astype(np.float32)
want = ops.silu(x).tobytes()
assert torch.set_flush_denormal(True)
assert all(ops.silu(x).tobytes() == want for _ in range(6))
loopos.set_num_threads(3)
assert all(ops.silu(x).tobytes() == want for _ in range(6))
tiny = torch.tensor([1e-39])
assert (tiny * 1).item() == 0  # the caller's own mode is as it was
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-2000:]
