"""A model that gives NaN has no score."""

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.scoring.finite import losses
from loopos.scoring.likelihood import Request, log_likelihoods
from loopos.scoring.perplexity import window_losses

IDS = np.arange(8)[None]


@pytest.fixture
def broken():
    model = loopos.Model(loopos.ModelConfig(256, 16, 2, 2, 16))
    model.parameters()["blocks.1.mlp.down_proj.weight"][3, 5] = np.nan
    return model


def test_the_weight_is_named(broken):
    for score in (
        lambda: losses(broken, IDS, IDS),
        lambda: window_losses(broken, [(IDS, IDS)]),
        lambda: log_likelihoods(broken, [Request(np.arange(5), 2)]),
    ):
        with pytest.raises(loopos.NonFiniteError, match="the model has no score") as caught:
            score()
        birth = caught.value.birth
        assert (birth.layer, birth.tensor, birth.index) == (1, "blocks.1.mlp.down_proj.weight", (3, 5))


def test_eval_does_not_print_a_number(broken, tmp_path, capsys):
    import safetensors.numpy as files

    text = tmp_path / "a.txt"
    text.write_text("to be or not to be " * 9)
    whole = loopos.Model(broken.config)
    whole.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    arrays = files.load_file(path)
    next(array for name, array in arrays.items() if name.endswith("mlp.c_proj.weight"))[0, 0] = np.nan
    files.save_file(arrays, path, metadata={"format": "pt"})
    assert main(["eval", str(tmp_path / "model"), str(text)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "the model has no score" in err
    assert "mlp.down_proj.weight[0, 0] = NaN" in err
