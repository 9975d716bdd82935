"""The tasks that optimizers can be compared on, by their kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .captions import CaptionTask
from .task import Task
from .text import TextTask

TASKS: dict[str, Any] = {each.kind: each for each in (TextTask, CaptionTask)}


def saved(task: Task) -> dict[str, Any]:
    """As a file has it: a tuple is a list there."""
    return json.loads(json.dumps({"kind": task.kind} | task.to_dict()))


def opened(found: Mapping[str, Any]) -> Task:
    """The task that :func:`saved` told of."""
    return TASKS[found["kind"]].from_dict({name: value for name, value in found.items() if name != "kind"})
