"""Where in the user's program an operation is called: the module, and the line of source.

While a step is repeated, hooks keep the path of the modules that are being called. Of the backward pass, whose
operations PyTorch calls by itself, both come from the forward operation whose node of the graph is at work: nodes are
numbered in the order of their making, and the number is known in both passes.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import NamedTuple

import torch

from .wrappers import path_of

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Place(NamedTuple):
    """module: path in the model, "" outside it; source: "file:line"; forward: of a backward operation, the name of the
    node that it belongs to, as "LogBackward0"."""

    module: str
    source: str
    forward: str = ""


_NOWHERE = Place("", "")


class Places:
    """While it is entered, ``now`` says where the operation is that is being called."""

    def __init__(self, model: torch.nn.Module):
        self._model, self._stack = model, ExitStack()
        self._path: list[str] = []
        self._by_node: dict[int, Place] = {}
        self._newest = -1  # number of the node that was made last

    def __enter__(self) -> Places:
        for name, module in self._model.named_modules():
            name = path_of(name) or type(module).__name__
            enter = module.register_forward_pre_hook(lambda _, __, name=name: self._path.append(name), prepend=True)
            leave = module.register_forward_hook(lambda *_: self._leave(), always_call=True)
            self._stack.callback(enter.remove)
            self._stack.callback(leave.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _leave(self) -> None:
        if self._path:
            self._path.pop()

    def now(self) -> Place:
        """Of the operation that is being called. It is to be asked of every operation of a forward pass: the backward
        pass knows nothing of those that were left out."""
        node, newest = torch._C._current_autograd_node(), torch.autograd._get_sequence_nr() - 1
        made = _NOWHERE if node is None else self._by_node.get(node._sequence_nr(), _NOWHERE)
        if node is not None and not self._path and newest == self._newest:
            return Place(made.module, made.source or source_line(), type(node).__name__)
        # A forward pass: in the backward pass too, where a checkpoint computes it again and makes new nodes.
        place = Place(self._path[-1] if self._path else made.module, source_line())
        known = self._by_node.setdefault(newest, place)  # what follows without a node of its own is another operation
        if not torch.is_grad_enabled() and len(place.module) < len(known.module):
            self._by_node[newest] = known._replace(module=place.module)  # within a checkpoint: that of the whole
        self._newest = newest
        return place


def source_line() -> str:
    """The innermost line that is not PyTorch's own and not ours, as "file:line"."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        inner = name.startswith((_TORCH, _OURS, "<frozen")) or frame.f_code.co_name == "__torch_dispatch__"
        if not inner:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
