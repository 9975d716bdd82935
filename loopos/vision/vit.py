"""Folders of transformers' ViT: config.json, preprocessor_config.json and model.safetensors, in and out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loopos.errors import CheckpointError
from loopos.files import durable
from loopos.files.tensorfile import parse_safetensors, stream_safetensors
from loopos.hf.folder import replace_together
from loopos.hf.reader import Settings

from .config import VisionConfig

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
_MOST = 1 << 24
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_LEFT = (
    "architectures",
    "id2label",
    "label2id",
    "num_labels",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "initializer_range",
    "encoder_stride",
    "pooler_act",
    "pooler_output_size",
    "problem_type",
    "attention_probs_dropout_prob",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
    "_name_or_path",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
)  # no effect on what is computed here


def read(folder: str | os.PathLike[str]) -> tuple[VisionConfig, dict[str, np.ndarray], Path]:
    """(configuration, arrays by LoopOS name, path of the weights)."""
    folder = Path(folder)
    path = folder / CONFIG
    values = durable.load_json(path, _MOST)
    if not isinstance(values, Mapping) or values.get("model_type") != "vit":
        got = values.get("model_type") if isinstance(values, Mapping) else values
        raise ValueError(f"from_pretrained: {path}: model_type must be 'vit', got {got!r}")
    weights = folder / WEIGHTS
    tensors, _ = parse_safetensors(durable.read_bytes(weights), weights)
    given = {name.removeprefix("vit."): np.asarray(tensor.array) for name, tensor in tensors.items()}
    given = {name: array for name, array in given.items() if not name.startswith("pooler.")}
    classes = len(given["classifier.bias"]) if "classifier.bias" in given else 0
    config = _config(path, values, classes, *_normalisation(folder / PROCESSOR, values.get("num_channels", 3)))
    return config, _ours(config, given, weights), weights


def _config(path: Path, values: Mapping[str, Any], classes: int, mean: Any, std: Any) -> VisionConfig:
    settings = Settings(path, dict(values))
    settings.take("model_type")
    fields = {
        "image_size": settings.take("image_size", 224),
        "patch_size": settings.take("patch_size", 16),
        "channels": settings.take("num_channels", 3),
        "n_layer": settings.take("num_hidden_layers", 12),
        "n_head": settings.take("num_attention_heads", 12),
        "d_model": settings.take("hidden_size", 768),
        "d_ff": settings.take("intermediate_size", 3072),
        "activation": settings.choice("hidden_act", "gelu", _ACTIVATIONS),
        "norm_eps": settings.positive("layer_norm_eps", 1e-12),
        "dropout": settings.probability("hidden_dropout_prob", 0.0),
    }
    if settings.take("qkv_bias", True) is not True:
        raise settings.unsupported("qkv_bias", False, "projections of q, k and v have biases here")
    settings.finish({}, frozenset(_LEFT))
    if isinstance(fields["image_size"], list):
        fields["image_size"] = tuple(fields["image_size"])
    try:
        return VisionConfig(**fields, class_token=True, num_classes=classes, image_mean=mean, image_std=std)
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, str(error)) from error


def _normalisation(path: Path, channels: int) -> tuple[Any, Any]:
    """Mean and standard deviation of the pixels; ViT's own, 0.5, where the folder does not say."""
    if not path.exists():
        return None, None
    values = durable.load_json(path, _MOST)
    if not values.get("do_normalize", True):
        return (0.0,) * channels, (1.0,) * channels
    mean, std = values.get("image_mean"), values.get("image_std")
    return (None if mean is None else tuple(mean)), (None if std is None else tuple(std))


def _blocks(config: VisionConfig) -> Iterator[tuple[str, str]]:
    """(a LoopOS name, the name there) of what is named alike in each block."""
    for i in range(config.n_layer):
        for ours, theirs in (
            ("attn_norm", "layernorm_before"),
            ("attn.o_proj", "attention.output.dense"),
            ("mlp_norm", "layernorm_after"),
            ("mlp.up_proj", "intermediate.dense"),
            ("mlp.down_proj", "output.dense"),
        ):
            for kind in ("weight", "bias"):
                yield f"blocks.{i}.{ours}.{kind}", f"encoder.layer.{i}.{theirs}.{kind}"


