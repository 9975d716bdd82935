"""Peak memory of reading a large file of examples: tokens made and kept, packed, and a whole epoch of batches.

Run by test_memory.py in a process of its own: python measure_memory.py FILE. It prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from loopos.data.examples import store
from loopos.data.examples.audit import of_examples
from loopos.data.examples.data import find
from loopos.data.examples.rows import ExampleRows, Examples
from loopos.data.tokenizer import ByteTokenizer


def peak() -> int:
    """Of this program alone: ru_maxrss has that of the process which started it, too."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main(path: str) -> None:
    store.HELD = 8 << 20
    before = peak()
    tokenizer = ByteTokenizer()
    examples = Examples(find(path).stores(tokenizer), seq_len=4096)
    audit = of_examples(examples, tokenizer)
    rows = ExampleRows(examples, packed=True, batch_size=4)
    total = sum(int((rows.batch(step)[1] != -100).sum()) for step in range(rows.rows // 4))
    print(json.dumps({"grown": peak() - before, "examples": audit.examples, "valid": audit.valid, "seen": total}))


if __name__ == "__main__":
    main(sys.argv[1])
