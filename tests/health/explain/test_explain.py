"""What explain says of the five kinds of failure that LoopOS began with, of other trainers' logs, and of any bytes."""

from __future__ import annotations

import io
import json
import math
import random

import numpy as np
import pytest

import loopos
from loopos.health.explain.explain import explain
from loopos.health.explain.findings import CONFIDENCE

FILTERED = """{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 0.00018, 'epoch': 0.31}
{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 0.00016, 'epoch': 0.62}
{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 0.00014, 'epoch': 0.94}
"""
AFTER = """{'loss': 2.2549, 'grad_norm': 1.5671, 'learning_rate': 2e-05, 'epoch': 0.06}
{'loss': 2.1651, 'grad_norm': 1.6627, 'learning_rate': 6e-05, 'epoch': 0.12}
"""
BLEND = """[DEBUG] Loss is finite: 17037672233816678413107200.000000
[DEBUG] ||R_blend||_F: 3461586616320.000000
[DEBUG] ||R_samp||_F: 0.000285
[GRAD] backbone=nan head=nan ok=False
UserWarning: Detected call of `lr_scheduler.step()` before `optimizer.step()`
"""


def finding(text, cause):
    return next(found for found in explain(text).findings if found.cause == cause)


def doubts(text):
    return [doubt.cause for doubt in explain(text).doubts]


# The five cases


def test_a_loss_of_zero_beside_a_norm_of_nan_is_a_filter_and_perhaps_masked_labels():
    found = explain(FILTERED)
    assert found.causes[:2] == ("loss-filtered", "labels-masked")
    assert "logging_nan_inf_filter" in found.findings[0].says
    assert "-100" in found.findings[1].check
    assert found.findings[0].evidence[0].startswith("line 1: {'loss': 0.0, 'grad_norm': nan")
    assert finding(FILTERED, "labels-masked").confidence == "likely"  # bad from the first entry on
    assert finding("\n".join([AFTER.replace("0.06", "0.01"), FILTERED]), "labels-masked").confidence == "possible"


def test_two_log_lines_are_insufficient_evidence_and_no_proof_of_a_repair():
    assert explain(AFTER).causes == ("insufficient-evidence",)
    both = explain(FILTERED + AFTER)
    assert "insufficient-evidence" in both.causes
    assert [doubt.cause for doubt in both.doubts] == ["unequal-comparison"]
    assert "learning rates of at most 6e-05 against at least 0.00014" in both.doubts[0].says
    assert "learning" not in both.causes


def test_a_comparison_at_the_same_rate_and_phase_is_not_doubted():
    same = FILTERED.replace("0.0,", "2.0,").replace("nan", "1.0").replace("0.31", "1.31").replace("0.62", "1.62")
    assert doubts(FILTERED + same.replace("0.94", "1.94")) == []


def test_a_negative_nan_is_born_by_an_operation_and_missing_updates_cannot_make_it():
    found = finding("epoch 0 loss -nan", "invalid-operation")
    assert "x86" in found.says
    assert "never updated cannot create it" in found.says
    assert "invalid-operation" not in explain("epoch 0 loss nan").causes
    text = "Training produces `-nan` loss\n(void)learning_rate; // never used\nsum = std::max(sum_exp, 1e-20f);"
    assert explain(text).causes == ("invalid-operation", "no-update")
    assert "cannot create a NaN" in finding(text, "no-update").says
    assert doubts(text) == ["dead-guard"]


def test_a_finite_but_absurd_loss_is_led_back_to_the_scale_before_it():
    found = explain(BLEND)
    assert found.causes[:2] == ("implausible-loss", "scale-jump")
    assert "1.42" in finding(BLEND, "scale-jump").says  # loss / norm²
    assert finding(BLEND, "step-skipped").evidence[0].startswith("line 5: UserWarning")
    assert "no optimizer.step() has been done" in finding(BLEND, "step-skipped").says
    assert "finite-is-not-healthy" in doubts(BLEND)


def test_numbers_near_the_end_of_the_range_are_compared_without_leaving_it():
    """The square of the norm is beyond float64."""
    assert "scale-jump" not in explain("step 1 loss 1e300 grad_norm 1e308").causes
    losses = [(-1.7e308 if i % 2 else 1.7e308) for i in range(40)]
    assert "flat" in explain("".join(f"step {i} loss {loss}\n" for i, loss in enumerate(losses))).causes
    constant = finding("".join(f"step {i} loss 1.7e308\n" for i in range(40)), "no-update").says
    assert "stands at 1.7e+308, more than a uniform guess" in constant
    norms = finding("step 1 loss 2.0 a norm: 1e308 b norm: 1e-308", "eps-floor").says
    assert norms.startswith("a norm is more than 1e308 times b norm")
    assert "(1e+300 / 1e+150² = 1)" in finding("step 1 loss 1e300 grad_norm 1e150", "scale-jump").says


