"""The shape of an encoder of pictures, and of a captioner: frozen dataclasses, every field checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from loopos import checks
from loopos.choices import ACTIVATIONS, NORMS, ActivationName
from loopos.config import ModelConfig

FUSIONS = ("prefix", "cross")
POOLS = ("class", "mean")

_Config = TypeVar("_Config")


@dataclass(frozen=True)
class VisionConfig:
    """An encoder of pictures as that of ViT (Dosovitskiy et al., 2021): patches, blocks in which every row sees all of
    its picture, a final norm.

    image_size      pixels of a side, or (height, width); multiples of patch_size
    patch_size      pixels of a patch's side
    channels        numbers of a pixel
    n_layer         blocks
    n_head          attention heads; must divide d_model
    d_model         C, width of the rows
    d_ff            hidden width of the feed-forward. None: 4 d_model
    norm, activation, bias, dropout, norm_eps: as of a :class:`loopos.ModelConfig`
    class_token     a learned row stands before those of the patches
    num_classes     of a classifier; 0: none
    pool            what a classifier looks at: the "class" token's row, or the "mean" of the patches' rows. None: the
                    class token where there is one
    image_mean, image_std   of each channel, by which pixels from 0 to 1 are normalised: (pixel - mean) / std
    """

    image_size: int | tuple[int, int] = 64
    patch_size: int = 8
    n_layer: int = 4
    n_head: int = 4
    d_model: int = 128
    d_ff: int | None = None
    channels: int = 3
    class_token: bool = False
    num_classes: int = 0
    pool: Literal["class", "mean"] | None = None
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    activation: ActivationName = "gelu"
    bias: bool = True
    dropout: float = 0.0
    norm_eps: float = 1e-6
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        where = "VisionConfig"
        sides = self.image_size if isinstance(self.image_size, tuple | list) else (self.image_size, self.image_size)
        if len(sides) != 2:
            raise ValueError(f"{where}: image_size must be a number or (height, width), got {self.image_size!r}")
        patch = self._set("patch_size", checks.count(where, "patch_size", self.patch_size))
        sides = self._set("image_size", tuple(checks.count(where, "image_size", side) for side in sides))
        if any(side % patch for side in sides):
            raise ValueError(f"{where}: image_size must be multiples of patch_size {patch}, got {sides}")
        self._set("channels", checks.count(where, "channels", self.channels))
        self._set("class_token", checks.boolean(where, "class_token", self.class_token))
        classes = self._set("num_classes", checks.integer(where, "num_classes", self.num_classes, low=0))
        if classes == 1:
            raise ValueError(f"{where}: num_classes must be 0 (no classifier), or 2 and more, got 1")
        default = "class" if self.class_token else "mean"
        pool = self._set("pool", checks.choice(where, "pool", default if self.pool is None else self.pool, POOLS))
        if pool == "class" and not self.class_token:
            raise ValueError(f"{where}: pool='class' needs class_token=True")
        checks.choice(where, "norm", self.norm, NORMS)
        checks.choice(where, "activation", self.activation, tuple(ACTIVATIONS))
        for name, standard in (("image_mean", 0.5), ("image_std", 0.5)):
            self._set(name, self._of_channels(name, getattr(self, name), standard))
        if min(self.image_std) <= 0:
            raise ValueError(f"{where}: image_std must be above 0, got {self.image_std}")
        self._set("d_ff", self.blocks().d_ff)  # which checks the rest

    def _set(self, name: str, value: Any) -> Any:
        object.__setattr__(self, name, value)
        return value

    def _of_channels(self, name: str, values: Any, standard: float) -> tuple[float, ...]:
        if values is None:
            return (standard,) * self.channels
        if not isinstance(values, tuple | list) or len(values) != self.channels:
            raise ValueError(f"VisionConfig: {name} must be {self.channels} numbers, one a channel, got {values!r}")
        return tuple(checks.real("VisionConfig", name, value) for value in values)

    @property
    def height(self) -> int:
        return self.image_size[0]

    @property
    def width(self) -> int:
        return self.image_size[1]

    @property
    def rows(self) -> int:
        """P, rows of a picture: its patches, and the class token."""
        return (self.height // self.patch_size) * (self.width // self.patch_size) + self.class_token

    @property
    def outputs(self) -> int:
        """Of a classifier: its classes."""
        return self.num_classes

    def blocks(self) -> ModelConfig:
        """What its blocks have of a language model's; neither vocabulary nor context is theirs."""
        return ModelConfig(
            vocab_size=1,
            context_length=self.rows,
            n_layer=self.n_layer,
            n_head=self.n_head,
            d_model=self.d_model,
            d_ff=self.d_ff,
            norm=self.norm,
            activation=self.activation,
            bias=self.bias,
            dropout=self.dropout,
            norm_eps=self.norm_eps,
        )

    def num_parameters(self) -> int:
        blocks = self.blocks()
        outside = blocks.num_parameters() - self.d_model * (1 + self.rows)  # without the tables of tokens and positions
        patches = self.d_model * (self.patch_size**2 * self.channels + self.bias)
        return outside + patches + self.d_model * (self.rows + self.class_token) + self.num_classes * (self.d_model + 1)

    def to_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VisionConfig:
        """The config that :meth:`to_dict` wrote. Unknown names: ValueError listing them."""
        return cls(**_known(cls, values))

    @classmethod
    def vit_ti16(cls, **changes: Any) -> VisionConfig:
        """ViT-Ti/16 (Touvron et al., "DeiT", 2021): 224 x 224 pixels, 5.5 million parameters, 1,000 classes."""
        return replace(
            cls(224, 16, 12, 3, 192, class_token=True, num_classes=1000, norm_eps=1e-12),
            **changes,
        )


