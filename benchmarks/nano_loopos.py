"""nanoGPT's CPU setting through loopos.train: the same job as nano_torch.py, with the same line of JSON at the end.

python benchmarks/nano_loopos.py input.txt --threads 2
"""

from __future__ import annotations

import json
import time

import nano_setting as setting

import loopos
from loopos.precision import PRECISIONS


def main():
    args = setting.arguments(__doc__.splitlines()[0], PRECISIONS)
    loopos.set_num_threads(args.threads)
    train_ids, held_out, vocab_size = setting.characters(args.text)
    config = loopos.ModelConfig(
        vocab_size=vocab_size,
        context_length=setting.BLOCK,
        n_layer=setting.N_LAYER,
        n_head=setting.N_HEAD,
        d_model=setting.WIDTH,
    )
    model = loopos.Model(config, seed=args.seed, precision=args.precision)

    start = time.perf_counter()
    result = loopos.train(
        model,
        train_ids,
        max_steps=args.steps,
        batch_size=setting.BATCH,
        learning_rate=setting.LEARNING_RATE,
        min_lr=setting.MIN_LR,
        warmup_steps=setting.WARMUP,
        weight_decay=setting.WEIGHT_DECAY,
        betas=setting.BETAS,
        eps=setting.EPS,
        max_grad_norm=setting.CLIP,
        seed=args.seed,
        threads=args.threads,
        output_dir=args.output_dir,
        eval_data=held_out if args.output_dir else None,
        eval_every=200 if args.output_dir else None,
        progress=False,
    )
    trained = time.perf_counter()

    total = count = 0
    for ids, targets in setting.held_out_windows(held_out):
        total += model.loss(ids, targets) * targets.size
        count += targets.size
    figures = {
        "engine": f"loopos {loopos.__version__}",
        "precision": args.precision,
        "products": model.products,
        "threads": args.threads,
        "steps": result.step,
        "parameters": sum(array.size for array in model.parameters().values()),
        "train_seconds": round(trained - start, 3),
        "eval_seconds": round(time.perf_counter() - trained, 3),
        "train_loss": result.history[-1]["loss"],
        "eval_loss": total / count,
        "eval_tokens": count,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