def test_a_floor_that_acts_as_divisor_is_recognised_by_arithmetic():
    code = "tr = torch.diagonal(R_blend).real.sum(-1).clamp_min(1e-9)  # trace to N=144\n"
    floor = finding(BLEND + code, "eps-floor")
    assert floor.confidence == "likely"
    assert "24.04 times 144/1e-09" in floor.says
    other = finding(BLEND + code.replace("1e-9", "1e-3"), "eps-floor")  # 144/1e-3 is far from 3.46e12
    assert other.confidence == "possible"


def test_remedies_that_do_not_cure_are_named():
    text = (
        "bfloat16 -> logit overflow -> NaN\nsoftmax(192.8) -> Inf\nFIX: Clamp to [-100, 100]\n"
        "| Normalize eps | 1e-5 | 1e-8 | Better stability |\n# Or smaller batch\nSkips NaN batches\n"
        "Training loss becomes NaN at end of first epoch\nAggressive gradient clipping: Max norm of 0.5"
    )
    assert finding(text, "exp-overflow").confidence == "likely"  # only if the softmax is naive
    assert finding(text, "last-batch").confidence == "possible"
    expected = ["bfloat16-overflow", "clamped-logits", "smaller-eps", "smaller-batch", "clipping", "skipped-batches"]
    assert doubts(text) == expected


@pytest.mark.parametrize(
    ("formula", "cause", "says"),
    [
        (
            "0.5 * torch.sigmoid(x) + 0.5  # Range: [0.5, 1.5]",
            "gate-not-identity",
            "(0.5, 1), not (0.5, 1.5), and is 0.75",
        ),
        ("0.5 * torch.sigmoid(x) + 0.5  # Range: [0.5, 1.5]", "gate-not-identity", "0.5 + 1*sigmoid(x) is 1 at 0"),
        ("using (1 + tanh(x)) here", "gate-reaches-zero", "below about -9"),
    ],
)
def test_gates_are_computed_not_believed(formula, cause, says):
    assert says in finding(formula, cause).says


@pytest.mark.parametrize("formula", ["0.5 * tanh(x) + 1.0", "1.0 * sigmoid(x) + 0.5"])
def test_a_gate_that_is_one_at_zero_is_no_finding(formula):
    assert explain(formula).causes == ()


# Logs of other trainers


def falling(line, count=40):
    rng = random.Random(1)
    return "\n".join(
        line.format(i=i, loss=4 - 2.5 * (1 - math.exp(-i / 15)) + rng.gauss(0, 0.05)) for i in range(count)
    )


@pytest.mark.parametrize(
    "line",
    [
        "iter {i}: loss {loss:.4f}, time 12.10ms, mfu 3.2%",
        "step {i}: train loss {loss:.4f}, val loss 4.0",
        "step {i} | loss {loss:.4f} | lr 3.0e-04 | norm 0.53",
        '{{"step": {i}, "loss": {loss}, "grad_norm": 0.5}}',
        "{{'loss': {loss:.4f}, 'grad_norm': 1.5, 'learning_rate': 2e-05, 'epoch': {i}}}",
        "Epoch {i}: 100%|###| 10/10 [00:00<00:00, 20it/s, v_num=0, train_loss={loss:.3f}]",
        " iteration {i}/ 100 | learning rate: 1.0E-04 | lm loss: {loss:.6E} | number of nan iterations: 0 |",
        "| {i} | {loss:.3f} |",
        "{i},{loss}",
    ],
)
def test_a_healthy_descent_is_learning_and_nothing_else(line):
    header = {"|": "| step | loss |\n|---|---|\n", "{i},": "step,loss\n"}
    text = next((head for start, head in header.items() if line.startswith(start)), "") + falling(line)
    assert explain(text).causes == ("learning",)


def test_a_number_that_was_not_logged_is_none():
    """LlamaFactory prints every name in each line."""
    line = '{{"step": {i}, "loss": {loss:.4f}, "eval_loss": null, "predict_loss": null, "grad_norm": null}}'
    assert explain(falling(line)).causes == ("learning",)
    assert explain(falling(line) + '\n{"step": 41, "loss": null, "eval_loss": 1.9}').causes == ("learning",)


