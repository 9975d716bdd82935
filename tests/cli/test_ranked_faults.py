"""What goes wrong on one process of ``loopos classify`` and ``loopos covariance train`` ends all of them, is said once,
and leaves the last checkpoint."""

from __future__ import annotations

import re

import pytest
from pictures import two_shades
from under_mpi import mpi_needed, started

from loopos.files.run_folder import newest_valid

pytestmark = [mpi_needed, pytest.mark.unsanitized("processes of their own: sanitizers are not in them")]

SCRIPT = """
import errno, json, os, signal, sys
asked = json.loads(sys.argv[1])
here, fault = int(os.environ["PMI_RANK"]) == asked["on"], asked["fault"]
import loopos.cli
from loopos.distributed.partial import Partial
from loopos.distributed.ranks import Ranks
from loopos.files import durable
went, add, write, seen = Ranks.at, Partial.add, durable.create, []
def at(self, step):
    went(self, step)
    if step == 4 and fault in ("SIGKILL", "SIGTERM"):
        os.kill(os.getpid(), getattr(signal, fault))
def spoil(self, shard):
    seen.append(shard)
    if fault == "nan" and seen.count(shard) == 3:
        self.buffer[7] = float("nan")
    add(self, shard)
def full(path, *rest, **more):
    if fault == "full" and "step-00000004" in str(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
    return write(path, *rest, **more)
if here:
    Ranks.at, Partial.add, durable.create = at, spoil, full
sys.exit(loopos.cli.main(asked["asked"]))
"""
KINDS = {
    "classify": ["classify", "set", "--image-size", "8", "--patch-size", "4", "--d-model", "16"],
    "covariance": ["covariance", "train", "--samples", "0", "--preset", "line"],
}
RUN = ["--max-steps", "8", "--batch-size", "6", "--shards", "6", "--save-every", "2", "--output-dir", "run"]


@pytest.mark.parametrize(
    ("kind", "fault", "on", "code", "says", "step"),
    [
        ("classify", "SIGKILL", 1, None, r"loopos: rank 1 on .* has died: it was killed", 2),
        ("classify", "full", 0, None, r"loopos: rank 0 on .* No space left on device", 2),
        ("classify", "nan", 1, 3, r"loopos classify: a number is not finite; .* on rank 1 of 2", 2),
        ("classify", "SIGTERM", 0, 143, r"loopos classify: training was stopped by SIGTERM; run has a checkpoint", 4),
        ("covariance", "SIGTERM", 1, 143, r"loopos covariance: training was stopped by SIGTERM; run has a", 4),
    ],
)
def test_a_fault_ends_all_and_the_last_checkpoint_stays(kind, fault, on, code, says, step, tmp_path):
    if kind == "classify":
        two_shades(tmp_path / "set")
    asked = {"asked": [*KINDS[kind], *RUN, "--no-progress"], "fault": fault, "on": on}
    with started(SCRIPT, asked, 2, tmp_path) as process:
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    said = [line for line in err.splitlines() if line.startswith("loopos")]
    assert len(said) == 1, err
    assert re.match(says, said[0])
    assert process.returncode != 0
    assert code in (None, process.returncode)  # None: it is that of the rank that ends first
    assert newest_valid(tmp_path / "run").step == step
