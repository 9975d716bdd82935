"""One name for a quantity, whatever a trainer calls it."""

from __future__ import annotations

import pytest

from loopos.health.explain.explain import explain
from loopos.health.explain.names import OTHER, name_of, tokens, words_of

LOSSES = words_of(
    "loss train_loss train/loss Train.Loss training_loss trn_loss trainLoss train-loss loss/train loss_train trainloss "
    "train_loss_step train_loss_epoch total_loss loss_total lm_loss nll_loss avg_loss reduced_train_loss metrics.loss "
    "train/CrossEntropyLoss CELoss mlm_loss train/ce_loss batch_loss step_loss running_loss epoch_loss box_loss "
    "loss_cls train/z_loss loss_0 losses mse train/mse nll xent cross_entropy train_nll cost 损失 训练损失"
)
HELD_OUT = words_of(
    "eval_loss val_loss valid_loss validation_loss test_loss dev_loss val/loss loss/val loss_val eval/c4/loss valLoss "
    "valloss val-loss held_out_loss held-out-loss heldout_loss valid_nll val_epoch_loss eval/wikitext/CrossEntropyLoss "
    "test/mse 验证损失"
)
NORMS = words_of(
    "grad_norm gradnorm gradient_norm gnorm train_gnorm train/grad_norm optim/total_grad_norm global_norm total_norm "
    "global_grad_norm gradNorm grad_norm_total grad_2.0_norm_total actor/grad_norm grads_norm grad-norm"
)
RATES = words_of("lr LR learning_rate learningRate train/learning_rate lr-Adam lr/group0 lr_0 学习率")
NOTHING = words_of(
    "best_val_loss best_loss min_loss loss_weight loss_fn loss_threshold loss_delta lossless max_grad_norm "
    "weight_decay clip_grad_norm lr_scheduler lr_decay min_lr max_lr initial_loss patience step_time "
    "steps_per_epoch total_steps max_steps eta num_epochs warmup_steps time it/s closs_x_time mfu"
)


@pytest.mark.parametrize(
    ("names", "quantity"),
    [(LOSSES, "loss"), (HELD_OUT, "eval_loss"), (NORMS, "grad_norm"), (RATES, "learning_rate")],
)
def test_names_of_one_word(names, quantity):
    assert {name: name_of((name,)).quantity for name in names} == dict.fromkeys(names, quantity)


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_settings_records_and_clocks_are_no_measurement(name):
    assert name_of((name,)) is None


@pytest.mark.parametrize(
    ("words", "quantity"),
    [
        ("Val. Loss", "eval_loss"),
        ("the training loss", "loss"),
        ("Validation Loss", "eval_loss"),
        ("held out loss", "eval_loss"),
        ("lm loss", "loss"),
        ("lm loss value", "loss"),
        ("loss train", "loss"),
        ("Average loss", "loss"),
        ("global step", "step"),
        ("Iter", "step"),
        ("Train Epoch", "epoch"),
        ("Learning Rate", "learning_rate"),
        ("grad norm", "grad_norm"),
        ("number of nan iterations", "nan_iterations"),
        ("number of skipped iterations", "skipped_iterations"),
        ("loss scale", "loss_scale"),
        ("padded vocab size", "vocab_size"),
        ("params norm", OTHER),
    ],
)
def test_names_of_several_words(words, quantity):
    assert name_of(tuple(words.replace(".", "").split())).quantity == quantity


@pytest.mark.parametrize("words", ["Validation loss decreased", "max norm", "loss improved from", "best val loss"])
def test_sentences_that_name_no_number(words):
    assert name_of(tuple(words.split())) is None


def test_the_loss_itself_ranks_before_its_parts_means_and_other_measures():
    ranks = [name_of((name,)).rank for name in ("loss", "avg_loss", "loss_epoch", "box_loss", "mse", "perplexity")]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)
    assert name_of(("KL", "loss")).rank > name_of(("policy_loss",)).rank - 1
    assert name_of(("KL", "loss")).label != name_of(("value", "loss")).label


def test_a_heading_tells_of_what_data_a_loss_is():
    assert name_of(("loss",), held_out=True).quantity == "eval_loss"
    assert name_of(("train", "loss"), held_out=True).quantity == "loss"


def test_tokens():
    assert tokens("train/CrossEntropyLoss") == ("train", "cross", "entropy", "loss")
    assert tokens("gnorm") == ("g", "norm")
    assert tokens("valLoss_2") == ("val", "loss", "2")


def test_a_file_with_a_line_number_is_no_loss():
    for words in (("Loss.cu",), ("at", "loss.py"), ("train_loss.cpp",)):
        assert name_of(words) is None
    assert name_of(("train.loss",)).is_loss
    found = explain("Loss.cu:250: nll_loss: block: [0,0,0] Assertion `t >= 0 && t < n_classes` failed.")
    assert found.causes == ("label-out-of-range",)


def test_other_words_for_a_loss():
    for name in (
        "cost",
        "criterion",
        "deviance",
        "bits_per_char",
        "neg_log_likelihood",
        "cross_entropy_train",
        "train_err",
        "train-mlogloss",
    ):
        assert name_of((name,)).quantity == "loss", name
    for name in ("ce_val", "val_error", "test_cost"):
        assert name_of((name,)).quantity == "eval_loss", name
    for words in (("error",), ("Error",), ("err",), ("standard", "error"), ("error", "rate"), ("interface",)):
        assert name_of(words) is None, words
