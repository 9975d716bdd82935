"""Case 0's ten fixes on ``loopos.vision.Captioner`` itself, each alone, before and after: what each does to NaN, to the
loss reached and to the time of an update. What else people try, and soft cap and z-loss, stand beside them.

The captioner learns scikit-learn's digits ("a seven") from a program without LoopOS's gates: products in bfloat16, Adam
at 1e-3, eps 1e-5 in the norms, nothing clipped, nothing checked, as before the write-up's fixes. Four settings:

  naive   the write-up's softmax, exp(x) / (sum(exp(x)) + eps), and its fault: in the last, smaller batch of the first
          epoch the logits reach hundreds, because the final norm's gain is FAULT times too large there
  fault   the same fault, by the engine's softmax, which subtracts the row's maximum; all epochs
  sound   the same without the fault
  hot     sound, from a head (the token embedding) whose weights begin HOT times too large

    python benchmarks/ten_fixes.py benchmarks/results/ten_fixes.json     # about six minutes of one core; resumable
    python benchmarks/render.py                                          # the table, into docs/captioning.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import loopos
from loopos import ops
from loopos.config import ModelConfig
from loopos.health.stages import examine
from loopos.vision import CaptionBatches, Captioner, CaptionerConfig, Digits, VisionConfig, WordVocabulary

BATCH, EPOCHS, SEEDS, WIDTH, BLOCKS = 16, 8, 3, 32, 2
SIDE, PATCH = 8, 4  # pixels
FAULT, HOT = np.float32(64), np.float32(512)  # powers of two: taken back without a rounding
SETTINGS = ("naive", "fault", "sound", "hot")
ROUNDS, TURN = 30, 4  # of the timing: turns of so many updates
OBSERVE = ("1", "6", "7", "8", "9", "10", "nan_to_num")  # where all is finite they change no bit: one seed shows it


@dataclass(frozen=True)
class Recipe:
    """How a training is done; as it stands, as before the fixes."""

    stops: bool = False  # at the first loss that is not finite
    clamp: float | None = None
    eps: float = 1e-5
    precision: str = "bf16"
    rate: float = 1e-3
    norm: bool = False  # the gradient's norm is worked out and shown
    checks: str = ""  # "parameters" (at the start), "embeddings", "gradients"
    explains: bool = False  # says where the number was born
    batch: int = BATCH
    clip: float | None = None
    warmup: int = 0
    nan_to_num: bool = False  # of the gradients
    smoothing: float = 0.0
    soft_cap: float | None = None
    z_loss: float = 0.0
    shifted: bool = False  # the maximum is subtracted in the setting "naive" too


ROWS: dict[str, dict[str, Any]] = {  # what each changes
    "nothing": {},
    "1 early NaN detection": {"stops": True},
    "2 logits clamped to ±100": {"clamp": 100.0},
    "3 eps 1e-8 in norms": {"eps": 1e-8},
    "4 float32 instead of bfloat16": {"precision": "float32"},
    "5 learning rate 3e-4": {"rate": 3e-4},
    "6 gradient norm shown": {"norm": True},
    "7 parameters checked at the start": {"checks": "parameters"},
    "8 embeddings checked": {"checks": "embeddings"},
    "9 gradients checked": {"checks": "gradients"},
    "10 messages say where": {"stops": True, "explains": True},
    "rate 1e-4": {"rate": 1e-4},
    "batches of 4": {"batch": 4},
    "gradients clipped to norm 1": {"clip": 1.0},
    "warm-up of 50 updates": {"warmup": 50},
    "nan_to_num of gradients": {"nan_to_num": True},
    "label smoothing 0.1": {"smoothing": 0.1},
    "soft cap 30": {"soft_cap": 30.0},
    "soft cap 100": {"soft_cap": 100.0},
    "z-loss 1e-3": {"z_loss": 1e-3},
    "the maximum subtracted": {"shifted": True},
}
ALONE = ("the maximum subtracted",)  # rows of the setting naive alone
SMALL = ("batches of 4",)  # four times the updates: measured in naive and sound alone


def loss_of(logits: np.ndarray, targets: np.ndarray, recipe: Recipe, naive: bool) -> tuple[float, np.ndarray]:
    """(mean loss, gradient of the logits), for logits (N, V)."""
    x, slope = logits, None
    if recipe.clamp is not None:
        x, slope = np.clip(logits, -recipe.clamp, recipe.clamp), np.abs(logits) <= recipe.clamp
    if recipe.soft_cap is not None:
        bent = np.tanh(logits / np.float32(recipe.soft_cap))
        x, slope = np.float32(recipe.soft_cap) * bent, 1 - bent * bent
    if naive:
        width = x.shape[1]
        wanted = np.float32(1 - recipe.smoothing) * np.eye(width, dtype=x.dtype)[targets]
        wanted += np.float32(recipe.smoothing / width)
        e = np.exp(x)
        p = e / (e.sum(1, keepdims=True) + np.float32(1e-5))
        loss = float(-(wanted * np.log(p)).sum(1).mean())
        dx = (p - wanted) / np.float32(len(targets))
        if recipe.z_loss:
            total = e.sum(1, keepdims=True)
            z = np.log(total)
            loss += recipe.z_loss * float((z * z).mean())
            dx += np.float32(2 * recipe.z_loss / len(targets)) * z * e / total
    else:
        about = {"z_loss": recipe.z_loss, "label_smoothing": recipe.smoothing}
        loss, _ = ops.cross_entropy(x, targets, **about)
        dx = ops.cross_entropy_backward(1.0, x, targets, **about)
    return float(loss), dx if slope is None else dx * slope.astype(dx.dtype)


class Training:
    """One training. ``setting`` is one of SETTINGS."""

    def __init__(self, row: str, setting: str, seed: int):
        self.recipe, self.setting = Recipe(**ROWS[row]), setting
        digits = Digits(SIDE)
        part = digits.part("train")
        words = WordVocabulary.of(caption for i in range(len(part)) for caption in part.captions(i))
        self.batches = CaptionBatches(part, words, batch_size=self.recipe.batch, last="short", seed=seed, ahead=0)
        eps = self.recipe.eps
        encoder = VisionConfig(SIDE, PATCH, BLOCKS, 2, WIDTH, norm_eps=eps)
        decoder = ModelConfig(words.vocab_size, self.batches.max_tokens, BLOCKS, 2, WIDTH, activation="gelu")
        config = CaptionerConfig(encoder, ModelConfig(**decoder.to_dict() | {"norm_eps": eps}))
        self.model = Captioner(config, seed=seed, precision=self.recipe.precision)
        self.weights = self.model.parameters()
        if setting == "hot":
            self.weights["decoder.tok_embed.weight"][...] *= HOT
        self.moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self.weights.items()}
        self.held_out = CaptionBatches(digits.part("test"), words, batch_size=355, ahead=0).batch(0)
        self.step, self.largest, self.said, self.nan_step = 0, 0.0, "", None

    def run(self, steps: int) -> None:
        if self.recipe.checks == "parameters":
            self.said = "".join(f"{name} " for name, w in self.weights.items() if not np.isfinite(w).all())
        while self.step < steps and self.update():
            pass

    def update(self) -> bool:
        """False where a check ends the training."""
        recipe, self.step = self.recipe, self.step + 1
        spoilt = self.setting in ("naive", "fault") and self.step == self.batches.steps_per_epoch
        gain = self.weights["decoder.final_norm.weight"]
        if recipe.checks == "embeddings":
            bad = [n for n, w in self.weights.items() if "embed" in n or "patch" in n if not np.isfinite(w).all()]
            self.said = self.said or (f"step {self.step}: {bad[0]}" if bad else "")
        gain *= FAULT if spoilt else np.float32(1)
        with np.errstate(all="ignore"):
            loss = self._pass()
        gain /= FAULT if spoilt else np.float32(1)
        grads = self.model._core.gradients()
        if not np.isfinite(loss):
            self.nan_step = self.nan_step or self.step
            if recipe.explains:
                self.said = self.said or self._where()
            if recipe.stops:
                return False
        norm = self.model._core.grad_norm() if recipe.norm or recipe.clip is not None else 0.0
        if recipe.norm:
            self.said = self.said or ("" if np.isfinite(norm) else f"step {self.step}: norm {norm}")
        if recipe.checks == "gradients" and (bad := [n for n, g in grads.items() if not np.isfinite(g).all()]):
            self.said = f"step {self.step}: {bad[0]}"
            return False
        if recipe.clip is not None and not norm <= recipe.clip:  # a norm that is NaN makes all gradients NaN
            grads = {name: g * np.float32(recipe.clip / norm) for name, g in grads.items()}
        if recipe.nan_to_num:
            grads = {name: np.nan_to_num(g) for name, g in grads.items()}
        self._adam(grads)
        return True

    def _pass(self) -> float:
        """The loss, after forward and backward; the gradients are the core's, the logits ``self.logits``."""
        images, ids, targets = self.batches.batch(self.step - 1)
        naive, flat = self.setting == "naive" and not self.recipe.shifted, targets.ravel()

        def between(logits: np.ndarray) -> tuple[float, np.ndarray]:
            self.logits = logits.reshape(len(flat), -1)
            loss, dlogits = loss_of(self.logits, flat, self.recipe, naive)
            self.loss = loss
            return loss, np.ascontiguousarray(dlogits.reshape(logits.shape))

        about = {"images": self.model.pixels(images), "step": self.step, "between": ("logits", between)}
        self.model._core.accumulate(ids, targets, scale=1.0, **about)
        if np.isfinite(self.logits).all():
            self.largest = max(self.largest, float(np.abs(self.logits).max()))
        return self.loss

    def _where(self) -> str:
        with np.errstate(all="ignore"):
            e = np.exp(self.logits)
            stages = {"logits": self.logits, "exp": e, "sum": e.sum(1, keepdims=True)}
        born = examine(stages, {"exp": ("exp", "logits"), "sum": ("sum", "exp")}).birth
        return f"{born.tensor}{list(born.index)} = {born.value} ({born.cause_class})"

    def _adam(self, grads: dict[str, np.ndarray]) -> None:
        """As a program without LoopOS has it: nothing keeps a NaN out of the weights."""
        rate = self.recipe.rate * min(1.0, self.step / self.recipe.warmup if self.recipe.warmup else 1.0)
        scale = np.float32(rate * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step))
        with np.errstate(all="ignore"):
            for name, g in grads.items():
                m, v = self.moments[name]
                m += np.float32(0.1) * (g - m)
                v += np.float32(0.001) * (g * g - v)
                self.weights[name] -= scale * m / (np.sqrt(v) + np.float32(1e-8))

    def measured(self) -> dict[str, Any]:
        """Plain numbers. The loss is of held-out pictures, without z-loss and smoothing, by the sound formula; exact:
        the share of them of which every word is the likeliest."""
        images, ids, targets = self.held_out
        finite = all(np.isfinite(w).all() for w in self.weights.values())
        loss = right = None
        if finite:
            logits = self.model.forward(images, ids)
            plain = Recipe(clamp=self.recipe.clamp, soft_cap=self.recipe.soft_cap)
            loss, _ = loss_of(logits.reshape(-1, logits.shape[-1]), targets.ravel(), plain, naive=False)
            right = float((logits.argmax(-1) == targets).all(1).mean())
        found = {"nan_step": self.nan_step, "steps": self.step, "finite": finite, "loss": loss, "exact": right}
        return found | {"largest_logit": self.largest, "said": self.said}


