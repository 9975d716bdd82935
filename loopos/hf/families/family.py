"""What a family of Hugging Face models is: how its config.json and its tensors are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loopos.config import ModelConfig
from loopos.hf.known import HARMLESS, NEUTRAL
from loopos.hf.reader import Settings
from loopos.hf.slots import Names


@dataclass(frozen=True)
class Family:
    """model_type, architecture: as config.json has them. title: as people write it.

    activations: names there, ours; the first is the default, and of two names of one of ours the first is written.
    activation_key: the setting that names it.
    read: settings to fields of ModelConfig, but for the activation. write: back; what it writes of a config that is not
    of this family reads back as another one, by which that is known (see ``settings.py``).
    names: of the tensors. prefix: of all their names but the head's, absent in a model that was saved without a head.
    embedding, head: the names of the two matrices that may be tied. aliases: other names of tensors, read as these.
    buffers: tensors that hold constants, passed over.
    harmless, neutral: keys of config.json, as in ``known.py``.
    """

    model_type: str
    title: str
    architecture: str
    activations: Mapping[str, str]
    read: Callable[[Settings], dict[str, Any]]
    write: Callable[[ModelConfig], dict[str, Any]]
    names: Names
    prefix: str
    buffers: re.Pattern[str]
    harmless: frozenset[str] = HARMLESS
    neutral: Mapping[str, tuple] = field(default_factory=lambda: NEUTRAL)
    activation_key: str = "hidden_act"
    head: str = "lm_head.weight"
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def embedding(self) -> str:
        return f"{self.names.modules['tok_embed'][0]}.weight"

    def fields(self, settings: Settings) -> dict[str, Any]:
        """The fields of the ModelConfig; every key is accounted for."""
        activation = settings.choice(self.activation_key, next(iter(self.activations)), self.activations)
        fields = self.read(settings) | {"activation": activation}
        settings.finish(self.neutral, self.harmless)
        return fields

    def settings(self, config: ModelConfig) -> dict[str, Any]:
        """The settings of :meth:`fields`."""
        return self.write(config) | {self.activation_key: self.activation(config)}

    def activation(self, config: ModelConfig) -> str:
        """The name there of the activation; of one that the family does not have, the first that it has."""
        written = {ours: theirs for theirs, ours in reversed(list(self.activations.items()))}
        return written.get(config.activation, next(iter(self.activations)))
