"""The exchanges of a reduction: every number along the tree, whatever the buckets."""

from __future__ import annotations

import itertools

import pytest
from under_mpi import mpi_needed, result_of

from loopos.distributed.reduction import BUCKET, SMALLEST, bucket_of, pieces

SCRIPT = """
import hashlib, json, sys
import numpy as np
from mpi4py import MPI
from loopos.distributed.partial import Partial
from loopos.distributed.ranks import Ranks
from loopos.distributed.options import Distributed
from loopos.distributed import reduction
asked = json.loads(sys.argv[1])
reduction.BUCKET = asked["bucket"]
shards, size = asked["shards"], asked["size"]
rng = np.random.default_rng(1)
given = (rng.normal(size=(shards, size)) * 10.0 ** rng.integers(-6, 6, (shards, 1))).astype(asked["dtype"])
ranks = Ranks(MPI, Distributed(fast_reduce=asked.get("fast", False)))
run, buffer = ranks.shards(shards), np.zeros(size, asked["dtype"])
exact = reduction.Exact(ranks._lanes, MPI.FLOAT if buffer.itemsize == 4 else MPI.DOUBLE, ranks.wait, buffer, shards,
                        asked["bucket"])
partial = Partial(buffer, shards, run)
for _ in range(2):
    partial.begin()
    for shard in run:
        buffer[:] = given[shard]
        partial.add(shard)
    exact.begin(partial.sums())
    exact.finish()
whole = Partial(np.zeros(size, asked["dtype"]), shards, range(shards))
whole.begin()
for shard in range(shards):
    whole.buffer[:] = given[shard]
    whole.add(shard)
tell([buffer.tobytes() == whole.buffer.tobytes(), bool(np.abs(buffer).sum() > 0)])
"""


def test_pieces_are_the_whole():
    for size in (1, 2, 3, 7):
        cut = pieces(10, 1000, size)
        assert cut[0][0] == 10
        assert cut[-1][1] == 1000
        assert all(a[1] == b[0] for a, b in itertools.pairwise(cut))
    assert pieces(0, 5, 4) == [(0, 5), (5, 5), (5, 5), (5, 5)]


@mpi_needed
@pytest.mark.unsanitized("processes of their own: sanitizers are not in them")
@pytest.mark.parametrize(
    ("ranks", "shards", "size", "bucket", "dtype"),
    [(3, 8, 1003, 256, "float32"), (2, 8, 100_000, 1 << 22, "float32"), (3, 5, 777, 64, "float64")],
)
def test_ranks_find_the_sum_of_the_tree(ranks, shards, size, bucket, dtype, tmp_path):
    asked = {"shards": shards, "size": size, "bucket": bucket, "dtype": dtype}
    assert result_of(SCRIPT, asked, ranks=ranks, folder=tmp_path) == [[True, True]] * ranks


def test_messages_of_many_ranks_are_no_smaller_than_those_of_two():
    assert bucket_of(100) == bucket_of(8 * SMALLEST) == SMALLEST
    assert bucket_of(16 * SMALLEST) == bucket_of(16 * SMALLEST, 5) == 2 * SMALLEST
    assert bucket_of(16 * SMALLEST, 32) == 16 * SMALLEST  # all in one
    assert bucket_of(1 << 30) == bucket_of(1 << 30, 1024) == BUCKET
