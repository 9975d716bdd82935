"""What tests sweep over: scales of the input, numbers of threads. Sanitizers look at places in memory and at single
numbers: the ends of a sweep show them what all of it does. pytest --sanitized sets the variable, for processes that
tests start too."""

from __future__ import annotations

import os

SANITIZED = "SANITIZED_TESTS" in os.environ
POWERS = (0, 9) if SANITIZED else tuple(range(10))  # of two
THREADS = (3, 8) if SANITIZED else (2, 3, 5, 8)  # beside one
DIRECTIONS = 1 if SANITIZED else 2  # of central differences, for each tensor
