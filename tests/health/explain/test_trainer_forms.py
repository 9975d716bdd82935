"""Lines of many trainers, and what they print before their first step: read when they are healthy, and when the loss
becomes NaN or 0. In a line {x} is the training loss, {y} the held-out one, {p} exp(x), {i} the step."""

from __future__ import annotations

import math
import random

import pytest

from loopos.health.explain.explain import explain

FORMS = {  # (header, line)
    "ultralytics csv": (
        "                  epoch,         train/box_loss,         train/cls_loss,   metrics/precision(B),"
        "           val/box_loss,                 lr/pg0\n",
        "{i:>23},{x:>23.4f},{x:>23.4f},0.5,{y:>23.4f},0.001",
    ),
    "megatron valid": (
        "",
        " iteration {i} | lm loss: {x:.4E} | loss scale: 1.0 |\n"
        " validation loss at iteration {i} | lm loss value: {y:.6E} | lm loss PPL: {p:.6E} |",
    ),
    "espnet": (
        "",
        "[host] 2024-01-01 10:00:00,123 (trainer:700) INFO: 1epoch:train:{i}-{i}batch: iter_time=0.1, los"
        "s_ctc={y:.3f}, loss_att={x:.3f}, acc=0.5, loss={x:.3f}, backward_time=0.1, optim0_lr0=1e-4, trai"
        "n_time=0.5",
    ),
    "spacy": (
        "E    #       LOSS TOK2VEC  LOSS NER  ENTS_F  ENTS_P  ENTS_R  SCORE \n"
        "---  ------  ------------  --------  ------  ------  ------  ------\n",
        "  0   {i:5d}         {x:.2f}     {y:.2f}    1.00    0.50    1.0    0.00",
    ),
    "xgboost": (
        "",
        "[{i}]\ttrain-rmse:{x:.5f}\teval-rmse:{y:.5f}",
    ),
    "xgboost logloss": (
        "",
        "[{i}]\ttrain-mlogloss:{x:.5f}\ttest-mlogloss:{y:.5f}",
    ),
    "lightgbm": (
        "",
        "[{i}]\ttraining's binary_logloss: {x:.6f}\tvalid_1's binary_logloss: {y:.6f}",
    ),
    "sklearn": (
        "",
        "Iteration {i}, loss = {x:.8f}",
    ),
    "llama.cpp": (
        "",
        "train_opt_callback: iter={i:6d} sample=1/10 sched=0.100000 loss={x:.6f} dt=00:00:10 eta=00:10:00 |->",
    ),
    "sb3": (
        "",
        "------------------------------------------\n"
        "| time/                   |             |\n"
        "|    iterations           | {i}         |\n"
        "| train/                  |             |\n"
        "|    learning_rate        | 0.0003      |\n"
        "|    loss                 | {x:.3f}     |\n"
        "------------------------------------------",
    ),
    "torchtune": (
        "",
        "Step {i} | loss:{x:.6f} lr:2e-05 tokens_per_second_per_gpu:1000.1 peak_memory_active:10.2",
    ),
    "nemo": (
        "",
        "Epoch 0: :   1%| | {i}/1000 [00:10<1:00:00, v_num=1, reduced_train_loss={x:.3f}, global_step={i}"
        ".0, consumed_samples=100.0, train_step_timing in s=0.5]",
    ),
    "nemo2": (
        "",
        "Training epoch 0, iteration {i}/100 | lr: 1e-05 | global_batch_size: 8 | global_step: {i} | redu"
        "ced_train_loss: {x:.3f} | train_step_timing in s: 0.5",
    ),
    "opennmt": (
        "",
        "[2024-01-01 10:00:00,123 INFO] Step {i}/1000; acc: 10.1; ppl: {p:.1f}; xent: {x:.1f}; lr: 1.0000"
        "0; sents: 100; bsz: 100/ 100/ 1; 1000/1000 tok/s;     10 sec;",
    ),
    "marian": (
        "",
        "[2024-01-01 10:00:00] Ep. 1 : Up. {i}00 : Sen. 10,000 : Cost {x:.8f} * 1,000 @ 10 after 10,000 :"
        " Time 10.1s : 1000.1 words/s : gNorm 0.5",
    ),
    "caffe": (
        "",
        "I0101 10:00:00.123456 123 solver.cpp:228] Iteration {i}, loss = {x:.5f}",
    ),
    "mlx": (
        "",
        "Iter {i}: Train loss {x:.3f}, Learning Rate 1.000e-05, It/sec 0.5, Tokens/sec 100.1, Trained Tok"
        "ens 1000, Peak mem 10.1 GB\n"
        "Iter {i}: Val loss {y:.3f}, Val took 3.1s",
    ),
    "accelerate": (
        "",
        "epoch {i}: train_loss: tensor({x:.4f}, device='cuda:0') eval_loss: tensor({y:.4f})",
    ),
    "deepspeed": (
        "",
        "[2024-01-01 10:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step={i}, skipped=0, lr=[1e-0"
        "5, 1e-05], mom=[(0.9, 0.999)]\n"
        "steps: {i} loss: {x:.4f} iter time (s): 0.5 samples/sec: 10.1",
    ),
    "detectron": (
        "",
        "[01/01 10:00:00 d2.utils.events]:  eta: 0:10:00  iter: {i}9  total_loss: {x:.3f}  loss_cls: 0.{i"
        ":02d}1  loss_box_reg: 0.5  time: 0.3  data_time: 0.01  lr: 0.001  max_mem: 1000M",
    ),
    "fairseq txt": (
        "",
        "2024-01-01 10:00:00 | INFO | train_inner | epoch 001:    {i} / 1000 loss={x:.3f}, ppl={p:.2f}, w"
        "ps=1000, ups=1, wpb=1000, bsz=10, num_updates={i}, lr=1e-05, gnorm=0.5, clip=0, loss_scale=128, "
        "train_wall=10, gb_free=10, wall=20",
    ),
    "allennlp": (
        "",
        "accuracy: 0.5, batch_loss: {x:.4f}, loss: {x:.4f} ||: : {i}it [00:10, 1.2it/s]",
    ),
    "rllib json": (
        "",
        '{{"training_iteration": {i}, "info": {{"learner": {{"default_policy": {{"learner_stats": {{"tota'
        'l_loss": {x:.4f}, "policy_loss": -0.01, "vf_loss": 0.1}}}}}}}}}}',
    ),
    "keras bar": (
        "",
        "Epoch {i}/24\n"
        "\x1b[1m100/100\x1b[0m \x1b[32m━━━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m3s\x1b[0m "
        "30ms/step - accuracy: 0.5 - loss: {x:.4f} - val_accuracy: 0.5 - val_loss: {y:.4f} - learning_rate: 0.0010",
    ),
    "timm": (
        "",
        "Train: 0 [{i:>4d}/1000 ( 1%)]  Loss: {x:#.3g} ({x:#.3g})  Time: 0.5s, 10.1/s  (0.5s, 10.1/s)  LR"
        ": 1.000e-05  Data: 0.010 (0.010)",
    ),
    "mae": (
        "",
        "Epoch: [0]  [{i:>4}/1000]  eta: 0:10:00  lr: 0.000010  loss: {x:.4f} ({x:.4f})  time: 0.5  data:"
        " 0.01  max mem: 1000",
    ),
    "paddle": (
        "",
        "[2024/01/01 10:00:00] ppocr INFO: epoch: [1/10], global_step: {i}, lr: 0.001, acc: 0.5, norm_edi"
        "t_dis: 0.5, loss: {x:.6f}, avg_reader_cost: 0.01 s, avg_batch_cost: 0.5 s, avg_samples: 10, ips:"
        " 10.1 samples/s, eta: 0:10:00",
    ),
    "mindspore": (
        "",
        "epoch: 1 step: {i}, loss is {x:.6f}",
    ),
    "tf estimator": (
        "",
        "INFO:tensorflow:loss = {x:.4f}, step = {i}00 (0.312 sec)",
    ),
    "litgpt": (
        "",
        "Epoch 1 | iter {i} step {i} | loss train: {x:.3f}, val: n/a | iter time: 100.1 ms (step) remaini"
        "ng time: 0:10:00",
    ),
    "olmo": (
        "",
        "2024-01-01 10:00:00.123\thost:0\tolmo.train:967\tINFO\t[step={i}/1000,epoch=0]\n"
        "    optim/total_grad_norm=0.5123\n"
        "    train/CrossEntropyLoss={x:.4f}\n"
        "    train/Perplexity={p:.2f}\n"
        "    throughput/total_tokens=1000",
    ),
    "composer": (
        "",
        "[batch={i}/1000]:\n"
        "\t Train time/batch: {i}\n"
        "\t Train loss/train/total: {x:.4f}\n"
        "\t Train metrics/train/LanguageCrossEntropy: {x:.4f}\n"
        "\t Train throughput/batches_per_sec: 0.5",
    ),
    "unsloth": (
        "",
        "{{'loss': '{x:.4f}', 'grad_norm': '0.5', 'learning_rate': '1e-05', 'epoch': '{i}'}}",
    ),
    "axolotl": (
        "",
        "{{'loss': {x:.4f}, 'grad_norm': 0.5, 'learning_rate': 1e-05, 'memory/max_active (GiB)': 10.1, 'p"
        "pl': {p:.3f}, 'tokens/total': 1000, 'epoch': {i}}}",
    ),
    "verl": (
        "",
        "step:{i} - actor/pg_loss:{x:.3f} - actor/kl_loss:0.001 - actor/grad_norm:0.5 - critic/score/mean"
        ":0.5 - timing_s/step:10.1",
    ),
    "tabulate grid": (
        "+------+--------+\n| step | loss   |\n+======+========+\n",
        "| {i:4d} | {x:.4f} |\n+------+--------+",
    ),
    "yaml": (
        "",
        "- step: {i}\n  loss: {x:.4f}\n  lr: 0.001",
    ),
}
PREAMBLES = {
    "hf args": (
        "TrainingArguments(\n"
        "_n_gpu=1,\n"
        "adam_epsilon=1e-08,\n"
        "bf16=True,\n"
        "fp16_full_eval=False,\n"
        "gradient_accumulation_steps=1,\n"
        "ignore_data_skip=False,\n"
        "label_smoothing_factor=0.0,\n"
        "logging_nan_inf_filter=True,\n"
        "max_grad_norm=1.0,\n"
        "max_steps=-1,\n"
        "metric_for_best_model=loss,\n"
        "greater_is_better=False,\n"
        "skip_memory_metrics=True,\n"
        "warmup_ratio=0.0,\n"
        "weight_decay=0.0,\n"
        ")\n"
    ),
    "hf model config": (
        "Model config LlamaConfig {\n"
        '  "attention_dropout": 0.0,\n'
        '  "initializer_range": 0.02,\n'
        '  "rms_norm_eps": 1e-05,\n'
        '  "rope_scaling": null,\n'
        '  "vocab_size": 32000\n'
        "}\n"
    ),
    "megatron args": (
        "  accumulate_allreduce_grads_in_fp32 .............. True\n"
        "  check_for_nan_in_loss_and_grad .................. True\n"
        "  clip_grad ....................................... 1.0\n"
        "  initial_loss_scale .............................. 4294967296\n"
        "  loss_scale ...................................... None\n"
        "  loss_scale_window ............................... 1000\n"
        "  min_loss_scale .................................. 1.0\n"
        "  layernorm_epsilon ............................... 1e-05\n"
        "  hysteresis ...................................... 2\n"
        "  vocab_size ...................................... None\n"
        "  train_iters ..................................... 500\n"
        "  skip_train ...................................... False\n"
        "  eval_iters ...................................... 10\n"
        "  lr .............................................. 0.0003\n"
        "  min_lr .......................................... 0.0\n"
    ),
    "deepspeed": (
        "[INFO] [config.py:1000:print]   fp16_enabled ................. False\n"
        "[INFO]   gradient_clipping ............ 1.0\n"
        "[INFO]   initial_dynamic_scale ........ 1\n"
        "[INFO]   loss_scale ................... 1.0\n"
        "[INFO]   sparse_gradients_enabled ..... False\n"
        "{\n"
        '    "fp16": {"enabled": false, "loss_scale": 0, "initial_scale_power": 16, "hysteresis": 2, "min'
        '_loss_scale": 1},\n'
        '    "gradient_clipping": 1.0\n'
        "}\n"
    ),
    "torch warnings": (
        "/x/torch/optim/lr_scheduler.py:216: UserWarning: Please also save or load the state of the optim"
        "izer when saving or loading the scheduler.\n"
        "/x/torch/utils/checkpoint.py:429: UserWarning: torch.utils.checkpoint: please pass in use_reentr"
        "ant=True or use_reentrant=False explicitly.\n"
    ),
    "tf32": (
        "WARNING: TF32 is disabled, matmul precision highest\n"
        "Using bf16 mixed precision\n"
        "`use_cache=True` is incompatible with gradient checkpointing. Setting `use_cache=False`...\n"
        "The attention mask and the pad token id were not set.\n"
        "Setting `pad_token_id` to `eos_token_id`:2 for open-end generation.\n"
    ),
    "token length": (
        "Token indices sequence length is longer than the specified maximum sequence length for this mode"
        "l (2048 > 1024). Running this sequence through the model will result in indexing errors\n"
    ),
    "weights missing": (
        "Some weights of LlamaForCausalLM were not initialized from the model checkpoint at x and are new"
        "ly initialized: ['score.weight']\n"
        "You should probably TRAIN this model on a down-stream task.\n"
    ),
    "lightning": (
        "GPU available: False, used: False\n"
        "`Trainer(limit_train_batches=1.0)` was configured so 100% of the batches per epoch will be used."
        ".\n"
        "  | Name  | Type      | Params\n"
        "----------------------------\n"
        "0 | model | GPT       | 10 M\n"
        "1 | loss_fn | CrossEntropyLoss | 0\n"
        "----------------------------\n"
        "10 M Trainable params\n"
    ),
    "dataset stats": (
        "dataset: 1000 examples, 0 with nan, mean length 12.3, std 4.1, min 1, max 512\n"
        "dropped 3 rows with NaN\n"
        "removed 12 examples longer than 1024\n"
    ),
    "nvidia-smi": ("| N/A   45C    P0    60W / 300W |   1000MiB / 16160MiB |     95%      Default |\n"),
    "init stats": ("init: emb std 0.0200 qkv std 0.0199 logits mean 0.00 std 0.58, initial loss 10.99 (ln V 10.82)\n"),
    "eval table": (
        "***** eval metrics *****\n"
        "  epoch                   =        1.0\n"
        "  eval_loss               =     2.1234\n"
        "  eval_runtime            = 0:00:03.12\n"
        "  perplexity              =     8.3606\n"
    ),
    "train table": (
        "***** train metrics *****\n  train_loss               =     2.5123\n  train_runtime            = 0:10:00.12\n"
    ),
    "grad scaler init": ("GradScaler: init_scale 65536.0 growth_interval 2000\n"),
    "gpu mem": ("CUDA memory: allocated 1.2 GiB, reserved 2.0 GiB, out of memory retries: 0\n"),
    "oom retries": ("num_ooms: 0, alloc_retries: 0\n"),
    "amp": ("Automatic mixed precision: skipped 0 steps because of inf/nan gradients\n"),
    "apex ok": ("Defaults for this optimization level are:\nenabled: True\nopt_level: O1\nloss_scale: dynamic\n"),
    "spike detector": ("spike detector: window 50, threshold 3.0 sigma, none found\n"),
    "early stop": (
        "EarlyStopping: monitor=val_loss, mode=min, patience=3, min_delta=0.0, check_finite=True, best=inf\n"
    ),
    "pytest": ("=== 12 passed, 3 warnings in 2.1s (no NaN) ===\n"),
    "ignore idx": ("labels: 1234 of 4096 are -100 (prompt)\nmasked prompt tokens with -100\n"),
    "tokenizer": ("vocab_size: 50257, padded to 50304\nunk id 0, pad id None\n"),
    "git": ("commit: fix NaN in rope when theta is 0 (#123)\nbranch: fix-nan-loss\n"),
    "run name": ("wandb: Syncing run fix-nan-loss-2\nrun_name: no-nan-lr1e-3-clip1.0\noutput_dir: runs/nan_debug\n"),
    "nanny": ("nanoGPT, nanosecond timers on, Inf. about the run: see README\ninfo: info\n"),
    "quant": ("loading 4-bit weights, compute dtype bfloat16; overflow is not possible in nf4\n"),
}


