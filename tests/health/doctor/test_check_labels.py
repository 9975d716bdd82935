"""The doctor on examples."""

from __future__ import annotations

import pytest
from example_tokens import LetterTokenizer

import loopos
from loopos.data import audit
from loopos.health.doctor.check_labels import label_audit

TOKENIZER = LetterTokenizer()
GOOD = [{"prompt": f"{n}+1=", "completion": f"{n + 1}."} for n in range(20)]


def verdict(data, seq_len=16, tokenizer=TOKENIZER):
    return label_audit(audit(data, tokenizer, seq_len))


def test_good_examples():
    check = verdict(GOOD)
    assert check.verdict == "ok"
    assert "20 end in a learned end of text" in check.measured


@pytest.mark.parametrize(
    ("data", "seq_len", "tokenizer", "advice"),
    [
        ([*GOOD, {"prompt": "a", "completion": ""}], 16, TOKENIZER, r"1 with nothing to learn: .* \(record 20\)"),
        ([*GOOD, *[{"text": "x" * 30}] * 5], 16, TOKENIZER, "examples longer than seq_len 16 lose their end"),
        (GOOD, 16, LetterTokenizer(eos=None), "does not learn where to stop: the tokenizer has no end-of-text token"),
    ],
)
def test_what_is_remarkable_is_told(data, seq_len, tokenizer, advice):
    check = verdict(data, seq_len, tokenizer)
    assert check.verdict == "warn"
    with pytest.raises(AssertionError, match=advice):
        raise AssertionError(check.advice)


@pytest.mark.parametrize("pack", [True, False])
def test_the_doctor_looks_at_examples(pack):
    config = loopos.ModelConfig(400, 32, n_layer=1, n_head=2, d_model=16)
    report = loopos.doctor(config, GOOD, quick=True, tokenizer=TOKENIZER, batch_size=4, pack=pack, max_steps=20)
    checks = {check.name: check for check in report.checks}
    assert checks["label audit"].verdict == "ok"
    assert report.ok, str(report)
    with pytest.raises(ValueError, match="nothing is left to learn"):
        loopos.doctor(config, GOOD, quick=True, tokenizer=TOKENIZER, seq_len=2)
