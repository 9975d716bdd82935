"""What opening a folder takes: the model once, in the dtype it is computed in, and little more."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest

WIDTH, HIDDEN, LAYERS, VOCABULARY = 768, 2048, 8, 49152
SETTINGS = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 12,
    "tie_word_embeddings": True,
}
PROGRAM = """
import sys
import numpy as np
import loopos
from loopos.files import durable

def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) << 10

weights = sys.argv[2]
loopos.Model(loopos.ModelConfig(8, 8, 1, 1, 8)).forward(np.zeros((1, 1), np.int64))  # code and threads are there
before = peak()
model = loopos.Model.from_pretrained(sys.argv[1], dtype="float32", weights=weights)
small = [each["bytes"] for each in model.storage_errors().values()]
size = sum(view.nbytes for view in model.parameters().values()) + sum(small)
widest = max(float(view.max()) for view in model.parameters().values())
print((peak() - before) / size, size, widest)
"""


@pytest.fixture(scope="module", params=["F32", "BF16"])
def folder(request, tmp_path_factory):
    """A model of 94 million parameters at random, in a file of the dtype."""
    rng = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    for i in range(LAYERS):
        block = f"model.layers.{i}"
        shapes |= {f"{block}.self_attn.{x}_proj.weight": (WIDTH, WIDTH) for x in "qkvo"}
        shapes |= {f"{block}.mlp.{x}_proj.weight": (HIDDEN, WIDTH) for x in ("gate", "up")}
        shapes |= {f"{block}.{x}_layernorm.weight": (WIDTH,) for x in ("input", "post_attention")}
        shapes[f"{block}.mlp.down_proj.weight"] = (WIDTH, HIDDEN)
    header, reached, size = {}, 0, 4 if request.param == "F32" else 2
    for name, shape in shapes.items():
        end = reached + size * math.prod(shape)
        header[name] = {"dtype": request.param, "shape": shape, "data_offsets": [reached, end]}
        reached = end
    text = json.dumps(header).encode()
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            numbers = rng.standard_normal(shape, np.float32)
            file.write(numbers if size == 4 else (numbers.view(np.uint32) >> 16).astype(np.uint16))
    return folder


INT4 = 17 / 32 * 0.6 + 17 / 16 * 0.4  # the token table has 0.4 of the numbers, and is int8


@pytest.mark.unsanitized("the sanitizer's allocator has memory of its own")
@pytest.mark.parametrize(("weights", "number"), [("float32", 4), ("bfloat16", 2), ("int8", 17 / 16), ("int4", INT4)])
def test_the_model_is_in_memory_once_as_it_is_stored(folder, weights, number):
    command = [sys.executable, "-c", PROGRAM, folder, weights]
    program = subprocess.run(command, capture_output=True, text=True, check=True)
    ratio, size, widest = map(float, program.stdout.split())
    assert number * 90e6 < size < number * 95e6
    assert weights != "float32" or 4 < widest < 8  # of so many normal numbers
    assert (ratio - 1) * size <= max(0.1 * size, 10e6)  # the pieces of a file do not shrink with the model