@dataclass(frozen=True)
class CaptionerConfig:
    """An encoder of pictures and a decoder of text.

    encoder   of the pictures, without classes
    decoder   a language model, whose ``context_length`` counts tokens alone
    fusion    "prefix": the encoder's rows, projected to the decoder's width, stand before the tokens. They see each
              other, every token sees all of them, and tokens see those before them; head and loss are of the tokens
              alone. Positions of tokens begin at 0 (a learned table), or behind the rows (rope).
              "cross": in every block of the decoder, between self-attention and feed-forward, tokens attend to the
              encoder's rows (Vaswani et al., 2017). One projection of the encoder gives keys and values of all blocks
    """

    encoder: VisionConfig
    decoder: ModelConfig
    fusion: Literal["prefix", "cross"] = "prefix"

    def __post_init__(self) -> None:
        where = "CaptionerConfig"
        if not isinstance(self.encoder, VisionConfig):
            raise TypeError(f"{where}: encoder must be a VisionConfig, got {checks.shown(self.encoder)}")
        if not isinstance(self.decoder, ModelConfig):
            raise TypeError(f"{where}: decoder must be a ModelConfig, got {checks.shown(self.decoder)}")
        checks.choice(where, "fusion", self.fusion, FUSIONS)
        if self.encoder.num_classes:
            raise ValueError(f"{where}: encoder must have num_classes 0, got {self.encoder.num_classes}")
        if self.decoder.labels:
            raise ValueError(f"{where}: decoder must be a language model, got one with labels {self.decoder.labels}")
        if self.decoder.sliding_window:
            raise ValueError(
                f"{where}: decoder must have sliding_window 0, as pictures are seen from every token, got "
                f"{self.decoder.sliding_window}"
            )
        if self.fusion == "cross" and self.decoder.parallel_residual:
            raise ValueError(f"{where}: fusion 'cross' needs a decoder with parallel_residual False, got True")

    @property
    def vocab_size(self) -> int:
        return self.decoder.vocab_size

    @property
    def outputs(self) -> int:
        """Logits of a token."""
        return self.decoder.outputs

    @property
    def context_length(self) -> int:
        return self.decoder.context_length

    @property
    def projected(self) -> int:
        """Width of what the encoder gives the decoder of a row."""
        d = self.decoder
        return d.d_model if self.fusion == "prefix" else d.n_layer * 2 * d.n_kv_head * d.head_width

    def num_parameters(self) -> int:
        halves = self.encoder.num_parameters() + self.decoder.num_parameters()
        halves += self.projected * (self.encoder.d_model + self.encoder.bias)
        return halves + (self.decoder.num_parameters_of_cross_attention() if self.fusion == "cross" else 0)

    def to_dict(self) -> dict[str, Any]:
        return {"encoder": self.encoder.to_dict(), "decoder": self.decoder.to_dict(), "fusion": self.fusion}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CaptionerConfig:
        """The config that :meth:`to_dict` wrote, or tables [encoder] and [decoder] and a ``fusion``."""
        known = _known(cls, values)
        for name, kind in (("encoder", VisionConfig), ("decoder", ModelConfig)):
            if name not in known:
                raise ValueError(f"CaptionerConfig.from_dict: {name} is missing")
            if isinstance(known[name], Mapping):
                known[name] = kind.from_dict(known[name])
        return cls(**known)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> CaptionerConfig:
        """A file of tables [encoder] and [decoder], and at the top level ``fusion``. ValueError naming the file and
        what is wrong with it."""
        try:
            import tomllib
        except ModuleNotFoundError:  # Python 3.10
            import tomli as tomllib
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8-sig")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    @classmethod
    def tiny(cls, vocab_size: int, context_length: int = 32, **changes: Any) -> CaptionerConfig:
        """For two cores in minutes: 64 x 64 pixels in 64 patches, width 128, 3 blocks each; about 1.3 million
        parameters."""
        decoder = ModelConfig(vocab_size, context_length, 3, 4, 128, activation="gelu")
        return replace(cls(VisionConfig(64, 8, 3, 4, 128), decoder), **changes)

    @classmethod
    def nano_8gb(cls, vocab_size: int = 10_000, context_length: int = 40, **changes: Any) -> CaptionerConfig:
        """That of case 0, which says of it that it is small and trains in 8 GB: 224 x 224 pixels in 196 patches, width
        320, 6 blocks each; about 18 million parameters with a vocabulary of 10,000 words, and captions of up to 40
        tokens."""
        decoder = ModelConfig(vocab_size, context_length, 6, 5, 320, activation="gelu")
        return replace(cls(VisionConfig(224, 16, 6, 5, 320), decoder), **changes)


def _known(cls: Any, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"{cls.__name__}.from_dict: values must be a dict, got {checks.shown(values)}")
    known = {f.name for f in fields(cls)}
    required = {f.name for f in fields(cls) if f.default is MISSING}
    if unknown := sorted(map(str, set(values) - known)):
        raise ValueError(f"{cls.__name__}.from_dict: unknown {unknown}; its fields are {sorted(known | required)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
