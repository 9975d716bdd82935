"""The coordinate check over widths: silent where the run's width and rate go together, a warning where they do not."""

import numpy as np
import pytest

import loopos
from loopos.health.doctor.check_width import WIDTHS, at_width

IDS = np.random.default_rng(0).integers(0, 64, 4000)
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "n_kv_head": 1}


def check(model, **settings):
    report = loopos.doctor(model, IDS, **settings)
    return next(check for check in report.checks if check.name == "width")


def config(width, **more):
    return loopos.ModelConfig(64, 16, 1, 2, width, **more)


@pytest.mark.parametrize("family", [{}, LLAMA, {"activation": "relu", "tie_embeddings": False, "dropout": 0.1}])
@pytest.mark.parametrize(("width", "rate"), [(32, 1e-3), (128, 1e-3), (256, 6e-4), (64, 3e-3)])
def test_healthy_runs_pass(family, width, rate):
    found = check(config(width, **family), learning_rate=rate)
    assert found.verdict == "ok", found
    assert "32, 64, 128" in found.measured
    assert f"at {width}" in found.measured


@pytest.mark.parametrize("family", [{}, LLAMA])
def test_a_rate_that_only_a_narrow_model_bears(family):
    narrow, wide = (check(config(width, **family), learning_rate=1e-2) for width in (16, 256))
    assert narrow.verdict == "ok", narrow
    assert wide.verdict == "warn", wide
    assert "1 / width" in wide.advice


def test_growth_that_is_not_with_the_width_is_left_to_other_checks():
    assert check(config(128), learning_rate=1.0, optimizer="sgd").verdict == "ok"


class Hot(loopos.Model):
    """Output matrices whose scale does not fall with the width."""

    def __init__(self, config, *, seed=0, dtype="float32"):
        super().__init__(config, seed=seed, dtype=dtype)
        for name, view in self.parameters().items():
            if name.endswith(("o_proj.weight", "down_proj.weight", "up_proj.weight")):
                view *= 50 * (config.d_model / 32)


@pytest.mark.parametrize("rate", [0.0, 1e-4])
def test_an_initialisation_that_grows_with_the_width(rate):
    found = check(Hot(config(128)), learning_rate=rate)
    assert found.verdict == "warn", found
    assert "before any update" in found.measured
    assert "1 / sqrt(inputs)" in found.advice


def test_the_quick_round_and_models_without_a_config_go_without():
    report = loopos.doctor(config(32), IDS, quick=True)
    assert "width" not in [check.name for check in report.checks]

    class Bare:
        def __init__(self):
            self.model = loopos.Model(config(32))

        def parameters(self):
            return self.model.parameters()

        def loss(self, ids, targets):
            return self.model.loss(ids, targets)

        def loss_and_grads(self, ids, targets):
            return self.model.loss_and_grads(ids, targets)

    assert check(Bare(), seq_len=16).verdict == "skipped"


def test_the_model_itself_is_not_touched():
    model = loopos.Model(config(32))
    before = {name: array.tobytes() for name, array in model.state_dict().items()}
    check(model)
    assert {name: array.tobytes() for name, array in model.state_dict().items()} == before


def test_the_extrapolation():
    sizes = [2.0 * (width / 32) ** 0.5 for width in WIDTHS]
    assert at_width(sizes, 512) == pytest.approx((8.0, 0.5))
    assert at_width(sizes, 8) == pytest.approx((1.0, 0.5))
    assert at_width(sizes, 64)[0] == pytest.approx(sizes[1])
    assert at_width([1.0, np.inf, 2.0], 64) == (np.inf, np.inf)
