"""What the ranks of a run are compared by; two real ones are in tests/cli/test_ranked.py."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.distributed.alone import Alone, DifferentRank
from loopos.health.doctor.check_ranks import check_ranks
from loopos.training import default_settings

CONFIG = loopos.ModelConfig(vocab_size=16, context_length=8, n_layer=1, n_head=2, d_model=16)


class Compared(Alone):
    """Writes down what is compared; differs where it is told to."""

    def __init__(self, differs=None):
        self.seen, self._differs = {}, differs

    def same(self, what):
        self.seen |= what
        if self._differs in what:
            raise DifferentRank(f"train: rank 1 on b has another {self._differs} than rank 0 on a: 1 there, 2 here")


def examined(ranks):
    model = loopos.Model(CONFIG)
    given = {"eval_data": np.arange(40) % 16}
    return check_ranks(ranks, model, np.arange(90) % 16, default_settings(batch_size=4), given)


def test_what_is_compared():
    ranks = Compared()
    assert examined(ranks).verdict == "ok"
    names = {"isa", "loopos", "n_layer (config)", "learning_rate (settings)", "weights (their SHA-256)"}
    assert names | {"training data (their SHA-256)", "held-out data (their SHA-256)"} <= set(ranks.seen)
    assert ranks.seen["shards (settings)"] == 4
    assert "threads" not in ranks.seen


@pytest.mark.parametrize("name", ["isa", "n_layer (config)", "training data (their SHA-256)"])
def test_the_rank_that_differs_is_named(name):
    check = examined(Compared(name))
    assert check.verdict == "fail"
    assert check.measured == f"rank 1 on b has another {name} than rank 0 on a: 1 there, 2 here"
