"""The rotary positions of config.json, to and from fields of ModelConfig: ``rope_parameters`` of transformers 5, and
``rope_scaling`` with ``rope_theta`` beside it of transformers 4."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from loopos.checks import shown
from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.rope import TYPES, RopeScaling

from .reader import Settings, number

_TYPE = ("rope_type", "type")  # the second of older files
_PARTIAL = "partial_rotary_factor"
_SCALING = frozenset(field.name for field in fields(RopeScaling)) - {"rope_type"}


class Rope(NamedTuple):
    """What one object says; None: nothing of it. partial: the part of a head that is turned."""

    theta: float | None
    partial: float | None
    scaling: RopeScaling | None


def parse(settings: Settings, key: str, values: Mapping[str, Any], types: Collection[str] = TYPES) -> Rope:
    """An object such as rope_parameters; ``key`` is its place, for messages. types: what may be beside "default"."""
    given = [name for name in _TYPE if name in values]
    for name in given:  # first: the other settings belong to the type
        if values[name] != "default" and values[name] not in types:
            known = " or ".join(map(repr, ("default", *types)))
            raise settings.unsupported(f"{key}.{name}", values[name], f"it must be {known}")
    if len({values[name] for name in given}) > 1:
        raise settings.unsupported(f"{key}.type", values["type"], f"it contradicts rope_type = {values['rope_type']!r}")
    kind = values[given[0]] if given else "default"
    theta = partial = None
    scaling = {}
    for name, value in values.items():
        if name == "rope_theta":
            theta = number(settings.path, f"{key}.{name}", value, "greater than 0", lambda x: 0 < x < math.inf)
        elif name in _TYPE or value is None:
            continue
        elif name == _PARTIAL:
            partial = number(settings.path, f"{key}.{name}", value, "greater than 0, at most 1", lambda x: 0 < x <= 1)
        elif kind == "default" or name not in _SCALING:
            raise settings.unsupported(f"{key}.{name}", value, f"the {kind} type has no such setting")
        else:
            scaling[name] = value
    if kind == "default":
        return Rope(theta, partial, None)
    try:
        return Rope(theta, partial, RopeScaling(rope_type=kind, **scaling))
    except (TypeError, ValueError) as error:
        raise CheckpointError(settings.path, f"{key}: {error}") from None


def rotary(
    settings: Settings,
    sizes: Mapping[str, Any],
    *,
    theta: float = 10000.0,
    theta_key: str = "rope_theta",
    partial: tuple[str, float] | None = None,
    types: Collection[str] = TYPES,
) -> dict[str, Any]:
    """rope_theta, rope_scaling and rotary_dim of a ModelConfig whose other sizes are ``sizes``.

    theta: the family's default; theta_key: its name at the top level. partial: for families that turn a part of a head,
    the name at the top level of that part and its default. What the object says comes before the top level.
    """
    outer = settings.positive(theta_key, theta)
    old, new = settings.table("rope_scaling"), settings.table("rope_parameters")
    # Both are looked at, so that a fault in one is named before a contradiction.
    found = [parse(settings, "rope_parameters", new, types), parse(settings, "rope_scaling", old, types)]
    if old and new and _plain(old, outer) != _plain(new, outer):
        raise settings.unsupported("rope_scaling", old, f"it contradicts rope_parameters = {shown(new)}")
    rope = found[0] if new else found[1]
    part = rope.partial
    if partial is not None:
        share = settings.take(partial[0], partial[1])
        share = number(settings.path, partial[0], share, "greater than 0, at most 1", lambda x: 0 < x <= 1)
        part = share if part is None else part
    elif part not in (None, 1.0):
        raise settings.unsupported(f"{'rope_parameters' if new else 'rope_scaling'}.{_PARTIAL}", part, "it must be 1")
    return {
        "rope_theta": outer if rope.theta is None else rope.theta,
        "rope_scaling": rope.scaling,
        "rotary_dim": _rotary_dim(settings, sizes, 1.0 if part is None else part),
    }


def _plain(values: Mapping[str, Any], theta: float) -> dict[str, Any]:
    """In one spelling, to be compared."""
    kind = next((values[name] for name in _TYPE if name in values), "default")
    rest = {name: value for name, value in values.items() if value is not None and name not in _TYPE}
    return {"rope_theta": theta} | rest | {"rope_type": kind}


def _rotary_dim(settings: Settings, sizes: Mapping[str, Any], part: float) -> int:
    width = sizes.get("head_dim") or sizes["d_model"] // sizes["n_head"]
    turned = int(width * part)
    if part < 1 and (turned < 2 or turned % 2):
        what = f"it turns {turned} of the {width} numbers of a head, which must be an even number of at least 2"
        raise settings.unsupported(_PARTIAL, part, what)
    return turned if part < 1 else 0


def rotary_json(c: ModelConfig, *, theta_key: str = "rope_theta") -> dict[str, Any]:
    """The settings of :func:`rotary`, for old and new readers."""
    scaling = c.rope_scaling.to_dict() if c.rope_scaling is not None else {"rope_type": "default"}
    partial = {_PARTIAL: c.rotary_width / c.head_width} if c.rotary_width != c.head_width else {}
    new = {"rope_parameters": scaling | {"rope_theta": c.rope_theta} | partial, theta_key: c.rope_theta}
    return new | ({"rope_scaling": scaling | partial} if c.rope_scaling is not None else {})
