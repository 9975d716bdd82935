"""What the doctor asks of the settings: that they can work together, with this model and so many data.

Nothing is computed with the model here. A schedule that never reaches its peak, a decay that turns weights round and
one window of data all train without an error, and none of them learns what was meant.
"""

from __future__ import annotations

from collections.abc import Iterator

from .plan import Plan
from .report import FAIL, OK, WARN, Check

SHRINKS = 0.95  # what an update may multiply a weight by; usual is 1 - 1e-5 to 1 - 1e-3
FINE_TUNING = 2e-5  # a rate at which new weights learn hardly anything
COSTLY = 1 << 20  # tokens scored by all evaluations of eval_every; less is no matter
FORWARD = 1 / 3  # of the work of an update, at most


def check_plan(plan: Plan) -> Iterator[Check]:
    """The checks of the settings, in order."""
    yield schedule(plan)
    yield decay(plan)
    if plan.stream is not None:
        yield windows(plan)
    if plan.engine:
        yield start(plan)
    if (found := evaluations(plan)) is not None:
        yield found


def schedule(plan: Plan) -> Check:
    """The learning rate is above 0 and reaches its peak; Adam's moments average something."""
    settings, total = plan.settings, plan.total
    name, expected = "schedule", "a peak that is above 0 and is reached"
    measured = f"{settings.lr_schedule}, peak {settings.learning_rate:g} after {settings.warmup_steps} warm-up steps"
    measured += "" if total is None else f" of {total}"
    if settings.learning_rate == 0:
        return Check(name, measured, expected, WARN, "at a learning rate of 0 no weight moves: nothing is learned")
    if total is not None and settings.warmup_steps > total:
        reached = f"{total / settings.warmup_steps:.2g} of the peak"
        advice = f"the warm-up is longer than the run, which ends at {reached}: fewer warmup_steps, or more max_steps"
        return Check(name, measured, expected, WARN, advice)
    if settings.optimizer != "sgd" and tuple(settings.betas) == (0.0, 0.0):
        advice = "betas of 0 leave the sign of each gradient, nothing is averaged; usual is (0.9, 0.95 to 0.999)"
        return Check(name, f"{measured}, betas (0, 0)", "moments that average", WARN, advice)
    return Check(name, measured, expected, OK)


def decay(plan: Plan) -> Check:
    """Decoupled decay multiplies a weight by 1 - learning_rate weight_decay in each update: from 1 on it turns round or
    grows, and long before that it forgets faster than it learns."""
    settings = plan.settings
    name, shrinks = "weight decay", plan.settings.shrinks
    measured = f"an update at the peak multiplies weights by {shrinks:.6g}"
    expected = f"{SHRINKS} to 1"
    factors = settings.decay_in_words()
    if shrinks <= 0:
        advice = f"{factors}: weights change their sign{' and grow' if shrinks < -1 else ''}; a smaller weight_decay"
        return Check(name, measured, expected, FAIL, advice)
    if shrinks < SHRINKS:
        advice = (
            f"{factors}: what was learned is forgotten within a few updates; usual is a weight_decay of 0.01 to 0.1"
        )
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def windows(plan: Plan) -> Check:
    """There is more than one window to learn, no fewer than an update takes, and a window has something to look back
    on."""
    source = plan.sources.train
    name, rows = "windows", source.batch_size * source.grad_accum
    measured = f"{source.windows} windows of {source.seq_len} tokens, {rows} rows an update"
    expected = "more windows than rows, each of 2 tokens or more"
    if source.seq_len == 1:
        advice = "in a context of one token nothing comes before: no more than pairs can be learned; a longer seq_len"
        return Check(name, measured, expected, WARN, advice)
    if source.windows == 1:
        return Check(name, measured, expected, WARN, "one window is learned by heart: more data, or a smaller seq_len")
    if rows > source.windows:
        advice = (
            f"{source.windows} windows for {rows} rows: each stands {rows / source.windows:.3g} times in an update, "
            "which learns no more than once would teach; a smaller batch_size, or more data"
        )
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def start(plan: Plan) -> Check:
    """Whether training begins from new weights, and what the head is."""
    name, expected = "model", "new weights for a ModelConfig, else those of the Model"
    size, config = plan.config.num_parameters(), plan.config
    own = 0 if config.tie_embeddings else config.vocab_size * config.d_model
    head = f"the head has {own} of its own (untied)" if own else "the head is the token embedding (tied)"
    if config.labels:
        head = f"the head gives scores of {config.num_labels} classes"
    weights = "new weights, made from a ModelConfig" if plan.new else "the weights of the Model given"
    measured = f"{weights}; {size} parameters, {head}"
    if plan.loaded_from is not None:
        advice = (
            f"this is the config of the model in {plan.loaded_from}, whose weights are not used: pass the Model itself"
        )
        return Check(name, measured, expected, WARN, advice)
    if plan.new and 0 < plan.settings.learning_rate <= FINE_TUNING:
        advice = (
            f"learning_rate {plan.settings.learning_rate:g} is one for fine-tuning: if trained weights were meant, "
            "pass the Model that has them"
        )
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def evaluations(plan: Plan) -> Check | None:
    """What the evaluations cost beside the updates; None without held-out data of known size."""
    held_out, settings, total = plan.sources.eval, plan.settings, plan.total
    if plan.stream is None or held_out is None or not hasattr(held_out, "windows"):
        return None
    each = held_out.windows * held_out.seq_len
    count = 1 if settings.eval_every is None or total is None else max(1, total // settings.eval_every)
    name, expected = "evaluation", "less than the training"
    part = "" if held_out.share == 1 else f" ({held_out.share:.2g} of the held-out ones)"
    measured = f"{count} of {each} tokens{part}"
    if total is None:
        return Check(name, measured, expected, OK)
    source = plan.sources.train
    learned = total * source.batch_size * source.grad_accum * source.seq_len
    cost = FORWARD * count * each / learned
    if count > 1:
        measured += f", about {cost:.2g} of the work of the updates"
    if count > 1 and cost > 1 and count * each > COSTLY:
        return Check(name, measured, expected, WARN, "a larger eval_every, or fewer eval_tokens")
    return Check(name, measured, expected, OK)
