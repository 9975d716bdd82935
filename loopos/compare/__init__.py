"""Optimizers compared on one task: same start, same batches, each with a rate of its own, several seeds.

``Comparison(task, optimizers, output_dir).run()`` does it; ``loopos compare`` is its command. A task is anything with
the methods of ``loopos.compare.task.Task``; ``TextTask`` is that of loopos.train."""

from .runner import Comparison
from .summary import Summary
from .text import TextTask

__all__ = ["Comparison", "Summary", "TextTask"]
