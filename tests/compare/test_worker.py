"""One trial in a process."""

from __future__ import annotations

import json
import math
import subprocess
import sys

from comparisons import small_task

from loopos.compare.follow import batches_of
from loopos.compare.same import same
from loopos.compare.text import TextTask
from loopos.compare.trial import CRASHED, ENDED, FINISHED, Outcome, Trial
from loopos.compare.worker import in_short, peak_bytes, run
from loopos.errors import Birth


def test_a_number_that_goes_bad_ends_the_trial_with_its_birth(text, tmp_path):
    found = run(small_task(text), Trial("sgd", 1e30, 1, 12), tmp_path)
    assert found.status == ENDED
    assert found.steps == 1
    assert found.eval_loss is None
    assert found.nonfinite == 1
    assert "born in the forward pass, block 0, op linear: blocks.0.attn.qkv_proj.y[" in found.born
    assert found.born.endswith("(learning rate too large)")
    assert found.said.startswith("step 2, forward pass, block 0, op linear: blocks.0.attn.qkv_proj.y[")
    assert (tmp_path / found.bundle).is_file()


def test_a_trial_that_stays_finite(text, tmp_path):
    found = run(small_task(text), Trial("adam", 0.01, 1, 12), tmp_path)
    assert found.status == FINISHED
    assert found.steps == 12
    assert found.eval_loss < math.log(256)
    assert found.quality == {"perplexity": math.exp(found.eval_loss)}
    assert found.start
    assert found.peak_bytes > 1e7
    assert found.seconds > 0


class Unfair(TextTask):
    """A token further on than the rest."""

    def _opened(self, seed):
        model, opened = super()._opened(seed)
        return model, opened._replace(data=opened.data[1:])


def test_other_batches_for_one_optimizer_are_seen(text, tmp_path):
    fair, unfair = small_task(text), Unfair(**small_task(text).to_dict())
    noted = {}
    for name, task in (("a", fair), ("b", fair), ("c", unfair)):
        (tmp_path / name).mkdir()
        outcome = run(task, Trial("sgd" if name == "a" else "adamw", 0.01, 1, 6), tmp_path / name)
        noted[name] = 1, outcome.start, batches_of(tmp_path / name)
    assert same({name: noted[name] for name in "ab"})
    assert same(noted).differences == ["c saw another batch than a at update 1"]


def test_a_birth_in_short():
    birth = Birth(3, "update", None, "adamw", "head.weight", (1, 2), math.nan, "0/0: something long")
    assert in_short(birth) == "NaN born in the update, op adamw: head.weight[1, 2] (0/0)"


def test_the_peak_of_memory_never_falls():
    before = peak_bytes()
    held = bytearray(b"x") * 60_000_000
    after = peak_bytes()
    del held
    assert after >= 60e6
    assert after >= before - 1e6  # Linux counts in lumps, by thread


def test_a_trial_that_cannot_begin_leaves_why(tmp_path):
    asked = {"optimizer": "sgd", "rate": 0.1, "seed": 1, "steps": 3, "sweep": False}
    task = {"kind": "text", "data": str(tmp_path / "gone.txt"), "settings": {}}
    (tmp_path / "trial.json").write_text(json.dumps({"task": task, "trial": asked}))
    command = [sys.executable, "-m", "loopos.compare.worker", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        words = process.stderr.read().decode()
        assert process.wait() == 1
    found = Outcome.read(tmp_path)
    assert found.status == CRASHED
    assert found.said.startswith("FileNotFoundError")
    assert "gone.txt" in words
