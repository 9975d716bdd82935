"""Scales of the input that tests sweep over. Sanitizers look at places in memory and at single numbers: the smallest
and the largest scale show them what all ten do. pytest --sanitized sets the variable, also
for processes that tests start.
"""

from __future__ import annotations

import os

SANITIZED = "SANITIZED_TESTS" in os.environ
POWERS = (0, 9) if SANITIZED else tuple(range(10))  # of two
