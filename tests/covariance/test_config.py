"""CovarianceConfig: every field is checked, and what it counts is what the core has."""

from __future__ import annotations

import pytest
from snapshots import POWERS, network, small

from loopos.covariance import CovarianceConfig

KINDS = [{}, {"learn_beta": False}, {"bias": False}, {"prediction": "unconstrained"}, {"norm": "rmsnorm", "d_ff": 24}]
KINDS.append(POWERS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameters_are_counted(kind):
    model = network(**kind)
    assert sum(view.size for view in model.parameters().values()) == model.config.num_parameters()


def test_it_goes_through_json():
    config = small(loss={"stein": 1, "subspace": 0.5}, normalize=("pred", "snapshots"))
    assert config.normalize == ("snapshots", "pred")
    assert config.loss == (("stein", 1.0), ("subspace", 0.5))
    assert CovarianceConfig.from_dict(config.to_dict()) == config
    assert CovarianceConfig.from_dict(small(**POWERS).to_dict()) == small(**POWERS)
    assert small(loss="stein").loss == (("stein", 1.0),)
    with pytest.raises(ValueError, match="unknown fields colour"):
        CovarianceConfig.from_dict({"colour": 1})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"elements": 0}, "elements"),
        ({"rank": 0}, "rank"),
        ({"eps": 0.0}, "eps must be a finite number greater than 0"),
        ({"beta": 1.0}, "beta"),
        ({"loading": -1.0}, "loading"),
        ({"normalize": ("trace",)}, "normalize"),
        ({"floor": 0.0}, "floor"),
        ({"limit": 0.5}, "limit"),
        ({"loss": "mse"}, "loss"),
        ({"loss": {"stein": 0.0}}, "loss stein"),
        ({"prediction": "full"}, "prediction"),
        ({"d_model": 9}, "n_head"),
        ({"prediction": "powers"}, r"needs shape=\(rows, columns\) or \(N,\), got None"),
        ({"prediction": "powers", "shape": (2, 2)}, "has 4 sensors, not 5"),
        ({"shape": (5,)}, "shape is of prediction='powers', got 'factor'"),
        ({**POWERS, "points": 0}, "points"),
        ({**POWERS, "reach": -1}, "reach"),
    ],
)
def test_what_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        small(**changed)


def test_names_are_no_text():
    with pytest.raises(TypeError, match="tuple of names"):
        small(normalize="pred")
    with pytest.raises(TypeError, match="name or"):
        small(loss=3)


def test_a_rank_is_at_most_the_elements():
    assert small(rank=99).rank == 5
    assert small(prediction="unconstrained").outputs == 2 * 5 * 5
    plane, line = small(**POWERS), small(**POWERS | {"shape": (6,), "points": 5})
    assert (plane.rank, plane.outputs, plane.row_outputs, plane.rows(99)) == (24, 24, 4, 6)
    assert (line.rank, line.sides, line.row_outputs, line.channels) == (30, (1, 6), 5, 6)
