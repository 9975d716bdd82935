"""How long a process takes from its start until a model is there, and how much memory."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import loopos

from .process import PEERS, PeerError

# What a user writes. Nothing of the benchmarks is imported, or it would count.
PROGRAMS = {
    "ours": """
import loopos
loopos.set_num_threads(THREADS)
model = loopos.Model.from_pretrained(FOLDER, dtype="float32")
engine = "loopos " + loopos.__version__
""",
    "transformers_generate": """
import torch, transformers
torch.set_num_threads(THREADS)
model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
engine = "transformers " + transformers.__version__
""",
    "llama_generate": """
import llama_cpp
model = llama_cpp.Llama(FOLDER + "/f16.gguf", n_ctx=1024, n_threads=THREADS, verbose=False)
engine = "llama-cpp-python " + llama_cpp.__version__
""",
}
BEGIN = "import sys, json\nFOLDER, THREADS = sys.argv[1], int(sys.argv[2])\n"
END = """
from pathlib import Path
status = Path("/proc/self/status")
if status.exists():
    peak = int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"engine": engine, "peak_rss": peak}), flush=True)
"""


class Opened(NamedTuple):
    engine: str
    seconds: float
    peak_rss: int  # bytes; of files that are mapped, the pages that were read


def once(name: str, folder: Path, threads: int) -> Opened:
    """PeerError with the reason when it is not installed or fails."""
    peer = PEERS[name]
    if importlib.util.find_spec(peer.package) is None:
        raise PeerError(f"{peer.package} is not installed")
    path = [str(Path(loopos.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + PROGRAMS[peer.program] + END, str(folder), str(threads)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.perf_counter() - began
    _, errors = process.communicate()
    if process.returncode != 0 or not line:
        words = [each.strip() for each in errors.splitlines() if each.strip()]
        raise PeerError(words[-1] if words else f"ended with exit code {process.returncode}")
    found = json.loads(line)
    return Opened(found["engine"], seconds, found["peak_rss"])
