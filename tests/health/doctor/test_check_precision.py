"""The doctor and the precision of products: what is planted in losses and gradients at one precision is measured there,
and the model's own precision is what it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
from processes import in_process, why_no

import loopos
from loopos import _core, testing
from loopos.health.doctor import check_precision
from loopos.health.doctor.patient import NotApplicable
from loopos.health.doctor.report import FAIL, OK, WARN


def found(patient, model, quick=False):
    return list(check_precision.check_precision(patient(model, quick=quick)))


@pytest.fixture
def tiles(monkeypatch):
    monkeypatch.setattr(_core, "products_info", lambda: {"chosen": "tiles", "why": ""})


def turning(config, *, degrees=None, loss=None, layer="blocks.1.", at=None):
    """A model whose gradients of a layer are turned at a precision, in the plane of a random direction, and whose loss
    is another there. at: called with the precision of every pass."""

    class Turning(loopos.Model):
        def loss_and_grads(self, ids, targets, **options):
            asked, self._core.precision = self._core.precision, "float32"  # nothing but what is planted
            before, grads = super().loss_and_grads(ids, targets, **options)
            self._core.precision = asked
            if at is not None:
                at(asked)
            angle = np.radians((degrees or {}).get(asked, 0.0))
            names = [name for name in grads if name.startswith(layer)]
            flat = np.concatenate([grads[name].ravel() for name in names]).astype(np.float64)
            across = np.random.default_rng(0).standard_normal(len(flat))
            across -= flat * (flat @ across) / (flat @ flat)
            across *= np.linalg.norm(flat) / np.linalg.norm(across)
            turned, start = flat * np.cos(angle) + across * np.sin(angle), 0
            for name in names:
                size = grads[name].size
                if angle:
                    grads[name] = turned[start : start + size].reshape(grads[name].shape)
                start += size
            return before + (loss or {}).get(asked, 0.0), grads

    return Turning(config)


def test_the_turn_of_a_layer_is_measured(config, patient, tiles):
    model = turning(config(), degrees={"bf16x3": 3e-4, "bf16": 0.8}, loss={"bf16x3": 3e-7, "bf16": 2e-4})
    (check,) = found(patient, model)
    assert check.verdict == OK
    assert check.measured == (
        "bf16x3 changes the loss by 3e-07 and no layer's gradient by more than 5e-06 of it: use it; bf16 changes the "
        "loss by 2e-04 and turns the gradient of blocks.1 by 0.8 degrees, no other by more: use it where speed counts, "
        "and compare held-out losses"
    )
    layers = check.figures["bf16"]["layers"]
    assert set(layers) == {"tok_embed", "pos_embed", "blocks.0", "blocks.1", "final_norm"}
    assert layers["blocks.1"]["degrees"] == pytest.approx(0.8, rel=1e-9)
    assert layers["blocks.1"]["cosine"] == pytest.approx(np.cos(np.radians(0.8)), rel=1e-12)
    assert layers["blocks.0"] == {"norm": layers["blocks.0"]["norm"], "relative": 0.0, "cosine": 1.0, "degrees": 0.0}
    assert check.figures["bf16x3"]["layers"]["blocks.1"]["degrees"] == pytest.approx(3e-4, rel=1e-6)
    assert check.figures["bf16"]["loss_change"] == pytest.approx(2e-4, rel=1e-6)
    norms = [check.figures[name]["gradient_norm"] for name in ("float32", "bf16x3", "bf16")]
    _, gradients = model.loss_and_grads(*patient(model).batch)
    whole = np.sqrt(sum(np.sum(np.square(each, dtype=np.float64)) for each in gradients.values()))
    assert norms == pytest.approx([whole] * 3, rel=1e-9)
    json.dumps(check.figures)


@pytest.mark.parametrize(
    ("degrees", "loss", "says"),
    [(23.0, 0.0, "by 23 degrees: leave it"), (0.5, 0.2, "the loss by 2e-01 and turns"), (90.0, 0.0, "by 90 degrees")],
)
def test_a_precision_that_is_not_for_this_model(degrees, loss, says, config, patient, tiles):
    model = turning(config(), degrees={"bf16": degrees}, loss={"bf16": loss})
    (check,) = found(patient, model)
    assert check.verdict == OK  # nobody asked for it
    assert says in check.measured
    assert check.measured.endswith("leave it")
    model.precision = "bf16"
    for quick in (False, True):
        (check,) = found(patient, model, quick)
        assert check.verdict == WARN
        assert check.advice == "train with precision='bf16x3'"
    assert "bf16x3" not in check.measured  # of the quick round


def test_a_precision_that_is_bad_is_not_advised_in_place_of_another(config, patient, tiles):
    model = turning(config(), degrees={"bf16": 30.0, "bf16x3": 10.0})
    model.precision = "bf16"
    assert found(patient, model)[0].advice == "train with precision='float32'"
    model.precision = "bf16x3"
    assert found(patient, model)[0].advice == "train with precision='float32'"


def test_the_precision_is_put_back(config, patient, tiles):
    seen = []
    model = turning(config(), at=seen.append)
    for own in ("float32", "bf16x3", "bf16"):
        model.precision = own
        found(patient, model)
        assert model.precision == own
        assert model._core.precision == own
    assert seen == ["float32", "bf16x3", "bf16"] * 3

    def interrupt(precision):
        if precision == "bf16":
            raise KeyboardInterrupt

    model = turning(config(), at=interrupt)
    model.precision = "bf16x3"
    with pytest.raises(KeyboardInterrupt):
        found(patient, model)
    assert model.precision == model._core.precision == "bf16x3"


def test_a_precision_at_which_the_batch_is_not_finite(config, patient, tiles):
    class Sick(loopos.Model):
        def loss_and_grads(self, ids, targets, **options):
            if self.precision != "bf16":
                return super().loss_and_grads(ids, targets, **options)
            with testing.planted(self, "blocks.1.mlp.y", (0, 2, 3), np.inf):
                return super().loss_and_grads(ids, targets, **options)

    model = Sick(config())
    (check,) = found(patient, model)
    assert check.verdict == OK
    assert "bf16 is not finite where float32 is (" in check.measured
    assert "blocks.1.mlp.y[0, 2, 3]" in check.figures["bf16"]["birth"]
    model.precision = "bf16"
    (check,) = found(patient, model)
    assert (check.verdict, check.advice) == (FAIL, "train with precision='bf16x3'")


def test_what_cannot_be_measured_is_said(config, patient, monkeypatch):
    monkeypatch.setattr(_core, "products_info", lambda: {"chosen": "fma", "why": "this processor has no AMX tiles"})
    with pytest.raises(NotApplicable, match=r"^this processor has no AMX tiles: .* are float32 here, so"):
        found(patient, loopos.Model(config()))
    monkeypatch.setattr(_core, "products_info", lambda: {"chosen": "tiles", "why": ""})
    with pytest.raises(NotApplicable, match="float64 model are float64"):
        found(patient, loopos.Model(config(), dtype="float64"))

    class Other:
        def __init__(self):
            self.model = loopos.Model(config())

        parameters = property(lambda self: self.model.parameters)
        loss = property(lambda self: self.model.loss)
        loss_and_grads = property(lambda self: self.model.loss_and_grads)

    with pytest.raises(NotApplicable, match="not LoopOS's"):
        found(patient, Other())


def test_a_model_without_large_products_gains_nothing(config, patient, tiles):
    (check,) = found(patient, turning(config()))
    assert check.verdict == OK
    assert check.measured.startswith("bf16x3 changes not a bit: no product of this batch is large enough for tiles")


def test_the_quick_round_looks_at_what_the_run_asks_for(config, patient, tiles):
    model = loopos.Model(config())
    assert found(patient, model, quick=True) == []
    model.precision = "bf16"
    assert [check.name for check in found(patient, model, quick=True)] == ["precision"]


def test_an_angle_is_measured_where_a_cosine_is_1():
    one = {"a.weight": np.array([3.0, 0.0, 4.0], np.float32)}
    two = {"a.weight": one["a.weight"] + np.array([0, 5e-9, 0])}
    (turn,) = check_precision.compare(one, two).values()
    assert turn.degrees == pytest.approx(np.degrees(1e-9), rel=1e-6)
    assert turn.relative == pytest.approx(1e-9, rel=1e-6)
    (turn,) = check_precision.compare(one, {"a.weight": -one["a.weight"]}).values()
    assert turn.degrees == pytest.approx(180)
    (turn,) = check_precision.compare(one, {"a.weight": 0 * one["a.weight"]}).values()
    assert (turn.norm, turn.relative, turn.degrees) == (0, 1, 90)
    assert check_precision.compare({"a": np.zeros(3, np.float32)}, {"a": np.ones(3, np.float32)}) == {}


MEASURED = """
import json, sys
import numpy as np
import loopos