def fall(count=24):
    rng = random.Random(0)
    return [2 + 2 * math.exp(-4 * i / count) + rng.gauss(0, 0.03) for i in range(count)]


def written(form, losses):
    header, line = FORMS[form]
    rows = (line.format(i=i, x=x, y=x + 0.1, p=math.exp(x) if math.isfinite(x) else x) for i, x in enumerate(losses))
    return header + "\n".join(rows) + "\n"


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read(form):
    found = explain(written(form, fall()))
    assert (found.causes, found.doubts) == (("learning",), ())
    assert "24 with a loss, 0 of them not finite" in found.facts
    assert explain(written(form, [*fall()[:14], *[math.nan] * 10])).causes[0] == "data"
    assert explain(written(form, [*fall()[:14], *[0.0] * 10])).causes[0] == "loss-filtered"


@pytest.mark.parametrize("name", PREAMBLES)
def test_what_a_healthy_program_says_of_itself_is_no_symptom(name):
    log = "".join(
        f"{{'loss': {x:.4f}, 'grad_norm': 0.51, 'learning_rate': 2e-05, 'epoch': {i / 10}}}\n"
        for i, x in enumerate(fall())
    )
    for text in (PREAMBLES[name] + log, log + PREAMBLES[name]):
        found = explain(text)
        assert (found.causes, found.doubts) == (("learning",), ())
