"""loopos.gradcheck of whole models: a stand-in written in numpy, then the real one."""

import numpy as np
import pytest

import loopos
from loopos.gradients.gradcheck import GradcheckError, check_model, gradcheck

IDS, TARGETS = np.random.default_rng(7).integers(0, 5, (2, 2, 6))


def scaled_element(dw):
    dw = dw.copy()
    dw[np.unravel_index(np.argsort(np.abs(dw).reshape(-1))[dw.size // 2], dw.shape)] *= 1.001
    return dw


class Stub:
    """Model's interface over a two-layer net, so that the directional check is tested without the extension."""

    def __init__(self, config=None, *, seed=0, dtype="float32"):
        draw = np.random.default_rng(seed)
        self.config, self.dtype = config, dtype
        shapes = {"embed.weight": (5, 3), "head.weight": (3, 5), "head.bias": (5,)}
        self.p = {k: draw.normal(0, 0.5, s).astype(dtype) for k, s in shapes.items()}
        self.spoil = lambda grads: grads

    def parameters(self):
        return {k: v[...] for k, v in self.p.items()}

    def state_dict(self):
        return {k: v.copy() for k, v in self.p.items()}

    def load_state_dict(self, d):
        for k, v in d.items():
            assert v.dtype == self.p[k].dtype
            self.p[k][...] = v

    def _run(self, ids, targets):
        x = self.p["embed.weight"][ids]
        h = np.tanh(x)
        z = h @ self.p["head.weight"] + self.p["head.bias"]
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return h, e / e.sum(axis=-1, keepdims=True)

    def loss(self, ids, targets):
        _, p = self._run(ids, targets)
        return float(-np.log(np.take_along_axis(p, targets[..., None], -1)).mean())

    def loss_and_grads(self, ids, targets):
        h, p = self._run(ids, targets)
        dz = p.copy()
        np.put_along_axis(dz, targets[..., None], np.take_along_axis(dz, targets[..., None], -1) - 1, -1)
        dz /= targets.size
        dembed = np.zeros_like(self.p["embed.weight"])
        np.add.at(dembed, ids, (1 - h**2) * (dz @ self.p["head.weight"].T))
        dweight = np.einsum("btc,btv->cv", h, dz)
        grads = {"embed.weight": dembed, "head.weight": dweight, "head.bias": dz.sum(axis=(0, 1))}
        return self.loss(ids, targets), self.spoil(grads)


def test_a_model_passes_and_keeps_its_weights():
    model = Stub(dtype="float64")
    before = {k: v.tobytes() for k, v in model.p.items()}
    report = gradcheck(model, (IDS, TARGETS))
    assert report.max_error < 1e-8
    assert report.rtol == 1e-7
    assert [r.name for r in report.results] == ["all parameters", "embed.weight", "head.weight", "head.bias"]
    assert {k: v.tobytes() for k, v in model.p.items()} == before


def test_a_float32_model_is_checked_as_a_float64_copy():
    model = Stub(dtype="float32")
    report = gradcheck(model, (IDS, TARGETS))
    assert report
    assert "float64 copy" in str(report)


@pytest.mark.parametrize(
    "spoil", [lambda g: g * 1.001, np.zeros_like, np.negative, lambda g: g * np.nan, scaled_element, lambda g: g[::-1]]
)
@pytest.mark.parametrize("name", ["embed.weight", "head.weight", "head.bias"])
def test_a_model_with_one_wrong_gradient_is_caught(name, spoil):
    model = Stub(dtype="float64")
    model.spoil = lambda grads: grads | {name: spoil(grads[name])}
    before = {k: v.tobytes() for k, v in model.p.items()}
    with pytest.raises(GradcheckError) as caught:
        gradcheck(model, (IDS, TARGETS))
    failed = {r.name for r in caught.value.report.results if not r.passed}
    assert failed == {"all parameters", name}
    assert {k: v.tobytes() for k, v in model.p.items()} == before


def test_a_model_is_restored_when_its_loss_fails():
    model = Stub(dtype="float64")
    before = {k: v.tobytes() for k, v in model.p.items()}
    real = model.loss

    def failing(ids, targets):
        if model.p["embed.weight"].tobytes() != before["embed.weight"]:
            raise RuntimeError("boom")
        return real(ids, targets)

    model.loss = failing
    with pytest.raises(RuntimeError, match="boom"):
        gradcheck(model, (IDS, TARGETS))
    assert {k: v.tobytes() for k, v in model.p.items()} == before
    with pytest.raises(ValueError, match="ids, targets"):
        gradcheck(model, IDS)


def test_the_command_checks_both_families():
    report = check_model()
    assert report, str(report)
    assert {"GPT-2: pos_embed.weight", "Llama: lm_head.weight"} <= {r.name for r in report.results}
    assert report.max_error < 1e-7


def test_a_real_model_with_a_planted_error_is_caught(monkeypatch):
    real = loopos.Model.loss_and_grads

    def planted(self, ids, targets):
        loss, grads = real(self, ids, targets)
        grads["blocks.1.attn.qkv_proj.weight"] *= 1.001
        return loss, grads

    monkeypatch.setattr(loopos.Model, "loss_and_grads", planted)
    failed = {r.name for r in check_model().results if not r.passed}
    each = ("all parameters", "blocks.1.attn.qkv_proj.weight")
    assert failed == {f"{family}: {name}" for family in ("GPT-2", "Llama") for name in each}


@pytest.mark.unsanitized("a wide model by thousands of losses; test_model has every option's step")
def test_the_kinks_of_relu_do_not_hide_the_slope():
    """65,000 units: noise in all weights takes some over their kink at every step that rounding allows (3.7e-7)."""
    config = loopos.ModelConfig(31, 64, 2, 4, 32, d_ff=512, activation="relu")
    model = loopos.Model(config, dtype="float64")
    ids, targets = np.random.default_rng(0).integers(0, 31, (2, 1, 64))
    assert gradcheck(model, (ids, targets), directions=1, rtol=2e-7)
    real = model.loss_and_grads

    def planted(ids, targets):
        loss, grads = real(ids, targets)
        grads["blocks.0.mlp.up_proj.weight"] *= 1.0001
        return loss, grads

    model.loss_and_grads = planted
    report = gradcheck(model, (ids, targets), directions=1, rtol=2e-7, raise_exception=False)
    assert [r.name for r in report.results if not r.passed] == ["all parameters", "blocks.0.mlp.up_proj.weight"]
    assert "the gradient is wrong" in str(report)


def test_a_real_model_keeps_its_weights_and_a_nan_is_reported():
    model = loopos.Model(loopos.ModelConfig(5, 6, 1, 1, 4))
    before = {name: p.tobytes() for name, p in model.parameters().items()}
    report = gradcheck(model, (IDS, TARGETS))
    assert "float64 copy" in str(report)
    assert {name: p.tobytes() for name, p in model.parameters().items()} == before
    model.parameters()["blocks.0.mlp.up_proj.weight"][1, 2] = np.nan
    with pytest.raises(GradcheckError, match=r"blocks\.0\.mlp\.up_proj\.weight"):
        gradcheck(model, (IDS, TARGETS))
