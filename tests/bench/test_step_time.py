"""The model of the time of a step, against numbers that are worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from loopos.bench import step_time
from loopos.bench.step_time import Compute, Gradient, Link, efficiency, exposed, fast, fit_compute, fit_link, tree

LINK = Link(latency=1e-5, bandwidth=1e8)
GRADIENT = Gradient(bytes=4e7, late=1e7, adding=1e-10)  # 3 buckets, and 8 on the way, 2 of them late
COMPUTE = Compute(fixed=0.1, per_row=0.05, update=0.2)


def test_a_link_by_its_name():
    assert Link.ethernet(10, 2e-5) == Link(2e-5, 1.25e9)
    assert Link.ethernet(1, 2e-5, share=0.94).bandwidth == pytest.approx(117.5e6)


def test_a_pass_and_a_step():
    assert COMPUTE.passing(4) == pytest.approx(0.3)
    assert COMPUTE.step(4, 3) == pytest.approx(1.1)


def test_a_fit_finds_what_made_the_points():
    points = [(rows, passes, COMPUTE.step(rows, passes)) for rows, passes in [(2, 1), (2, 2), (1, 1), (1, 2), (4, 1)]]
    found = fit_compute(points)
    assert found.to_dict() == pytest.approx(COMPUTE.to_dict())
    assert step_time.apart(found, points) < 1e-9
    assert step_time.apart(found, [(2, 1, 0.5)]) == pytest.approx(0.2)  # 0.4 is said


def test_a_fit_has_no_term_below_0():
    noisy = [(rows, passes, passes * rows * 1.0) for rows, passes in [(1, 1), (1, 2), (2, 1), (2, 2)]]
    noisy[0] = (1, 1, 0.9)  # asks for a pass that costs less than nothing
    found = fit_compute(noisy)
    assert found.fixed == found.update == 0.0
    assert found.per_row == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("points", [[(2, 1, 1.0)] * 3, [(1, 1, 1.0), (2, 1, 2.0)], [(2, 1, 1.0), (2, 2, 2.0)]])
def test_too_few_points_are_refused(points):
    with pytest.raises(ValueError, match="two batches and of two numbers of passes"):
        fit_compute(points)


def test_a_link_of_messages():
    found = fit_link([(8, 2e-5), (1e6 + 8, 1e-2 + 2e-5), (1e8 + 8, 1 + 2e-5)])
    assert found.to_dict() == pytest.approx({"latency": 2e-5, "bandwidth": 1e8})
    with pytest.raises(ValueError, match="two sizes"):
        fit_link([(8, 2e-5)])


def test_one_node_sends_nothing():
    assert tree(1, GRADIENT, LINK) == fast(1, GRADIENT, LINK) == 0


def test_the_tree_of_two_and_of_four():
    # two: half of 40 MB goes out and the sums of half come back, 0.4 s; 20 MB are added, 2 ms; 2 messages a bucket
    assert tree(2, GRADIENT, LINK) == pytest.approx(0.4 + 0.002 + 2 * 3 * 1e-5)
    # four: 3/4 either way, 0.6 s; 3 times 10 MB are added, 3 ms; 6 messages a bucket
    assert tree(4, GRADIENT, LINK) == pytest.approx(0.6 + 0.003 + 6 * 3 * 1e-5)


def test_the_tree_sends_more_where_a_node_has_several_sums():
    # three of eight shards: 2, 3 and 3 of them, in 1, 2 and 2 sums (loopos.distributed.tree.roots): 5/3 on average
    more = tree(3, GRADIENT, LINK, 5 / 3) - tree(3, GRADIENT, LINK)
    assert more == pytest.approx(2 / 3 * 4e7 * (2 / 3) / 1e8 + 1e-10 * 4e7 * 2 / 3)


def test_the_fast_reduction():
    # eight: 7/8 either way, 0.7 s; 7/8 of 40 MB are added, 3.5 ms; 3 messages in and 3 out
    assert fast(8, GRADIENT, LINK) == pytest.approx(0.7 + 0.0035 + 6e-5)
    assert fast(5, replace(GRADIENT, bytes=0), LINK) == pytest.approx(6e-5)  # the levels above five: three


def test_latency_is_what_parts_tree_and_fast_with_many_nodes():
    wide = Link(1e-5, math.inf)
    still = replace(GRADIENT, adding=0)
    assert tree(1024, still, wide) == pytest.approx(2 * 1023 * 3 * 1e-5)
    assert fast(1024, still, wide) == pytest.approx(20e-5)


def test_a_few_numbers_cost_their_messages_alone():
    assert [step_time.agreed(nodes, LINK) for nodes in (1, 2, 8, 9)] == pytest.approx([0, 2e-5, 6e-5, 8e-5])


def test_what_is_exposed():
    assert exposed(0.4, 0.1, 0.25) == pytest.approx(0.15)
    assert exposed(0.4, 0.1, 0.35) == pytest.approx(0.1)  # what comes late is never hidden
    assert exposed(0.4, 0.4, 0.35) == pytest.approx(0.4)


def test_a_step_of_two_nodes():
    plain = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=4)
    assert plain.compute == pytest.approx(0.5)
    assert plain.communication == plain.exposed == pytest.approx(0.40208)  # 2 messages more: what the losses were
    assert plain.seconds == pytest.approx(0.90208)
    assert plain.share == pytest.approx(0.40208 / 0.90208)

    hidden = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=4, overlap=1)
    assert hidden.exposed == pytest.approx(0.40218 - 0.2)  # two thirds of a pass of 0.3 s
    some = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=4, overlap=0.5)
    assert some.exposed == pytest.approx(0.40218 - 0.1)
    wide = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=40, overlap=1)
    assert wide.exposed == pytest.approx(0.1 + 0.0005 + 6e-5)  # the 10 MB that come last, two buckets

    slow_coder = replace(GRADIENT, rounding=1e-9, reading=2e-9)
    halves = step_time.step(2, COMPUTE, slow_coder, LINK, rows=4, wire=0.5)
    # 20 MB of as many numbers in as many buckets, which are added as float32
    assert halves.communication == pytest.approx(0.2 + 0.002 + 2 * 3 * 1e-5 + 2e-5)
    assert halves.coding == pytest.approx(4e7 * (1.5e-9 + 4e-9))
    assert halves.seconds == pytest.approx(0.5 + halves.coding + halves.exposed)
    assert step_time.step(2, COMPUTE, slow_coder, LINK, rows=4).coding == 0
    assert step_time.step(1, COMPUTE, slow_coder, LINK, rows=4, wire=0.5).coding == 0

    own = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=4, sharded_update=True)
    assert own.compute == pytest.approx(0.4)
    # half of the weights to the other in place of half of the sums, in messages that are not counted, and agreement
    assert own.exposed == pytest.approx(plain.exposed - 3e-5 + 2e-5)
    late = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=40, overlap=1, sharded_update=True)
    assert late.exposed == pytest.approx(own.exposed)  # nothing goes on the way
    fast = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=4, reduction="fast", sharded_update=True)
    assert fast.exposed == pytest.approx(0.402 + 2e-5 + 2e-5 + 0.2 + 2e-5)  # which leaves all in all


def test_shards_of_a_node_are_added_by_itself():
    four = step_time.step(2, COMPUTE, GRADIENT, LINK, rows=1, passes=4, shards=4)
    assert four.compute == pytest.approx(0.2 + 4 * 0.15)
    assert four.shards == pytest.approx(2 * 3 * 0.004)
    assert step_time.step(2, COMPUTE, GRADIENT, LINK, rows=1, passes=4, shards=4, reduction="fast").shards == 0


def test_efficiency_and_the_batch_that_it_asks_for():
    assert efficiency(1, COMPUTE, GRADIENT, LINK, rows=4) == 1
    assert efficiency(2, COMPUTE, GRADIENT, LINK, rows=4) == pytest.approx(0.5 / 0.90208)
    # 0.2 + 0.3 p >= 4 * 0.40208 from p = 4.7 on
    found = step_time.least_passes(2, COMPUTE, GRADIENT, LINK, rows=4)
    assert found == 5
    assert efficiency(2, COMPUTE, GRADIENT, LINK, rows=4, passes=5) >= 0.8
    assert efficiency(2, COMPUTE, GRADIENT, LINK, rows=4, passes=4) < 0.8
    assert step_time.least_passes(1, COMPUTE, GRADIENT, LINK, rows=4) == 1


def test_no_batch_is_enough_for_a_link_that_carries_nothing():
    assert step_time.least_passes(2, COMPUTE, GRADIENT, Link(1e9, 1e8), rows=4) is None