def test_megatron_counts_iterations_that_were_skipped_and_others_that_were_nan():
    line = " iteration {i}/ 100 | lm loss: {loss:.6E} | number of skipped iterations: 0 | number of nan iterations: 0 |"
    healthy = falling(line)
    assert explain(healthy.replace("skipped iterations: 0", "skipped iterations: 1", 1)).causes == ("learning",)
    nans = healthy.replace("nan iterations: 0", "nan iterations: 1")
    assert explain(nans).causes[0] == "not-finite-reported"
    assert "counted 40 iterations" in explain(nans).findings[0].says
    assert "40 entries with numbers" in str(explain(nans))
    skipped = finding(healthy.replace("skipped iterations: 0", "skipped iterations: 2"), "step-skipped")
    assert skipped.says.startswith("80 iterations were skipped")


def test_a_constant_loss_at_ln_v_is_nothing_learned():
    lines = "\n".join(f"step {i} | loss {math.log(65):.4f} | lr 3.0e-04" for i in range(20))
    found = explain("vocab_size=65\n" + lines)
    assert found.causes == ("no-update",)
    assert "ln 65: a uniform guess" in found.findings[0].says
    assert "e^4.174 is 65" in explain(lines).findings[0].says  # without the size it is only a hint
    assert explain(lines.replace("3.0e-04", "0.0")).causes == ("learning-rate-zero",)
    assert explain(lines.replace("4.1744", "46.0517")).causes == ("eps-floor",)


def test_growth_before_the_nan_blames_the_rate_and_none_before_it_does_not():
    grown = "".join(f"step {i} loss {2.5 * 1.6**i:.4g}\n" for i in range(12)) + "step 12 loss nan\n"
    assert explain(grown).causes[0] == "learning-rate-too-large"
    steady = "".join(f"step {i} loss {2.5 + i % 3 / 50:.4g}\n" for i in range(12)) + "step 12 loss nan\n"
    assert explain(steady).causes[:2] == ("data", "exp-overflow")
    assert "learning-rate-too-large" not in explain(steady).causes


def test_a_first_step_that_is_nan_acquits_the_rate():
    found = explain("step 1 loss nan grad_norm nan")
    assert all(each.confidence == "possible" for each in found.findings)
    assert "the learning rate is not to blame" in found.findings[0].says


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("RuntimeError: Function 'SqrtBackward0' returned nan values in its 0th output.", "backward-nan"),
        ("IndexError: Target 50257 is out of bounds.", "label-out-of-range"),
        ("RuntimeWarning: overflow encountered in exp", "exp-overflow"),
        ("RuntimeWarning: invalid value encountered in divide", "invalid-operation"),
        ("Exception: Current loss scale already at minimum - cannot decrease scale anymore.", "half-precision"),
        ("ValueError: Attempting to unscale FP16 gradients.", "half-precision"),
        ("RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn", "no-gradient"),
        ("train: every target of 5 updates was -100, so nothing was learned", "labels-masked"),
        ("{'loss': 0.0, 'grad_norm': 0.0, 'learning_rate': 1e-5, 'epoch': 0.1}", "labels-masked"),
        ("{'loss': 2.0, 'grad_norm': inf, 'learning_rate': 1e-5, 'epoch': 0.1}", "norm-overflow"),
        ("{'loss': 2.0, 'grad_norm': nan, 'learning_rate': 1e-5, 'epoch': 0.1}", "born-in-backward"),
        ("loss -1.#IND", "labels-masked"),
        ("loss: tensor(nan, device='cuda:0')", "labels-masked"),
        ('{"log_history": [{"loss": 0.0,\n "grad_norm": NaN,\n "step": 5}]}', "loss-filtered"),
        ("[W] gnorm=nan", "born-in-backward"),
        ("backbone=nan head=1.0", "unknown"),
    ],
)
def test_known_sentences_and_entries(text, cause):
    assert cause in explain(text).causes


@pytest.mark.parametrize(
    "text",
    [
        "hello world",
        "Results: 5 dogs and 3 cats",
        "No NaN values detected. number of nan iterations: 0",
        "the nan bread",
    ],
)
def test_a_text_without_a_symptom_says_so(text):
    found = explain(text)
    assert found.findings == found.doubts == ()
    assert "nothing to explain" in str(found)


def test_the_empty_text_says_so():
    assert "empty" in str(explain(""))
    assert "empty" in str(explain(b""))


# Own errors and runs