offset, quick = float(sys.argv[1]), sys.argv[2] == "quick"
config = loopos.ModelConfig(vocab_size=64, context_length=32, n_layer=2, n_head=2, d_model=64, tie_embeddings=False)
model = loopos.Model(config, seed=1)
model.parameters()["lm_head.weight"][:] += offset  # the same for every token: the loss does not see it
before = {name: view.copy() for name, view in model.parameters().items()}
data = np.random.default_rng(0).zipf(1.5, 4000) % 64
settings = {"precision": "bf16"} if quick else {}
check = loopos.doctor(model, data, batch_size=4, quick=quick, **settings)["precision"]
assert model.precision == model._core.precision == "float32"
assert all(np.array_equal(view, before[name]) for name, view in model.parameters().items())
print(json.dumps({"verdict": check.verdict, "measured": check.measured, "figures": check.figures}))
"""


@pytest.mark.unsanitized("processes of their own")
@pytest.mark.parametrize("products", ["emulated", "tiles"])
def test_what_products_of_pieces_do_change(products):
    """A head whose rows have a large part in common: two pieces keep what tells them apart, one does not."""
    if why := why_no(products):
        pytest.skip(why)
    sound, sick, asked = (
        in_process("-c", MEASURED, *given, LOOPOS_PRODUCTS=products) for given in (("0", ""), ("8", ""), ("8", "quick"))
    )
    three, one = (sound["figures"][name]["layers"].values() for name in ("bf16x3", "bf16"))
    assert all(1e-7 < turn["relative"] < 1e-4 for turn in three)
    assert all(1e-3 < turn["relative"] < 0.05 and 0.05 < turn["degrees"] < 3 for turn in one)
    assert (sound["verdict"], sick["verdict"], asked["verdict"]) == ("ok", "ok", "warn")
    assert sound["measured"].count("use it") == 2
    assert max(turn["degrees"] for turn in sick["figures"]["bf16"]["layers"].values()) > 10
    assert max(turn["degrees"] for turn in sick["figures"]["bf16x3"]["layers"].values()) < 1
    assert sick["measured"].endswith("leave it" + (" (tiles emulated)" if products == "emulated" else ""))
    assert list(asked["figures"]) == ["float32", "bf16"]
