"""What a Hugging Face folder holds besides the numbers: kept with a model, and written where it is saved again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.text import Tokenizer
from loopos.text.folder import FILE, FORMS, KEPT, MAX_BYTES, NAMES, TEMPLATES, found

from .known import QUANTIZATION

CONFIG, GENERATION = "config.json", "generation_config.json"
OF_TOKENIZERS = (*NAMES, *FORMS)
COMPANIONS = (GENERATION, *OF_TOKENIZERS)
SPECIAL = ("bos", "eos", "pad")

# In config.json these are ours to say: what is saved is of our dtype and not quantized.
OURS = ("dtype", "torch_dtype", "architectures", *QUANTIZATION)
ROTARY = ("rope_theta", "rope_parameters", "rope_scaling")


@dataclass(frozen=True)
class Source:
    """settings: config.json, of which the model's ModelConfig was made; companions: the other files by their path in
    the folder, byte for byte; folder: where they were read, for messages."""

    settings: Mapping[str, Any]
    companions: Mapping[str, bytes] = field(repr=False, default_factory=dict)
    folder: Path = field(default=Path(), compare=False)

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any]) -> Source:
        """That of ``folder``. A companion that cannot be read does not keep the model from loading: RuntimeWarning."""
        companions = {}
        for name in found(folder, COMPANIONS):
            try:
                companions[name] = durable.read_bytes(folder / name, MAX_BYTES).tobytes()
            except (OSError, CheckpointError) as error:
                text = f"from_pretrained: {name} is left out when this model is saved again: {error}"
                warnings.warn(text, RuntimeWarning, stacklevel=4)
        return cls(json.loads(json.dumps(settings)), companions, Path(folder))

    def keep(self, run: Path) -> None:
        """Keep it in the folder of a run, so that a model that is loaded from there has it. OSError when that fails."""
        durable.make_folder(run / KEPT / TEMPLATES)
        for name, content in self.companions.items():
            durable.write_bytes(run / KEPT / name, content)
        durable.write_json(run / KEPT / CONFIG, dict(self.settings))  # last: without it nothing is kept

    @classmethod
    def kept(cls, run: Path) -> Source | None:
        """What :meth:`keep` left in the folder of a run; None where there is nothing whole."""
        path = run / KEPT / CONFIG
        if not path.is_file():
            return None
        settings = durable.load_json(path)
        if not isinstance(settings, dict):
            raise CheckpointError(path, "expected a JSON object")
        return cls.of(path.parent, settings)

    @staticmethod
    def forget(run: Path) -> None:
        """Remove what another run kept in the same folder."""
        if (run / KEPT).exists():
            durable.remove(run / KEPT)

    def tokenizer(self) -> Tokenizer | None:
        """Of the tokenizer.json among the companions; None when there is none. Errors: as Tokenizer.from_files."""
        if FILE not in self.companions:
            return None
        return Tokenizer.from_files(self.companions, self.folder.absolute() / FILE)

    def with_tokenizer(self, tokenizer: Any) -> Source:
        """That of a model which reads with ``tokenizer`` from now on: its files in the place of those of another, and
        its special ids. One that is no loopos.Tokenizer has no files."""
        own = isinstance(tokenizer, Tokenizer)
        if not own and not any(map(_of_tokenizer, self.companions)):
            return self
        special = {f"{name}_token_id": getattr(tokenizer, name) if own else None for name in SPECIAL}
        made = self.with_files_of(tokenizer)
        made = Source(dict(self.settings) | special, made.companions, self.folder)
        return made.with_generation(**special) if GENERATION in made.companions else made

    def with_files_of(self, tokenizer: Any) -> Source:
        """With the files of ``tokenizer`` alone in the place of those of another; the special ids stay."""
        kept = {name: data for name, data in self.companions.items() if not _of_tokenizer(name)}
        files = tokenizer.files() if isinstance(tokenizer, Tokenizer) else {}
        return Source(self.settings, kept | files, self.folder)

    def generation(self) -> dict[str, Any]:
        """generation_config.json, or what config.json says of its keys. Malformed: CheckpointError."""
        if GENERATION not in self.companions:
            return generation_config(self.settings)
        said = durable.parse_json(self.companions[GENERATION], self.folder / GENERATION)
        if not isinstance(said, dict):
            raise CheckpointError(self.folder / GENERATION, "expected a JSON object")
        return said

    def with_generation(self, **changed: Any) -> Source:
        """With other settings in generation_config.json."""
        content = durable.dump_json(self.generation() | changed, indent=2) + b"\n"
        return Source(self.settings, {**self.companions, GENERATION: content}, self.folder)

    def config(self, ours: Mapping[str, Any], same: bool) -> dict[str, Any]:
        """config.json of the saved model: as the source has it, and ``ours`` for what it does not say. same: the model
        is the one that the source describes; of another one, rotary positions are ours to say."""
        kept = [key for key in self.settings if key not in OURS and (same or key not in ROTARY)]
        settings = dict(ours) | {key: self.settings[key] for key in kept}
        return settings | ({"torch_dtype": ours["dtype"]} if "torch_dtype" in self.settings else {})


def _of_tokenizer(name: str) -> bool:
    return name in OF_TOKENIZERS or name.startswith(f"{TEMPLATES}/")


def generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """generation_config.json of a folder that has none, of its config.json: the ids of the special tokens."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"_from_model_config": True, **{name: config.get(name) for name in names}}
