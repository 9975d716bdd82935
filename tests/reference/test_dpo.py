"""DPO beside trl: the same model, adapter and pairs give the losses, rewards and gradients that trl gave.

trl_dpo.json holds what trl measured, and trl_dpo.py is the program that made it, so that no trl is needed here. trl
takes the logarithms of probabilities in float32, of a float64 model too: that is how far the two may differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from trl_dpo import BETA, PAIRS, RATE, UPDATES, Tokens, model, numbers

import loopos
from loopos.data.batches import IGNORE
from loopos.run.objectives import Preferences
from loopos.training import default_settings

TRL = json.loads((Path(__file__).parents[1] / "support/trl_dpo.json").read_text())
FLOAT32 = 5e-6


def batch():
    """All pairs at once. The end-of-text token is learned, what fills a row up is not."""
    code, rows = Tokens().encode, []
    for pair in PAIRS:
        for answer in ("chosen", "rejected"):
            prompt, tokens = code(pair["prompt"]), [*code(pair["prompt"] + pair[answer]), Tokens.eos]
            rows.append((tokens[:-1], [IGNORE] * (len(prompt) - 1) + tokens[len(prompt) :]))
    width = max(len(ids) for ids, _ in rows)
    ids, targets = (np.full((len(rows), width), fill) for fill in (0, IGNORE))
    for row, (one, other) in enumerate(rows):
        ids[row, : len(one)], targets[row, : len(other)] = one, other
    return ids, targets


def test_losses_and_rewards_are_those_of_trl():
    how = dict(optimizer="sgd", learning_rate=RATE, lr_schedule="constant", max_grad_norm=None, max_steps=UPDATES)
    how |= dict(batch_size=len(PAIRS), seq_len=11, log_every=1, progress=False, tokenizer=Tokens(), weight_decay=0.0)
    result = loopos.train(model(), PAIRS, task="dpo", dpo_beta=BETA, **how)
    assert len(result.history) == len(TRL["updates"]) == UPDATES
    assert TRL["updates"][-1]["loss"] < 0.8 * TRL["updates"][0]["loss"]  # it moves
    for entry, theirs in zip(result.history, TRL["updates"], strict=True):
        for name, value in theirs.items():
            assert entry[name] == pytest.approx(value, rel=FLOAT32, abs=FLOAT32), (entry["step"], name)


def test_gradients_are_those_of_trl():
    ours = model()
    objective = Preferences(default_settings(task="dpo", dpo_beta=BETA), ours, None)
    ids, targets = batch()
    scale = 1 / objective.units((ids, targets))
    objective.begin()
    ours._core.accumulate(ids, targets, scale=scale, **objective.keywords(ids, targets, {"scale": scale}))
    gradients, linears = ours._core.gradients(), {each.name: each for each in ours.linears()}
    found = {}
    for name in ours.adapter_parameters():
        place, _, kind = name.rpartition(".")
        linear, gradient = linears[place], gradients[name]
        in_file = gradient if kind == "lora_A" else linear.to_file(gradient)  # whose rows may stand in another order
        found[f"base_model.model.{linear.module}.{kind}.weight"] = in_file
    assert found.keys() == TRL["gradients"].keys()
    for name, gradient in found.items():
        want = np.array(TRL["gradients"][name])
        np.testing.assert_allclose(numbers(gradient), want, rtol=FLOAT32, atol=FLOAT32 * want[0], err_msg=name)
