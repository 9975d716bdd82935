"""loopos bench pictures: every engine from the same weights, and losses that say so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from loopos.bench import pictures, suites, tables
from loopos.bench.picture_settings import SMALL


def test_a_run_of_our_own_engine():
    result = suites.run("pictures", setting=",".join(SMALL), peers="loopos", threads=1, rounds=1, steps=2)
    assert json.loads(json.dumps(result)) == result
    for each, setting in zip(result["settings"], SMALL.values(), strict=True):
        (peer,) = each["peers"]
        outputs = setting.config.outputs
        assert abs(peer["first_loss"] - np.log(outputs)) < 0.3
        assert peer["losses"][0] == peer["first_loss"] != peer["losses"][1]
        assert peer["pictures_per_second"] == pytest.approx(2 / peer["seconds"]["median"])
        assert each["flops"]["total"] == setting.flops().total
        assert each["setting"]["parameters"] == setting.config.num_parameters()
        assert each["loss_difference"] is None
    text = tables.render(result)
    assert "small-captioner: 16 x 16 pixels, patches of 4, layers 2, heads 2, C 16; decoder: V 17, T 8," in text
    assert "small-vit: 16 x 16 pixels, patches of 4, layers 2, heads 2, C 16, classes 5; B 2" in text
    assert "pictures/s" in text


def _peer(name, *losses):
    return {"peer": name, "losses": list(losses)}


@pytest.mark.parametrize(("third", "apart"), [(2.0 - 1e-5, 5e-6), (2.1, None)])
def test_models_that_are_not_the_same_are_not_compared(monkeypatch, third, apart):
    """Of float32; what bfloat16 rounds may differ."""
    peers = [_peer("loopos", 2.0, 1.5), _peer("torch", third, 1.5), _peer("torch-autocast", 2.2, 1.5)]
    began = []

    def compare(setting, entrants, weights, **how):
        with np.load(weights) as file:
            began.append({name: file[name] for name in file.files})
        return {"peers": peers}

    monkeypatch.setattr(pictures, "compare", compare)
    if apart is None:
        with pytest.raises(RuntimeError, match=r"small-vit: losses of the same step differ by 5\.0e-02"):
            suites.run("pictures", setting="small-vit", rounds=1)
        return
    (result,) = suites.run("pictures", setting="small-vit", rounds=1)["settings"]
    assert result["loss_difference"] == pytest.approx(apart)
    model = SMALL["small-vit"].model()
    assert began[0].keys() == model.parameters().keys()
    assert all(np.array_equal(view, began[0][name]) for name, view in model.parameters().items())
