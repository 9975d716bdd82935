"""What trl makes of the pairs of test_dpo.py, as JSON:

    python tests/support/trl_dpo.py > tests/support/trl_dpo.json

Needs trl (1.16.0 made the file), peft, transformers and torch. The loss, the rewards
and their gradients are those of trl.DPOTrainer.compute_loss, in float64; the updates are plain gradient descent, which
says what the gradients were."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from hf_sizes import SMALL

import loopos
from loopos import LoRA, hf
from loopos.hf.settings import config_from_json

PAIRS = [{"prompt": f"q{i}:", "chosen": f"yes{'!' * i}", "rejected": "no" if i % 2 else "no, no"} for i in range(6)]
BETA, RATE, UPDATES = 0.3, 0.5, 5
WORDS = {"reward_chosen": "rewards/chosen", "reward_rejected": "rewards/rejected", "reward_margin": "rewards/margins"}
WORDS["reward_accuracy"] = "rewards/accuracies"
SPEC = LoRA(2, 3, targets=("q_proj", "v_proj", "down_proj"))


class Tokens:
    """A token for a byte, and an end of text."""

    vocab_size, eos = 23, 22

    def encode(self, text):
        return [byte % 22 for byte in text.encode()]

    def decode(self, ids):
        return " ".join(map(str, ids))


def model() -> loopos.Model:
    """Every number drawn here, so that what a new model begins with may change."""
    rng, settings = np.random.default_rng(7), SMALL["llama"]
    made = loopos.Model(config_from_json("config.json", settings), dtype="float64")
    made.accompany(hf.Source(settings))
    for _, view in sorted(made.parameters().items()):
        view[...] = 0.3 * rng.standard_normal(view.shape) + (view.ndim == 1)
    made.add_adapter(SPEC)
    for _, view in sorted(made.adapter_parameters().items()):
        view[...] = 0.3 * rng.standard_normal(view.shape)
    return made


def numbers(array) -> list[float]:
    """What tells a matrix from another in two numbers: its length, and a sum in which each place has its weight."""
    flat = np.asarray(array, np.float64).ravel()
    return [float(np.linalg.norm(flat)), float(flat @ np.cos(np.arange(len(flat))))]


def main() -> None:
    import datasets
    import peft
    import pyarrow
    import tokenizers
    import torch
    import transformers
    import trl
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    datasets.disable_caching()
    one = pyarrow.table({"prompt": ["1"], "chosen": ["2"], "rejected": ["3"]})  # it must have a data set; unused
    torch.set_default_dtype(torch.float64)
    with tempfile.TemporaryDirectory() as name:
        folder, ours = Path(name), model()
        ours.save_adapter(folder / "adapter")
        ours.remove_adapter()
        ours.save_pretrained(folder / "base")
        base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float64)
        words = tokenizers.models.WordLevel({str(i): i for i in range(23)}, unk_token="0")
        words = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer(words), eos_token="22", pad_token="21", unk_token="0"
        )
        trainer = trl.DPOTrainer(
            peft.PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True, autocast_adapter_dtype=False),
            args=trl.DPOConfig(
                folder / "run", beta=BETA, use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False
            ),
            train_dataset=datasets.Dataset(one, fingerprint="one"),
            processing_class=words,
        )
        for key in [key for key in trainer.model.peft_config if key == "ref"]:
            trainer.model.delete_adapter(key)  # the reference is the base, not the adapter as it was
    code = Tokens().encode
    pairs = [
        {"prompt_ids": code(each["prompt"])} | {f"{x}_ids": [*code(each[x]), 22] for x in ("chosen", "rejected")}
        for each in PAIRS
    ]
    batch = DataCollatorForPreference(pad_token_id=21)(pairs)
    trainer.model.train()
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    told = {"trl": trl.__version__, "updates": [], "gradients": {}}
    for number in range(UPDATES):
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        norm = sum(float(p.grad.square().sum()) for p in trained.values()) ** 0.5
        measured = {ours: trainer._metrics["train"][theirs][-1] for ours, theirs in WORDS.items()}
        told["updates"].append({"loss": loss.item(), "grad_norm": norm, **measured})
        for key, p in trained.items():
            if not number:
                told["gradients"][key.replace(".default", "")] = numbers(p.grad)
            p.data -= RATE * p.grad
            p.grad = None
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
