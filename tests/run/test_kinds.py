"""Every kind of model that loopos.train takes is found by itself and by its configuration."""

import pytest

import loopos
from loopos.covariance import CovarianceConfig, CovarianceNetwork
from loopos.run.kinds import kind_named, kind_of, kinds, objective_again
from loopos.run.objectives import ANOTHER
from loopos.run.pictures import Captions
from loopos.training import default_settings
from loopos.vision import Captioner, CaptionerConfig, ImageEncoder, VisionConfig


def test_a_model_and_its_configuration_are_of_one_kind():
    language = loopos.ModelConfig(8, 4, 1, 1, 8)
    vision = VisionConfig(8, 4, 1, 1, 8, num_classes=2)
    configs = {
        loopos.Model: language,
        Captioner: CaptionerConfig(VisionConfig(8, 4, 1, 1, 8), language),
        ImageEncoder: vision,
        CovarianceNetwork: CovarianceConfig(4, d_model=8),
    }
    assert {kind.model for kind in kinds()} == set(configs)
    for model, config in configs.items():
        assert kind_of(config) is kind_of(model(config))
        assert kind_of(config).model is model
        assert kind_named(type(config).__name__) is kind_of(config)
    assert kind_named(None) is kind_of(language)
    with pytest.raises(ValueError, match="config_type"):
        kind_named("dict")


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="model must be a Model or a ModelConfig, or of"):
        kind_of("gpt")


def test_what_a_run_minimised_again():
    model = Captioner(CaptionerConfig(VisionConfig(8, 4, 1, 1, 8), loopos.ModelConfig(8, 4, 1, 1, 8)))
    assert isinstance(objective_again(model, default_settings()), Captions)
    with pytest.raises(ValueError, match="another Model"):
        objective_again(loopos.Model(loopos.ModelConfig(8, 4, 1, 1, 8)), default_settings(teacher=ANOTHER))
