"""Logs as trainers write them: a line of training, what an evaluation writes, the header of a table.

In braces: i (step), e (epoch), l and v (training and held-out loss), lc and vc (the same with a decimal comma), p (the
perplexity). Invented numbers in the formats that the programs print.
"""

from __future__ import annotations

import math
import random

LOGS = {
    "hf": (
        "{{'loss': {l:.4f}, 'grad_norm': 0.53, 'learning_rate': 2e-05, 'epoch': {i}.5}}",
        "{{'eval_loss': {v:.4f}, 'eval_runtime': 12.2, 'eval_samples_per_second': 100.1, 'epoch': {i}.5}}",
    ),
    "hf-table": ("{i}\t{l:.6f}\t{v:.6f}", "", "Step\tTraining Loss\tValidation Loss"),
    "lightning": (
        "Epoch {i}: 100%|██████████| 50/50 [00:10<00:00, 41.2it/s, v_num=3, train_loss_step={l:.3f}, "
        "val_loss={v:.3f}, train_loss_epoch={l:.3f}]",
    ),
    "lightning-old": ("Epoch {i}:  98%|#########8| 49/50 [00:10<00:00, 41.2it/s, loss={l:.3f}, v_num=3]",),
    "fairseq": (
        "2021-01-01 10:00:00 | INFO | train_inner | epoch 001:    {i} / 3002 loss={l:.3f}, nll_loss={v:.3f}, "
        "ppl={p:.2f}, wps=31231.6, ups=3.9, wpb=8003, bsz=256, num_updates={i}, lr=2.5e-05, "
        "gnorm=1.234, clip=0, loss_scale=128, train_wall=26, gb_free=9.2, wall=10",
        "2021-01-01 10:00:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss {v:.3f} "
        "| nll_loss 2.1 | ppl 8.1 | wps 0 | num_updates {i}",
    ),
    "fairseq-json": (
        '{{"epoch": {e}, "update": {i}, "loss": "{l:.3f}", "nll_loss": "{v:.3f}", "ppl": "{p:.2f}", '
        '"wps": "3123.6", "num_updates": "{i}", "lr": "0.0001", "gnorm": "1.2", "clip": "0", '
        '"train_wall": "10"}}',
    ),
    "nanogpt": ("iter {i}: loss {l:.4f}, time 120.10ms, mfu 3.21%", "step {i}: train loss {l:.4f}, val loss {v:.4f}"),
    "llmc": (
        "step {i:4d}/100 | loss {l:7.6f} (+nanz)| norm 1.2345 (+0.1z)| lr 1.07e-06 | 500.10 "
        "ms | 40.1% bf16 MFU | 100045 tok/s",
        "val loss {v:.6f}",
    ),
    "megatron": (
        " iteration {i:8d}/  500000 | consumed samples: 1024 | elapsed time per iteration (ms): "
        "5000.1 | learning rate: 1.500E-04 | global batch size:  1024 | lm loss: {l:.6E} | loss "
        "scale: 131072.0 | grad norm: 0.921 | num zeros: 0.0 | number of skipped iterations: "
        "  0 | number of nan iterations:   0 |",
        " validation loss at iteration {i} | lm loss value: {v:.6E} | lm loss PPL: 1.0E+01 |",
    ),
    "deepspeed": (
        "[2023-04-10 10:00:00,123] [INFO] [logging.py:96:log_dist] [Rank 0] step={i}, skipped=0, "
        "lr=[9.6e-06, 9.6e-06], mom=[(0.9, 0.95), (0.9, 0.95)]\nsteps: {i} loss: {l:.4f} iter "
        "time (s): 0.512 samples/sec: 7.8",
    ),
    "keras": (
        "Epoch {i}/40\n100/100 [==============================] - 2s 20ms/step - loss: {l:.4f} "
        "- accuracy: 0.5123 - val_loss: {v:.4f} - val_accuracy: 0.5000",
    ),
    "keras3": (
        "\x1b[1m100/100\x1b[0m \x1b[32m━━━━━━━━━━━━━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m2s\x1b[0m "
        "20ms/step - accuracy: 0.51 - loss: {l:.4f} - val_accuracy: 0.5 - val_loss: {v:.4f}",
    ),
    "olmo": (
        "2024-01-01 10:00:00.123\thost:0\tolmo.train:967\tINFO\t[step={i}/739328,epoch=0]\n "
        "   optim/total_grad_norm=1.234\n    train/CrossEntropyLoss={l:.3f}\n    train/Perplexity={p:.1f}\n "
        "   throughput/total_tokens=4,194,304\n    throughput/device/tokens_per_second=12,345",
        "    eval/wikitext/CrossEntropyLoss={v:.3f}",
    ),
    "wandb": ("wandb: train/loss {l:.4f}",),
    "mmdet": (
        "2022-01-01 10:00:00,123 - mmdet - INFO - Epoch [1][{i}0/7330]\tlr: 1.978e-04, eta: "
        "1 day, 1:02:03, time: 0.512, data_time: 0.05, memory: 3773, loss_rpn_cls: 0.2, loss_rpn_bbox: "
        "0.05, loss_cls: {v:.4f}, acc: 95.1, loss_bbox: 0.1, loss: {l:.4f}, grad_norm: 3.2",
    ),
    "mmengine": (
        "01/01 10:00:00 - mmengine - INFO - Epoch(train)  [{i}][700/700]  base_lr: 1.0e-04 lr: "
        "1.0e-04  eta: 1:02:03  time: 0.5  data_time: 0.05  memory: 3773  grad_norm: 3.2  loss: "
        "{l:.4f}  loss_cls: {v:.4f}",
        "01/01 10:00:00 - mmengine - INFO - Epoch(val)  [{i}][100/100]  loss: {v:.4f}  data_time: 0.1",
    ),
    "mmdet-json": (
        '{{"mode": "train", "epoch": 1, "iter": {i}0, "lr": 0.0002, "memory": 3773, "loss_cls": '
        '{v:.4f}, "loss": {l:.4f}, "grad_norm": 3.2}}',
        '{{"mode": "val", "epoch": 1, "iter": {i}, "lr": 0.0002, "loss": {v:.4f}}}',
    ),
    "yolo": (
        "       {i}/40      2.65G     {l:.3f}      1.669      1.222        121        640: 100%|██████████| "
        "63/63 [00:10<00:00,  6.1it/s]\n                 Class     Images  Instances      Box(P "
        "         R      mAP50  mAP50-95): 100%|███| 4/4 [00:01<00:00,  2.9it/s]\n          "
        "         all        128        929       0.67      0.532      0.611      0.451\n",
        "",
        "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size",
    ),
    "torchtune": ("Step {i} | loss:{l:.12f} lr:2e-05 tokens_per_second_per_gpu:1234.5 grad_norm:2.5 ",),
    "torchtune-bar": ("1|{i}|Loss: {l:.6f}:  1%|          | 5/500 [00:10<10:00,  2.1s/it]",),
    "mlx": (
        "Iter {i}: Train loss {l:.3f}, Learning Rate 1.000e-05, It/sec 1.234, Tokens/sec 456.789, "
        "Trained Tokens 1234, Peak mem 12.345 GB",
        "Iter {i}: Val loss {v:.3f}, Val took 12.345s",
    ),
    "pytorch-mnist": (
        "Train Epoch: 1 [{i}40/60000 (1%)]\tLoss: {l:.6f}",
        "\nTest set: Average loss: {v:.4f}, Accuracy: 9000/10000 (90%)\n",
    ),
    "imagenet": (
        "Epoch: [0][{i:4d}/5005]\tTime  0.512 ( 0.634)\tData  0.001 ( 0.1)\tLoss {l:.4e} (6.9e+00)\tAcc@1 "
        "  0.00 (  0.1)\tAcc@5   1.0 (  0.9)",
    ),
    "tutorial": ("Epoch [1/5], Step [{i}/600], Loss: {l:.4f}",),
    "tut2": (
        "Epoch {i}\n-------------------------------\nloss: {l:.6f}  [   64/60000]",
        "Test Error: \n Accuracy: 44.0%, Avg loss: {v:.6f} \n",
    ),
    "fastai": (
        "{i}         {l:.6f}    {v:.6f}    0.8123    00:12     ",
        "",
        "epoch     train_loss  valid_loss  accuracy  time    ",
    ),
    "csv-decimal": ("{i};{lc};{vc}", "", "step;loss;val_loss"),
    "tab-decimal": ("{i}\t{lc}\t{vc}", "", "step\tloss\tval_loss"),
    "md": ("| {i} | {l:.3f} | {v:.3f} |", "", "| Step | Training Loss | Validation Loss |\n|------|------|------|"),
    "pandas": ("{i}  {i}0  {l:.3f}  {v:.3f}", "", "    step  loss  val_loss"),
    "csv-quoted": ('"{i}","{l:.3f}","{v:.3f}"', "", '"step","train/loss","eval/loss"'),
    "lightning-csv": ("{e},{i}0,{l:.3f},,\n{e},{i}0,,{v:.3f},", "", "epoch,step,train_loss,val_loss,lr"),
    "llamafactory": (
        '{{"current_steps": {i}, "total_steps": 400, "loss": {l:.4f}, "eval_loss": null, "predict_loss": '
        'null, "reward": null, "accuracy": null, "lr": 5e-05, "epoch": 0.{i}, "percentage": '
        '1.0, "elapsed_time": "0:00:10", "remaining_time": "0:10:00"}}',
        '{{"current_steps": {i}, "total_steps": 400, "loss": null, "eval_loss": {v:.4f}, "epoch": 1.0}}',
    ),
    "fullwidth": ("第{i}轮\u3000ｌｏｓｓ：{l:.3f}，验证损失：{v:.3f}，学习率：０．００１",),
    "valdot": (
        "Epoch: {i:02} | Epoch Time: 0m 10s\n\tTrain Loss: {l:.3f} | Train PPL: {p:7.3f}\n\t "
        "Val. Loss: {v:.3f} |  Val. PPL: 30.1",
    ),
    "nested": ('{{"step": {i}, "train": {{"loss": {l:.3f}, "acc": 0.5}}, "val": {{"loss": {v:.3f}, "acc": 0.4}}}}',),
    "brackets": ("[train] step {i} loss {l:.3f}", "[val] step {i} loss {v:.3f}"),
    "trl-dpo": (
        "{{'loss': {l:.4f}, 'grad_norm': 2.1, 'learning_rate': 5e-07, 'rewards/chosen': 0.1, "
        "'rewards/rejected': -0.2, 'logps/chosen': -200.1, 'logits/chosen': -2.1, 'epoch': 0.{i}}}",
    ),
    "sb3": (
        "| train/              |             |\n|    iteration        | {i}         |\n|    "
        "loss             | {l:.3f}     |\n|    value_loss       | 0.5         |\n---------",
    ),
    "tensor": ("step {i}: loss = tensor({l:.4f}, device='cuda:0', grad_fn=<NllLossBackward0>)",),
    "jax": ("step: {i}, loss: Array({l:.4f}, dtype=float32), grad_norm: 1.0",),
    "composer": (
        "[epoch=1][batch={i}/100]:\n\t Train time/epoch: 0\n\t Train loss/train/total: {l:.4f}\n\t "
        "Train metrics/train/LanguagePerplexity: {p:.1f}\n\t Train lr-DecoupledAdamW/group0: "
        "0.0001",
    ),
    "nemo": (
        "Epoch 0:   1%|  | 5/100 [00:10<10:00, v_num=0, reduced_train_loss={l:.3f}, global_step={i}.0, "
        "consumed_samples=1024.0, val_loss={v:.3f}]",
    ),
    "accelerate": (" 10%|█         | {i}/400 [00:10<10:00,  1.2it/s, lr=1e-05, step_loss={l:.3f}]",),
    "nanochat": (
        "step {i:05d}/21400 (0.00%) | loss: {l:.6f} | grad norm: 0.5123 | lrm: 1.00 | dt: 500.12ms "
        "| tok/sec: 1,048,576 | mfu: 40.12 | total time: 0.00m",
        "Step {i:05d} | Validation bpb: 0.8123",
    ),
    "moddednanogpt": (
        "step:{i}/1750 train_loss:{l:.4f} train_time:100ms step_avg:50.1ms",
        "step:{i}/1750 val_loss:{v:.4f} train_time:100ms step_avg:50.1ms",
    ),
    "timm": (
        "Train: 0 [  {i}/1251 (  0%)]  Loss: {l:.3f} (6.9)  Time: 0.5s,  500.1/s  (0.5s,  500.1/s) "
        " LR: 1.000e-06  Data: 0.01 (0.02)",
        "Test: [  {i}/48]  Time: 0.5 (0.5)  Loss:  {v:.4f} (1.1)  Acc@1: 80.1 (80.1)",
    ),
    "detectron2": (
        "[01/01 10:00:00 d2.utils.events]:  eta: 1:02:03  iter: {i}9  total_loss: {l:.3f}  loss_cls: "
        "0.2  loss_box_reg: 0.3  time: 0.2  data_time: 0.01  lr: 0.0002  max_mem: 3000M",
    ),
    "spacy": (
        "{e}       {i}          {l:.2f}    0.00    0.30    0.25    0.37    0.00",
        "",
        "E    #       LOSS TOK2VEC  LOSS NER  ENTS_F  ENTS_P  ENTS_R  SCORE\n---  ------  ------------ "
        " --------  ------  ------  ------  ------",
    ),
    "sklearn": ("Iteration {i}, loss = {l:.8f}",),
    "xgb": ("[{i}]\ttrain-logloss:{l:.5f}\teval-logloss:{v:.5f}",),
    "lightgbm": ("[{i}]\ttraining's binary_logloss: {l:.5f}\tvalid_1's binary_logloss: {v:.5f}",),
    "marian": (
        "[2023-01-01 10:00:00] Ep. 1 : Up. {i}00 : Sen. 1,234 : Cost {l:.8f} : Time 10.01s : "
        "1000.5 words/s : gNorm 1.2",
    ),
    "opennmt": (
        "[2023-01-01 10:00:00,123 INFO] Step {i}0/100000; acc: 5.1; ppl: {p:.1f}; xent: {l:.3f}; "
        "lr: 0.0001; sents: 100; bsz: 10/10/1; 100/100 tok/s;     10 sec;",
        "[2023 INFO] valid perplexity: 30.1",
    ),
    "speechbrain": ("epoch: {i}, lr: 1.00e-03 - train loss: {l:.2f} - valid loss: {v:.2f}, valid PER: 20.1",),
    "espnet": (
        "[host] 2023-01-01 10:00:00,123 (trainer:762) INFO: {i}epoch:train:1-100batch: iter_time=0.1, "
        "forward_time=0.1, loss_ctc={v:.3f}, loss_att=20.1, acc=0.5, loss={l:.3f}, backward_time=0.1, "
        "grad_norm=5.1, clip=100.0, loss_scale=1.0, optim_step_time=0.01, optim0_lr0=1e-04, "
        "train_time=1.0",
    ),
    "kohya": ("steps:   1%|          | {i}/1600 [00:10<10:00,  1.2it/s, avr_loss={l:.3f}]",),
    "flax": ("Step... ({i} | Loss: {l:.6f}, Learning Rate: 0.0001)",),
    "paddle": (
        "[2023-01-01 10:00:00] [INFO] - loss: {l:.4f}, learning_rate: 1e-05, global_step: {i}, "
        "interval_runtime: 0.5, progress_or_epoch: 0.1",
    ),
    "levanter": ("Progress on:train 1.0kit/10.0kit rate:1.2it/s remaining:1:00:00 elapsed:10:00 postfix:loss={l:.3f}",),
    "litgpt": ("Epoch 1 | iter {i} step {i} | loss train: {l:.3f}, val: {v:.3f} | iter time: 500.1 ms (step)",),
    "litgpt2": ("Epoch 1 | iter {i} step {i} | loss train: {l:.3f}, val: n/a | iter time: 500.1 ms (step)",),
    "tfjs": ("Epoch {i}: train loss = {l:.3f}; held-out loss = {v:.3f}",),
    "camel": ("trainLoss={l:.3f} valLoss={v:.3f} gradNorm=1.2 learningRate=1e-4 epoch={i}",),
}


def log_of(name: str, entries: int = 40) -> str:
    """A healthy run: the loss falls from 4 to about 1.5; every fourth entry is followed by an evaluation."""
    rng = random.Random(1)
    line, evaluation, head = (*LOGS[name], "", "")[:3]
    lines = [head] if head else []
    for i in range(entries):
        loss = 4 - 2.5 * (1 - math.exp(-i / 15)) + rng.gauss(0, 0.03)
        held_out = loss + 0.2 + rng.gauss(0, 0.01)
        values = {"i": i, "e": i // 10, "l": loss, "v": held_out, "p": math.exp(loss)}
        values |= {name + "c": f"{values[name]:.3f}".replace(".", ",") for name in "lv"}
        lines.append(line.format(**values))
        if evaluation and i % 4 == 3:
            lines.append(evaluation.format(**values))
    return "\n".join(lines) + "\n"
