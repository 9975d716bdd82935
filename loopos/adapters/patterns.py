"""Ranks and alphas that differ between the modules of one adapter: PEFT's rank_pattern and alpha_pattern.

In peft a key is a regular expression for the end of a module's dotted name. Here it is a name, as of ``targets``; no
expression is run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from loopos import checks
from loopos.hf.linears import Linear

from .targets import named

NAMES = "rank_pattern", "alpha_pattern"
Number = TypeVar("Number", int, float)
_PLAIN = re.compile(r"\^?\w+(\.\w+)*", re.ASCII)


def checked(where: str, name: str, given: Any, number: Callable[[str, str, Any], Number]) -> dict[str, Number]:
    """{name of modules: number}, in the order given. number: checks one. TypeError, ValueError."""
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise TypeError(f"{where}: {name} must be a dict such as {{'q_proj': 4}}, got {checks.shown(given)}")
    found = {}
    for key, value in given.items():
        plain = key.replace("\\.", ".")
        if not _PLAIN.fullmatch(plain):
            raise ValueError(
                f"{where}: {name} has the key {checks.shown(key)}, and expressions are not run: a key must be the end "
                "of a module's dotted name, such as 'q_proj' or '0.self_attn.q_proj', or with ^ in front all of it"
            )
        found[plain] = number(where, f"{name}[{key!r}]", value)
    return found


def lookup(pattern: Mapping[str, Number], module: str, otherwise: Number) -> Number:
    """Of the first key that names ``module``, as in peft."""
    return next((value for key, value in pattern.items() if names(key, module)), otherwise)


def below(front: str, given: Any) -> Any:
    """What a file has of a pattern, with ``front`` put before each name that is all of a module's; no pattern for
    None."""
    if not isinstance(given, Mapping):
        return {} if given is None else given
    return {f"^{front}{key[1:]}" if str(key).startswith("^") else key: value for key, value in given.items()}


def names(key: str, module: str) -> bool:
    """Whether ``key`` means the module."""
    return module == key[1:] if key.startswith("^") else named(module, key)


def used(pattern: Mapping[str, Number], chosen: Sequence[Linear]) -> dict[str, Number]:
    """Without the keys that name none of ``chosen``."""
    modules = [each.module for each in chosen]
    return {key: value for key, value in pattern.items() if any(names(key, module) for module in modules)}


def refuse_idle(where: str, patterns: Mapping[str, Mapping[str, Any]], chosen: Sequence[Linear]) -> None:
    """ValueError for a key of ``patterns``, by their names, that names no module that the adapter stands on."""
    for name, pattern in patterns.items():
        if idle := [key for key in pattern if key not in used(pattern, chosen)]:
            raise ValueError(
                f"{where}: {name} has {', '.join(idle)}, and the adapter stands on no module of that name; it stands "
                f"on {len(chosen)} such as {chosen[0].module}"
            )
