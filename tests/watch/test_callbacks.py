"""Trainers of others, watched by a callback."""

from __future__ import annotations

import warnings

import pytest

import loopos
from loopos.health.runs import read_run

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::PendingDeprecationWarning"),
]
torch = pytest.importorskip("torch")


class Exploding(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return (self.inner(x) * 1e5).exp()


def trainer_of(tmp_path, bad, **options):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs it")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=64, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    if bad:
        model.transformer.h[1].mlp = Exploding(model.transformer.h[1].mlp)
    rows = [torch.randint(0, 64, (8,)) for _ in range(16)]
    settings = {"max_steps": 4, "per_device_train_batch_size": 2, "report_to": [], "save_strategy": "no"}
    arguments = transformers.TrainingArguments(
        str(tmp_path / "out"), use_cpu=True, disable_tqdm=True, **settings | options
    )
    watching = loopos.watch.callback(output_dir=tmp_path / "run")
    rows = [{"input_ids": row, "labels": row} for row in rows]
    return transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[watching]), watching


@pytest.mark.parametrize("options", [{}, {"bf16": True}, {"gradient_accumulation_steps": 2}])
def test_a_healthy_trainer(tmp_path, options):
    trainer, watching = trainer_of(tmp_path, False, **options)
    trainer.train()
    assert (watching.watch.steps, watching.watch.births) == (4, [])
    assert [record["step"] for record in read_run(tmp_path / "run").records] == [1, 4]


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"label_smoothing_factor": 0.1}])
def test_a_trainer_that_explodes(tmp_path, options):
    trainer, _ = trainer_of(tmp_path, True, **options)
    with pytest.raises(loopos.NonFiniteError) as error:
        trainer.train()
    birth = error.value.birth
    assert (birth.op, birth.module, birth.cause_class) == ("aten.exp", "transformer.h.1.mlp", "exp overflow")
    assert birth.source.startswith(__file__)
    assert error.value.bundle.exists()


@pytest.fixture
def lightning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lightning.pytorch")


def fitted(lightning, tmp_path, bad, policy="halt", **options):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3))

        def training_step(self, batch, number):
            x, targets = batch
            out = self.net(x)
            if bad and self.global_step == 2 and number == 2:
                out = (out * 1e4).exp()
            loss = torch.nn.functional.cross_entropy(out, targets)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    torch.manual_seed(0)
    rows = torch.utils.data.TensorDataset(torch.randn(32, 4), torch.randint(0, 3, (32,)))
    watching = loopos.watch.callback(output_dir=tmp_path, policy=policy)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_steps=6, accelerator="cpu", callbacks=[watching], enable_model_summary=False, **quiet, **options
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(rows, 4))
    return watching.watch


@pytest.mark.parametrize("options", [{}, {"precision": "bf16-mixed"}, {"gradient_clip_val": 0.5}])
def test_healthy_lightning(lightning, tmp_path, options):
    watch = fitted(lightning, tmp_path, False, **options)
    assert (watch.steps, watch.births) == (6, [])
    assert watch.loss > 0


def test_lightning_that_explodes(lightning, tmp_path):
    with pytest.raises(loopos.NonFiniteError) as error:
        fitted(lightning, tmp_path, True)
    birth = error.value.birth
    assert (birth.step, birth.op) == (3, "aten.exp")
    assert birth.source.startswith(__file__)


def test_lightning_that_skips(lightning, tmp_path):
    watch = fitted(lightning, tmp_path, True, policy="skip")
    assert (watch.steps, watch.skipped) == (6, 1)


def test_accelerate_needs_no_callback():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    x = torch.randn(2, 4)
    with loopos.watch(model, optimizer) as watch:
        for step in range(8):
            batch = x * float("nan") if step == 5 else x
            with accelerator.accumulate(model):
                accelerator.backward(model(batch).square().sum())
                if step == 5:
                    with pytest.raises(loopos.NonFiniteError) as error:
                        optimizer.step()
                    break
                optimizer.step()
                optimizer.zero_grad()
    assert (watch.steps, error.value.birth.micro_batch, error.value.birth.op) == (3, 1, "input")
