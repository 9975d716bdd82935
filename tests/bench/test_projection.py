"""What a record says of more nodes, and the model beside its measured steps, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from rank_record import record

from loopos.bench import projection
from loopos.bench.step_time import efficiency


def test_every_measured_step_of_several_ranks_is_checked():
    here, fast, wire, zero, slow = projection.checks(record())
    assert [(each.setting, each.link, each.reduction) for each in (here, fast, wire, zero, slow)] == [
        ("toy", "memory", "tree"),
        ("toy", "memory", "fast"),
        ("toy", "memory", "bfloat16 wire"),
        ("toy", "memory", "ZeRO-1"),
        ("toy", "0.032 Gbit/s", "tree"),
    ]
    # 0.4 + 2 rows of 0.2; half of 4 MB there and back, 2 messages, and 2 more of the losses
    assert here.model.seconds == pytest.approx(0.8 + 4e6 / 4e7 + 4e-3)
    assert here.off == pytest.approx(0.904 / 1.0 - 1)
    # half of the bytes, and 4 MB rounded one and a half times and read twice
    assert wire.model.seconds == pytest.approx(0.8 + 2e6 / 4e7 + 4e-3 + 4e6 * (1.5e-8 + 1e-8))
    # half of the update of 0.4 s; half of the weights in place of half of the sums, in messages that are not counted;
    # and 2 more: whether all can
    assert zero.model.seconds == pytest.approx(0.8 - 0.2 + 4e6 / 4e7 + 3e-3 + 2e-3)
    assert fast.off == pytest.approx(0.904 / 0.8 - 1)
    assert slow.model.seconds == pytest.approx(0.8 + 4e6 / 4e6 + 4e-3)
    assert slow.measured == 1.5


def test_a_record_in_which_rounding_was_not_measured_has_no_check_of_it():
    result = record()
    del result["network"]["here"]["rounding"]
    assert [each.reduction for each in projection.checks(result)][:3] == ["tree", "fast", "ZeRO-1"]


def test_a_step_whose_gradients_went_on_the_way_is_checked_as_such():
    result = record()
    result["slow"]["settings"][0]["peers"][0]["overlaps"] = True
    slow = projection.checks(result)[-1]
    assert slow.reduction == "tree, overlap"
    # 8 buckets; two thirds of a pass of 0.4 s hide as much of the second that it takes
    assert slow.model.seconds == pytest.approx(0.8 + 4e6 / 4e6 + 18e-3 - 0.4 * 2 / 3)


def test_without_ranks_or_links_nothing_is_checked():
    result = record()
    result["settings"][0]["compute"] = {}
    assert projection.checks(result) == projection.nodes(result) == []
    result = record()
    result["network"] = {"here": {"link": None}, "slow": None}
    result["slow"] = {"absent": "no network namespaces here"}
    assert projection.checks(result) == projection.nodes(result) == []


def test_the_embeddings_come_last_where_they_are_trained():
    (each,) = record()["settings"]
    found = projection.gradient_of(each, {"adding": 1e-10})
    assert (found.bytes, found.late, found.adding, found.rounding) == (4e6, 4e5, 1e-10, 0)
    each["peers"][0]["trained"] = 1000
    assert projection.gradient_of(each, {"adding": 0.0}).late == 0


def test_a_link_delivers_its_payload():
    assert projection.link(10).bandwidth == pytest.approx(0.94 * 1.25e9)
    assert sorted(projection.LINKS) == [1, 10, 100]
    assert projection.LINKS[1] > projection.LINKS[10] > projection.LINKS[100]


def test_efficiencies_fall_with_nodes_and_rise_with_links_and_passes():
    (node,) = projection.nodes(record())
    assert (node.name, node.rows, node.tokens) == ("toy", 4, 8)
    one, ten, hundred = (projection.efficiencies(node, speed, 1) for speed in projection.LINKS)
    assert one == sorted(one, reverse=True)
    assert all(a < b < c < 1 for a, b, c in zip(one, ten, hundred, strict=True))
    assert all(a < b for a, b in zip(one, projection.efficiencies(node, 1, 4), strict=True))
    # two nodes at 1 Gbit/s: 0.6 s of computing, 4 MB at 117.5 MB/s, 4 messages of 50 µs
    assert one[0] == pytest.approx(0.6 / (0.6 + 4e6 / 117.5e6 + 2e-4))
    assert len(one) == len(projection.NODES)
    assert (projection.NODES[0], projection.NODES[-1]) == (2, 1024)


def test_the_least_batch_is_what_reaches_the_goal():
    (node,) = projection.nodes(record())
    for count, rows in zip(projection.NODES, projection.batches(node, 1), strict=True):
        how = {"rows": 4, "passes": rows // 4}
        given = count, node.compute, node.gradient, projection.link(1)
        assert efficiency(*given, **how) >= projection.GOAL
        assert rows == 4 or efficiency(*given, **how | {"passes": rows // 4 - 1}) < projection.GOAL
    assert projection.batches(node, 1, reduction="fast")[-1] <= projection.batches(node, 1)[-1]
