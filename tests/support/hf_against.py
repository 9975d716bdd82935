"""A family of Hugging Face models against transformers: logits, loss, every gradient, greedy text, folders both ways.

A test class of a family derives from :class:`Against` and names its classes; importing this module without
torch and transformers skips the module that does.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hf_reading import read_pretrained

import loopos
from loopos.hf.settings import config_from_json

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip("transformers", reason="compares with transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

IDS, TARGETS = np.random.default_rng(5).integers(0, 23, (2, 2, 12))
TARGETS[0, 3:5] = -100


@contextmanager
def wide():
    """transformers takes norms, angles and softmax in float32, in a model of float64 too; in here it has no float32."""
    patch = pytest.MonkeyPatch()
    with patch.context() as m:
        m.setattr(torch, "float", torch.float64)
        m.setattr(torch, "float32", torch.float64)
        m.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            m.undo()
            torch.set_default_dtype(torch.float32)


@contextmanager
def computing(dtype):
    if dtype == "float64":
        with wide():
            yield
    else:
        yield


def distance(got, expected) -> float:
    """Between arrays, over the norm of the second."""
    assert got.shape == expected.shape
    norm = np.linalg.norm(expected)
    assert norm > 0
    return float(np.linalg.norm(got - expected) / norm)


class Against:
    """config, model: names of transformers' classes. Settings by name: CASES of the module."""

    config: str
    model: str

    def pytest_generate_tests(self, metafunc):
        if "case" in metafunc.fixturenames:
            cases = metafunc.module.CASES
            metafunc.parametrize("case", list(cases.values()), ids=list(cases))

    def theirs(self, case, dtype="float32", **more):
        """A model made at random, far enough from its initialization that every tensor matters."""
        torch.manual_seed(3)
        config = getattr(transformers, self.config)(**{**case, **more})
        model = getattr(transformers, self.model)(config)
        with torch.no_grad():
            for p in model.parameters():
                p += 0.2 * torch.randn_like(p)
        return model.to(getattr(torch, dtype)).eval()

    @pytest.mark.reference
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_logits_loss_and_gradients(self, case, dtype, tmp_path):
        with computing(dtype):
            theirs = self.theirs(case, dtype)
            theirs.save_pretrained(tmp_path / "theirs")
            logits = theirs(torch.from_numpy(IDS)).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(TARGETS).flatten())
            loss.backward()
        ours = loopos.Model.from_pretrained(tmp_path / "theirs")
        assert ours.dtype == dtype
        expected, got = logits.detach().numpy(), ours.forward(IDS)
        gate = 1e-10 if dtype == "float64" else 5e-6
        assert np.abs(got - expected).max() <= gate * np.abs(expected).max()
        assert ours.loss(IDS, TARGETS) == pytest.approx(loss.item(), rel=gate)
        with torch.no_grad():
            for p in theirs.parameters():
                p.copy_(p.grad)
        theirs.save_pretrained(tmp_path / "gradients")  # the same names and order as the weights
        expected = read_pretrained(tmp_path / "gradients").arrays
        _, got = ours.loss_and_grads(IDS, TARGETS)
        assert list(got) == list(expected) == list(ours.parameters())
        far = {name: d for name in got if (d := distance(got[name], expected[name])) > max(gate, 1e-5 * (gate > 1e-9))}
        assert far == {}

    @pytest.mark.reference
    def test_greedy_text(self, case, tmp_path):
        theirs = self.theirs(case)
        theirs.save_pretrained(tmp_path)
        prompt = torch.from_numpy(IDS[:, :3])
        options = dict(max_new_tokens=9, do_sample=False, attention_mask=torch.ones_like(prompt), pad_token_id=0)
        expected = theirs.generate(prompt, **options).numpy()
        ours = loopos.Model.from_pretrained(tmp_path)
        np.testing.assert_array_equal(ours.generate(IDS[:, :3], 9, temperature=0), expected)

    @pytest.mark.reference
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_saved_model_opens_there_with_the_same_bits(self, case, dtype, tmp_path):
        theirs = self.theirs(case, dtype, eos_token_id=[0, 1], bos_token_id=3)
        theirs.generation_config = transformers.GenerationConfig(eos_token_id=[0, 5], temperature=0.5, do_sample=True)
        theirs.save_pretrained(tmp_path / "theirs")
        (tmp_path / "theirs" / "chat_template.jinja").write_text("{{ messages }}")
        (tmp_path / "theirs" / "tokenizer.json").write_text('{"model":  1}')
        ours = loopos.Model.from_pretrained(tmp_path / "theirs")
        ours.save_pretrained(tmp_path / "ours")
        for name in ("chat_template.jinja", "tokenizer.json", "generation_config.json"):
            assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
        self.same(theirs, tmp_path / "ours")
        settings = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("theirs", "ours")]
        assert {key: settings[1].get(key) for key in settings[0]} == settings[0]
        again = loopos.Model.from_pretrained(tmp_path / "ours")
        assert (again.config, again.dtype) == (ours.config, dtype)

    @pytest.mark.reference
    def test_a_config_alone_is_written_as_this_family(self, case, tmp_path):
        """Without the folder that it came from."""
        theirs = self.theirs(case)
        theirs.save_pretrained(tmp_path / "theirs")
        config, arrays, source = read_pretrained(tmp_path / "theirs")
        from loopos.hf import write_pretrained
        from loopos.hf.source import Source

        write_pretrained(tmp_path / "ours", config, arrays, Source({"model_type": source.settings["model_type"]}))
        self.same(theirs, tmp_path / "ours")

    def same(self, theirs, folder: Path) -> None:
        """transformers opens the folder with nothing missing or unexpected, and it is ``theirs`` bit for bit."""
        opened, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(report.values()), report
        assert type(opened) is type(theirs)
        before, after = theirs.state_dict(), opened.state_dict()
        assert list(before) == list(after)
        assert all(before[name].equal(after[name]) for name in before)
        with torch.no_grad():
            logits = [model(torch.from_numpy(IDS)).logits.numpy() for model in (theirs, opened.eval())]
        assert np.abs(logits[0] - logits[1]).max() <= 2e-6 * np.abs(logits[0]).max()  # two names of one activation

    @pytest.mark.reference
    def test_every_default_is_theirs(self, case, tmp_path):
        """What transformers leaves out of a config.json with no default in it means the same to both."""
        config = getattr(transformers, self.config)(**case)
        config.save_pretrained(tmp_path)
        expected = config_from_json("config.json", json.loads((tmp_path / "config.json").read_text()))
        assert config_from_json("config.json", case | {"model_type": config.model_type}) == expected


class RotaryAgainst(Against):
    """Of families with rotary positions, whose settings transformers 4 wrote in another way."""

    @pytest.mark.reference
    def test_the_settings_of_older_files(self, case, tmp_path):
        """Both read the same."""
        config = getattr(transformers, self.config)(**case)
        config.save_pretrained(tmp_path)
        settings = json.loads((tmp_path / "config.json").read_text())
        expected = config_from_json("config.json", settings)
        older = self.older(settings)
        assert config_from_json("config.json", older) == expected
        (tmp_path / "config.json").write_text(json.dumps(older))
        opened = transformers.AutoConfig.from_pretrained(tmp_path)
        opened.rope_parameters.pop("type", None)  # the older name of rope_type
        assert opened.rope_parameters == config.rope_parameters

    def older(self, settings: dict) -> dict:
        older = dict(settings)
        rope = dict(older.pop("rope_parameters"))
        older["rope_theta"] = rope.pop("rope_theta")
        older["rope_scaling"] = None
        if rope["rope_type"] != "default":
            older["rope_scaling"] = {"type": rope["rope_type"], **rope}
        older["torch_dtype"] = older.pop("dtype", None)
        return older
