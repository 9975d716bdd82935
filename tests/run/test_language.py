"""What is a language model's own in loopos.train; the whole of it is tested in tests/test_training.py."""

from contextlib import ExitStack

import numpy as np

import loopos
from loopos.run.language import Language
from loopos.training import default_settings

CONFIG = loopos.ModelConfig(8, 4, 1, 1, 8)


def test_data_are_opened_for_the_model_and_the_objective_is_the_next_token():
    kind, settings = Language(), default_settings(max_steps=1, batch_size=2)
    sources, config = kind.open(CONFIG, np.arange(40) % 8, None, None, settings, False)
    assert config is CONFIG
    assert sources.train.batch(0)[0].shape == (2, 4)
    assert kind.length(config) == 4
    model = kind.model(config)
    with ExitStack() as undo:
        kind.prepare(model, config, None, settings, undo)
    assert kind.objective(model, None, settings, sources.train).plain
    kind.reads_with(model, "not one of ours")
    assert model.tokenizer is None