def test_the_birth_in_an_error_is_the_first_finding():
    config = loopos.ModelConfig(vocab_size=11, context_length=8, n_layer=1, n_head=2, d_model=8)
    model = loopos.Model(config)
    list(model.parameters().values())[3].flat[2] = np.nan
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(model, np.arange(200) % 11, max_steps=1, progress=False)
    for source in (caught.value, str(caught.value)):
        found = explain(source).findings[0]
        assert (found.cause, found.confidence) == ("weight-not-finite", "certain")
        assert "blocks.0.attn_norm" in found.says


def test_an_error_is_explained_with_what_caused_it():
    error = RuntimeError("training failed")
    error.__cause__ = IndexError("Target 7 is out of bounds.")
    assert explain(error).causes == ("label-out-of-range",)
    assert explain(loopos.CheckpointError("a.bin", "checksum differs")).causes == ("damaged-file",)


def test_an_error_whose_text_fails_is_no_crash():
    class Broken(Exception):
        def __str__(self):
            raise ValueError("no")

    assert explain(Broken()).findings == ()


def test_a_run_folder_is_read(tmp_path):
    lines = [f'{{"step": {i}, "loss": 2.0, "grad_norm": 1.0, "nonfinite": 0}}\n' for i in range(1, 4)]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(lines) + '{"step": 4, "loss": null, "grad_norm": null, "nonfinite": 1}\n'
    )
    for source in (tmp_path, str(tmp_path), tmp_path / "metrics.jsonl"):
        assert "step-skipped" in explain(source).causes


def test_what_the_monitor_noted_in_a_log_is_no_line_of_it(tmp_path):
    lines = [{"step": i, "loss": 3 - i / 20, "grad_norm": 1.0} for i in range(1, 31)]
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plain = explain(log)
    noted = [{"step": 9, "name": "loss", "value": None, "sentence": "loss = nan (not finite), loss = 1e+30"}]
    for line in lines:
        line |= {"update_ratio": {"head.norm": 1e9}, "findings": noted}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert str(explain(log)) == str(plain)
    log.write_text(json.dumps(lines[0])[:-1])  # cut short: read as it stands
    explain(log)


def test_wrong_sources_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(TypeError, match="explain: expected a text"):
        explain(3)
    with pytest.raises(OSError, match=r"gone\.log"):
        explain(tmp_path / "gone.log")


# Any bytes


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_other_encodings_are_read(encoding):
    assert "first-forward" in explain("é step 1 loss nan\r\n".encode(encoding)).causes


def test_mojibake_is_named_and_read_all_the_same():
    damaged = "✅ loss: nan → inf".encode().decode("cp1252", "replace")
    found = explain(damaged)
    assert "first-forward" in found.causes
    assert "mojibake" in str(found)
    assert explain("✅ loss: nan → inf").notes == ()


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_never_crash(seed):
    rng = random.Random(seed)
    data = rng.randbytes(rng.randrange(1, 5000))
    words = [b"loss", b"nan", b":", b"{", b"'", b"|", b"1e", b"\n", b"grad_norm", b"=", b"-", b"\x00", b"[", b"10^"]
    mixed = b"".join(rng.choice(words) if rng.random() < 0.7 else rng.randbytes(2) for _ in range(800))
    for source in (data, mixed, io.BytesIO(mixed), mixed.decode("latin-1")):
        found = explain(source)
        assert all(each.confidence in CONFIDENCE and each.evidence for each in found.findings + found.doubts)
        str(found).encode()


@pytest.mark.parametrize(
    "text", ["1" * 200_000, "lr" + "-" * 100_000, "[" * 100_000, "loss" + " " * 100_000, "\ud800 loss nan"]
)
@pytest.mark.timeout(20)
def test_hostile_lines_take_no_time(text):
    explain(text)


def test_memory_and_the_middle_of_a_huge_file(tmp_path, monkeypatch):
    from loopos.health.explain import lines, logs

    monkeypatch.setattr(lines, "HEAD", 1 << 17)
    monkeypatch.setattr(lines, "TAIL", 1 << 17)
    monkeypatch.setattr(logs, "MAX_RECORDS", 500)
    path = tmp_path / "huge.log"
    path.write_text("".join(f"step {i} loss 3.0\n" for i in range(60_000)) + "step 60000 loss nan\n")
    found = explain(path)
    assert "first and the last" in str(found)
    assert any("loss nan" in line for each in found.findings for line in each.evidence)  # the end was read
    log = logs.Log()
    for i in range(5000):
        log.add(i, "", {"loss": 1.0})
    assert len(log.records) <= 500
    assert log.entries == 5000
