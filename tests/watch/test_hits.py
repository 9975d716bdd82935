"""A hit on one of several ranks is told on all of them, and nobody waits for ever; healthy ones have none."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.reference
pytest.importorskip("torch")

PROGRAM = """
import os, sys, math, torch, loopos
rank, port, policy, file = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
model = torch.nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
torch.manual_seed(rank)
x, targets = torch.randn(4, 4), torch.tensor([0, 1, 2, 0])
with loopos.watch(model, optimizer, policy=policy) as watch:
    try:
        for step in range(4):
            batch = x.clone()
            if step == 2 and rank == 1:
                batch[3, 1] = math.nan
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
    except loopos.NonFiniteError as error:
        print(error.birth.op, error.birth.index, error.birth.rank, sep="|")
    else:
        total = sum(float(each.double().sum()) for each in model.parameters())
        print("done", watch.skipped, total.hex(), sep="|")
torch.distributed.destroy_process_group()
"""


HEALTHY = """
import sys, torch, loopos
from torch.nn import functional as F
rank, file = int(sys.argv[1]), sys.argv[4]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
torch.manual_seed(0)
nn = torch.nn
net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 4))
model = torch.nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
torch.manual_seed(rank)
batch = torch.randn(12, 8), torch.randint(0, 4, (12,))
loss_fn = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
def step():
    optimizer.zero_grad()
    loss_fn(model, batch).backward()
    optimizer.step()
said = loopos.watch.doctor(model, optimizer, batch, loss_fn, step=step).problems
with loopos.watch(model, optimizer) as watch:
    for _ in range(8):
        step()
said += loopos.watch.doctor(model, optimizer, batch, loss_fn, step=step).problems
print(*said, *watch.births, *watch.findings, watch.steps)
torch.distributed.destroy_process_group()
"""


def both(tmp_path, policy, program=PROGRAM):
    command = [sys.executable, "-c", program]
    file = str(tmp_path / "store")
    running = [
        subprocess.Popen(
            [*command, str(rank), "0", policy, file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    told = [each.communicate(timeout=120) for each in running]
    assert all(each.returncode == 0 for each in running), told
    return [out.strip() for out, _ in told]


def test_the_rank_is_named_on_all(tmp_path):
    told = both(tmp_path, "halt")
    assert told[0] == told[1]
    op, index, rank = told[0].split("|")
    assert (op, index) == ("input", "(3, 1)")
    assert rank == "rank 1 of 2"


def test_all_ranks_skip_the_same_step(tmp_path):
    told = both(tmp_path, "skip")
    assert told[0] == told[1]
    assert told[0].startswith("done|1|")


def test_two_healthy_ranks_and_their_doctor(tmp_path):
    assert both(tmp_path, "halt", HEALTHY) == ["8", "8"]
