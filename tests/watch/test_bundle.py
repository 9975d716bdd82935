"""A bundle holds a step: weights of before it, inputs, random state, versions, birth; no code."""

from __future__ import annotations

import pytest

import loopos
from loopos.errors import CheckpointError
from loopos.run.bundle import is_watched, read_birth, read_bundle

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.bundle import read  # noqa: E402


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """(the error, the weights before the step, its batch, its mean before)."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    model[0].bfloat16().float()
    optimizer = torch.optim.AdamW(model.parameters())
    folder = tmp_path_factory.mktemp("run")
    batches = [torch.randn(3, 4) for _ in range(3)]
    with loopos.watch(model, optimizer, output_dir=folder) as watch:
        for batch in batches[:2]:
            watch.step(lambda batch=batch: model(batch).square().sum())
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(loopos.NonFiniteError) as error:
            watch.step(lambda: (model(batches[-1]) * 1e30).square().sum())
    return error.value, before, batches[-1]


def test_it_holds_the_step_as_it_began(broken):
    error, before, batch = broken
    bundle = read(error.bundle)
    assert {name for name in bundle.arrays if name.startswith("weights.")} == {f"weights.{name}" for name in before}
    for name, tensor in before.items():
        assert torch.equal(torch.from_numpy(bundle.arrays[f"weights.{name}"].copy()), tensor), name
    (call,) = bundle.about["calls"]
    name = call["args"]["tuple"][0]["tensor"]
    assert torch.equal(torch.from_numpy(bundle.arrays[name].copy()), batch)
    assert bundle.birth == error.birth
    assert bundle.about["build"]["torch"] == torch.__version__
    assert bundle.about["operation"]["name"] == error.birth.op


def test_our_own_readers_know_it(broken):
    error, _, _ = broken
    assert is_watched(error.bundle)
    assert is_watched(error.bundle.parents[1])
    step, birth, run = read_birth(error.bundle)
    assert (step, birth, run) == (3, error.birth, None)
    with pytest.raises(CheckpointError, match="watched program"):
        read_bundle(error.bundle)
    assert str(error.bundle) in str(error)


def test_changed_bytes_are_seen(broken, tmp_path):
    data = bytearray(broken[0].bundle.read_bytes())
    data[-1] ^= 1
    changed = tmp_path / "step-00000003.safetensors"
    changed.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        read(changed)


def test_a_folder_that_cannot_be_written_hides_nothing(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with loopos.watch(model, optimizer, output_dir=tmp_path) as watch:
        (tmp_path / "bundles").write_text("in the way")
        with pytest.raises(loopos.NonFiniteError, match="No bundle") as error:
            watch.step(lambda: (model(torch.ones(1, 2)) * 0).log().sum())
    assert error.value.bundle is None
    assert error.value.birth.op == "aten.log"
