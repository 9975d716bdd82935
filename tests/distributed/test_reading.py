"""Each rank reads its own rows: the bits of one process, every row once an epoch, and nothing twice."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from under_mpi import mpi_needed, result_of

pytestmark = [mpi_needed, pytest.mark.unsanitized("processes of their own: sanitizers are not in them")]

SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import numpy as np, loopos
from loopos.data.examples.listed import ListedRows
from loopos.data.examples.rows import Examples, ExampleRows
from loopos.data.text_folder import TextFolder
asked = json.loads(sys.argv[1])
kinds, read, inside, encoded = asked.pop("kinds"), [], [], []
file = asked.pop("file", None)

def within(owner):
    part = owner.part
    def spy(self, *place):
        inside.append(place)
        try:
            return part(self, *place)
        finally:
            inside.pop()
    owner.part = spy

def noted(owner, name):
    method = getattr(owner, name)
    def spy(self, number, *rest):
        if inside:
            read.append(int(number))
        return method(self, number, *rest)
    setattr(owner, name, spy)

within(ExampleRows), noted(Examples, "tokens")
within(TextFolder), noted(TextFolder, "text")
config = loopos.ModelConfig(vocab_size=256, context_length=32, n_layer=1, n_head=2, d_model=16, dropout=0.1)
if file is not None:
    from loopos.data.examples import encoding, store, together
    store.KEPT_FROM = together.KEPT_FROM = 0
    prepare = encoding.Encoder._prepare
    def counted(self, number, *rest):
        encoded.append(number)
        return prepare(self, number, *rest)
    encoding.Encoder._prepare = counted
part = ListedRows.part
def spy(self, step, micro, first, last):
    read.extend(int(at) for at in self._chosen(step, micro)[first:last])
    return part(self, step, micro, first, last)
ListedRows.part = spy
asked |= {"batch_size": 12, "learning_rate": 1e-2, "seed": 3, "progress": False, "log_every": 1}

def trained(kind):
    read.clear()
    data = [{"prompt": "p" * (i % 5 + 1), "completion": chr(97 + i % 26) * (1 + i * i % 23)} for i in range(48)]
    more = {"eval_data": data[:7], "pack": kind == "packed"}
    if kind == "folder":
        data, more = TextFolder("texts", loopos.data.tokenizer.ByteTokenizer(), seq_len=32, batch_size=12, seed=3), {}
    elif kind == "classify":
        data = [{"text": "x" * (1 + i % 9), "label": "ab"[i % 2]} for i in range(48)]
        more = {"task": "classify", "eval_data": data[:7]}
    elif kind in ("bytes", "chars"):
        data, more = Path("text.txt"), {"tokenizer": kind, "eval_data": Path("held_out.txt")}
    elif kind == "file":
        data = Path(file)
    result = loopos.train(config, data, **more, **asked)
    weights = b"".join(each.tobytes() for each in result.model.parameters().values())
    told = [(each["loss"], each["valid_tokens"], each.get("eval_loss")) for each in result.history]
    return [hashlib.sha256(weights).hexdigest(), told, list(read), encoded]

tell([trained(kind) for kind in kinds])
"""
KINDS = ["padded", "packed", "folder", "classify"]


def test_ranks_read_their_own_rows_and_have_the_bits_of_one_process(tmp_path):
    (tmp_path / "texts").mkdir()
    for name in "ab":
        (tmp_path / f"texts/{name}.txt").write_text("".join(chr(33 + i % 90) for i in range(24 * 4 * 33)))
    (one,) = result_of(SCRIPT, {"kinds": KINDS, "shards": 8, "epochs": 1}, folder=tmp_path)
    for ranks in (1, 2, 3, 4):
        asked = {"kinds": KINDS, "distributed": "auto", "epochs": 1}
        for kind, alone, *told in zip(KINDS, one, *result_of(SCRIPT, asked, ranks=ranks, folder=tmp_path), strict=True):
            assert [each[:2] for each in told] == [alone[:2]] * ranks, kind
            if ranks == 1:
                continue
            read = Counter(number for _, _, numbers, _ in told for number in numbers)
            if kind != "packed":  # whose number of rows is not a multiple of the batch: some come again
                assert read == Counter(range(48)), kind
            shares = [len(numbers) for _, _, numbers, _ in told]
            assert max(shares) < 1.5 * sum(shares) / ranks, kind


def test_a_file_is_turned_into_tokens_once_by_all_ranks_together(tmp_path):
    data = [json.dumps({"prompt": "p" * (i % 5 + 1), "completion": "x" * (1 + i * i % 23)}) for i in range(96)]
    told = {}
    for ranks in (None, 2, 3, 4):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        (folder / "data.jsonl").write_text("\n".join(data))
        asked = {"kinds": ["file"], "epochs": 2, "shards": 8, "file": str(folder / "data.jsonl")}
        asked |= {} if ranks is None else {"distributed": "auto"}
        told[ranks] = [each for (each,) in result_of(SCRIPT, asked, ranks=ranks, folder=folder)]
    for ranks, each in told.items():
        assert [one[:2] for one in each] == [told[None][0][:2]] * (ranks or 1)
        own = [Counter(encoded) for *_, encoded in each]
        # what is held out is a list of seven, numbered from 0, and shared out too
        assert sum(own, Counter()) == Counter(range(1, 97)) + Counter(range(7))
        assert max(sum(one.values()) for one in own) < 1.4 * 103 / (ranks or 1)


def test_a_text_is_mapped_or_turned_into_tokens_by_all_ranks_together(tmp_path):
    (tmp_path / "text.txt").write_text("".join("aé漢😀\nb"[i * i % 6] for i in range(24 * 33)), encoding="utf-8")
    (tmp_path / "held_out.txt").write_text("héaÖ" * 99, encoding="utf-8")
    asked = {"kinds": ["bytes", "chars"], "epochs": 1}
    (one,) = result_of(SCRIPT, {**asked, "shards": 8}, folder=tmp_path)
    assert one[0][:2] != one[1][:2]
    for ranks in (2, 3):
        told = result_of(SCRIPT, {**asked, "distributed": "auto"}, ranks=ranks, folder=tmp_path)
        for kind in range(2):
            assert [each[kind][:2] for each in told] == [one[kind][:2]] * ranks
