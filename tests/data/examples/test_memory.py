"""A file larger than the memory that may be used: it is turned into tokens, packed and gone through within a bound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("measure_memory.py")
EXAMPLES, LENGTH = 24_000, 4_000  # 96 MB of text, 384 MB of tokens
BOUND = 36 << 20  # bytes; HELD pages of the cache (8 MB there), one group of texts and one piece of tokens


@pytest.mark.unsanitized("Python alone, and the sanitizers' allocator keeps what is freed")
def test_memory_is_bounded(tmp_path):
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for number in range(EXAMPLES):
            file.write(json.dumps({"prompt": f"{number} ", "completion": chr(97 + number % 26) * LENGTH}) + "\n")
    cache = path.with_name("large.jsonl.loopos")
    for _ in ("made", "out of the cache"):
        run = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, check=True)
        found = json.loads(run.stdout)
        assert found["examples"] == EXAMPLES
        assert found["valid"] == EXAMPLES * LENGTH
        assert found["seen"] > 0.99 * found["valid"]
        assert found["grown"] < BOUND
    assert path.stat().st_size > 2.5 * BOUND
    assert sum(each.stat().st_size for each in cache.glob("*/*")) > 10 * BOUND