_QKV = "encoder.layer.{}.attention.attention.{}.{}"
_PARTS = ("query", "key", "value")
_CONVOLUTION = "embeddings.patch_embeddings.projection"


def _ours(config: VisionConfig, given: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    left = dict(given)

    def take(name: str) -> np.ndarray:
        if name not in left:
            raise CheckpointError(path, f"the tensor {name} is missing")
        return left.pop(name)

    kernel = take(f"{_CONVOLUTION}.weight")  # (C, channels, p, p): here the pixels of a row have their channels last
    arrays = {
        "patch.weight": np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)).reshape(len(kernel), -1),
        "patch.bias": take(f"{_CONVOLUTION}.bias"),
        "class_token": take("embeddings.cls_token").reshape(-1),
        "pos_embed.weight": take("embeddings.position_embeddings")[0],
        "final_norm.weight": take("layernorm.weight"),
        "final_norm.bias": take("layernorm.bias"),
    }
    for kind in ("weight", "bias"):
        for i in range(config.n_layer):
            parts = [take(_QKV.format(i, part, kind)) for part in _PARTS]
            arrays[f"blocks.{i}.attn.qkv_proj.{kind}"] = np.concatenate(parts)
        if config.num_classes:
            arrays[f"classifier.{kind}"] = take(f"classifier.{kind}")
    arrays |= {ours: take(theirs) for ours, theirs in _blocks(config)}
    if left:
        raise CheckpointError(path, f"unexpected tensors {sorted(left)[:20]}")
    return arrays


def _theirs(config: VisionConfig, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = "vit." if config.num_classes else ""
    p, width = config.patch_size, config.d_model
    kernel = arrays["patch.weight"].reshape(width, p, p, config.channels).transpose(0, 3, 1, 2)
    named = {
        f"{_CONVOLUTION}.weight": np.ascontiguousarray(kernel),
        f"{_CONVOLUTION}.bias": arrays["patch.bias"],
        "embeddings.cls_token": arrays["class_token"].reshape(1, 1, width),
        "embeddings.position_embeddings": arrays["pos_embed.weight"][None],
        "layernorm.weight": arrays["final_norm.weight"],
        "layernorm.bias": arrays["final_norm.bias"],
        **{theirs: arrays[ours] for ours, theirs in _blocks(config)},
    }
    for kind in ("weight", "bias"):
        for i in range(config.n_layer):
            parts = np.split(arrays[f"blocks.{i}.attn.qkv_proj.{kind}"], 3)
            named |= {_QKV.format(i, part, kind): array for part, array in zip(_PARTS, parts, strict=True)}
    result = {prefix + name: array for name, array in named.items()}
    return result | {name: array for name, array in arrays.items() if name.startswith("classifier.")}


def write(folder: str | os.PathLike[str], config: VisionConfig, arrays: Mapping[str, np.ndarray]) -> None:
    """Each file is replaced whole or not at all."""
    activation = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}.get(config.activation)
    wrong = {
        "class_token": config.class_token,
        "norm": config.norm == "layernorm",
        "bias": config.bias,
        "pool": config.pool == "class",
        "activation": activation is not None,
    }
    for field, fits in wrong.items():
        if not fits:
            raise ValueError(f"save_pretrained: a ViT of transformers has no {field}={getattr(config, field)!r}")
    dtype = str(next(iter(arrays.values())).dtype)
    settings = {
        "architectures": ["ViTForImageClassification" if config.num_classes else "ViTModel"],
        "model_type": "vit",
        "image_size": config.height if config.height == config.width else list(config.image_size),
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "hidden_act": activation,
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "qkv_bias": True,
        "dtype": dtype,
    }
    if config.num_classes:
        names = {str(i): f"LABEL_{i}" for i in range(config.num_classes)}
        settings |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": config.height, "width": config.width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.image_mean),
        "image_std": list(config.image_std),
    }
    tensors = {name: (array.shape, array) for name, array in _theirs(config, arrays).items()}
    durable.make_folder(folder)
    contents = {
        CONFIG: durable.dump_json(settings, indent=2) + b"\n",
        PROCESSOR: durable.dump_json(processor, indent=2) + b"\n",
        WEIGHTS: stream_safetensors(tensors, {"format": "pt"}),
    }
    replace_together(Path(folder), contents)
