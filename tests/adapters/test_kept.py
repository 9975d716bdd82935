"""The adapter in a checkpoint: what it says of itself and of its base."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopos import CheckpointError, LoRA
from loopos.adapters.base import Base
from loopos.adapters.kept import Kept, described, kept, spec_of
from loopos.adapters.kinds import KINDS
from loopos.files.checkpoint_folder import Checkpoint

BASE = Base("/nowhere/base", "float32", "int8", "ab" * 32)
SPEC = LoRA(2, dropout=0.5, targets=("q_proj",), rslora=True)


def checkpoint(**state):
    return Checkpoint(Path("/run/step-00000001"), 1, {}, state)


def test_it_says_what_it_is():
    assert spec_of(described(SPEC)) == SPEC
    found = kept(checkpoint(adapter=described(SPEC), base=BASE._asdict()))
    assert (found.spec, found.base) == (SPEC, BASE)
    assert kept(checkpoint(base=BASE._asdict())) is None
    assert set(KINDS) >= {"lora"}


@pytest.mark.parametrize(
    "about",
    [
        {"kind": "lora", "rank": -1},
        {"kind": "lora", "rnk": 2},
        {"kind": "other"},
        {"kind": ["lora"]},
        {"rank": 2},
        [],
        "lora",
        3,
    ],
    ids=str,
)
def test_a_description_that_cannot_be_read_is_the_checkpoints_fault(about):
    with pytest.raises(CheckpointError, match=r"step-00000001: state\.json does not describe its adapter"):
        kept(checkpoint(adapter=about, base=BASE._asdict()))
    with pytest.raises(CheckpointError, match="does not describe its adapter"):
        kept(checkpoint(adapter=described(SPEC), base=about))


def test_the_place_of_the_base(tmp_path):
    there = Kept(SPEC, BASE._replace(folder=str(tmp_path)), {}, Path("run"))
    assert there.place(Path("run"), None) == tmp_path
    assert there.place(Path("run"), "elsewhere") == Path("elsewhere")
    gone, never = (Kept(SPEC, BASE._replace(folder=folder), {}, Path("run")) for folder in ("/nowhere/base", None))
    with pytest.raises(
        FileNotFoundError, match=r"was in /nowhere/base, which is not there now: name the base's folder"
    ):
        gone.place(Path("run"), None)
    with pytest.raises(FileNotFoundError, match=r"came from no folder: name the base's folder.*--base FOLDER"):
        never.place(Path("run"), None)


def test_another_base_is_told_and_one_of_another_type_cannot_be():
    found = Kept(SPEC, BASE, {}, Path("run"))
    found.check(BASE._replace(folder=None), "train")
    found.check(BASE._replace(weights="float32", sha256="cd"), "train")
    with pytest.raises(ValueError, match=r"train: the model is not the base that the adapter in run was trained on"):
        found.check(BASE._replace(folder=None, sha256="cd" * 32), "train")