def measure(row: str, setting: str, seed: int, epochs: int) -> dict[str, Any]:
    training = Training(row, setting, seed)
    first = training.batches.steps_per_epoch
    training.run(first + 2 if setting == "naive" else first * epochs)
    return {"row": row, "setting": setting, "seed": seed} | training.measured()


def times(rounds: int, turn: int) -> dict[str, list[float]]:
    """Of each row, processor seconds of an update, a number for each round: rows take turns."""
    trainings = {row: Training(row, "sound", 0) for row in ROWS if row not in ALONE}
    found: dict[str, list[float]] = {row: [] for row in trainings}
    for number in range(rounds + 1):
        for row, training in trainings.items():
            began = time.process_time()
            training.run(training.step + turn)
            if number:  # the first is a warm-up
                found[row].append((time.process_time() - began) / turn)
    return found


def wanted(seeds: int) -> list[tuple[str, str, int]]:
    """(row, setting, seed) of every training, in the order of the seeds."""
    found = []
    for seed in range(seeds):
        for setting in SETTINGS:
            for row in ROWS:
                sees = row.split()[0] in OBSERVE and setting != "naive"
                if sees and (seed or setting != "sound"):
                    continue
                if (row in SMALL and setting not in ("naive", "sound")) or (row in ALONE and setting != "naive"):
                    continue
                found.append((row, setting, seed))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="the record; what it has already is not measured again")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", type=int, help="this seed, and no timing")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the timing")
    args = parser.parse_args()
    loopos.set_num_threads(1)
    record = json.loads(args.file.read_text()) if args.file.exists() else {"trainings": []}
    from loopos.bench.machine import describe

    record |= {"machine": describe(), "seeds": args.seeds, "epochs": args.epochs}
    done = {(each["row"], each["setting"], each["seed"]) for each in record["trainings"]}

    def keep() -> None:
        rows = [json.dumps(each) for each in record["trainings"]]  # a line for each
        rest = {name: value for name, value in record.items() if name != "trainings"}
        args.file.write_text(json.dumps(rest)[:-1] + ', "trainings": [\n' + ",\n".join(rows) + "\n]}\n")

    for row, setting, seed in wanted(args.seeds):
        if (row, setting, seed) not in done and args.only in (None, seed):
            record["trainings"].append(measure(row, setting, seed, args.epochs))
            print(json.dumps(record["trainings"][-1]), flush=True)
            keep()
    if args.only is not None:
        return
    if "seconds" not in record:
        record["seconds"] = {row: [round(s, 7) for s in found] for row, found in times(args.rounds, TURN).items()}
    keep()
    print(render(record))


def render(record: dict[str, Any]) -> str:
    """The table, in Markdown. Bold: at every seed more than a tenth away from "nothing", in one direction."""
    rows = {row: {setting: _of(record, row, setting) for setting in SETTINGS} for row in ROWS}
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    usual = min(record["seconds"]["nothing"])  # the least: what is above it is other programs
    for row, found in rows.items():
        naive = found["naive"]
        steps = sorted({"no NaN" if each["nan_step"] is None else f"step {each['nan_step']}" for each in naive})
        weights = "finite" if all(each["finite"] for each in naive) else "NaN"
        cells = [row, ", ".join(steps), weights, naive[0]["said"].strip() or "–"]
        for setting in ("fault", "sound", "hot"):
            cells.append(_loss(found[setting], rows["nothing"][setting]))
        looks = row.split()[0] in OBSERVE and cells[5] == "the same bits"
        cells.insert(6, "the same" if looks else _right(found["sound"]))
        time_ = record["seconds"].get(row)
        cells.append(f"× {min(time_) / usual:.2f}" if time_ else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


COLUMNS = (
    "changed alone", "naive softmax, fault", "weights after", "it says", "engine's softmax, fault: loss",
    "no fault: loss", "captions right", "hot head: loss", "time",
)  # fmt: skip


def _of(record: dict[str, Any], row: str, setting: str) -> list[dict[str, Any]]:
    found = [each for each in record["trainings"] if (each["row"], each["setting"]) == (row, setting)]
    return sorted(found, key=lambda each: each["seed"])


def same_bits(record: dict[str, Any]) -> bool:
    """Whether what only looks changed nothing, where nothing is wrong."""
    usual = _of(record, "nothing", "sound")[0]
    watching = [_of(record, row, "sound")[0] for row in ROWS if row.split()[0] in OBSERVE]
    return all((each["loss"], each["exact"]) == (usual["loss"], usual["exact"]) for each in watching)


def _loss(found: list[dict[str, Any]], usual: list[dict[str, Any]]) -> str:
    losses = [each["loss"] for each in found]
    if not losses:
        return "–"
    if None in losses:
        return "**NaN**"
    apart = [a / b["loss"] - 1 for a, b in zip(losses, usual, strict=False)]
    if len(losses) < len(usual):
        return "the same bits" if not any(apart) else f"{losses[0]:.3f}"
    spread = f" ± {statistics.stdev(losses):.3f}" if len(losses) > 1 else ""
    text = f"{statistics.mean(losses):.3f}{spread}"
    return f"**{text}**" if min(apart) > 0.1 or max(apart) < -0.1 else text


def _right(found: list[dict[str, Any]]) -> str:
    return f"{100 * statistics.mean(each['exact'] for each in found):.1f} %" if found else "–"


if __name__ == "__main__":
    main()
