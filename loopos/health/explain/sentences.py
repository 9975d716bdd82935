"""Sentences that programs print when something is wrong, and what each of them means.

Where they are known from: PyTorch, transformers, Lightning, DeepSpeed, apex, detectron2, Megatron-LM, NumPy,
scikit-learn, JAX, TensorFlow, Keras, safetensors, LoopOS.
"""

from __future__ import annotations

from .findings import CERTAIN, LIKELY, POSSIBLE
from .symptoms import COUNT_LABELS, FIRST_BAD, IN_SENTENCE, Symptom, symptom

SYMPTOMS: tuple[Symptom, ...] = (
    symptom(
        "step-skipped",
        LIKELY,
        "optimizer.step",
        r"lr_scheduler\.step\(\)`? before `?optimizer\.step\(\)",
        "the warning is usually true: when it is printed, no optimizer.step() has been done. Either the calls are in "
        "the wrong order, or the order is right and the step was skipped, as a gradient scaler or a finiteness check "
        "does when gradients are not finite: then nothing has been learned so far.",
        "count the steps that were attempted and those that were applied; compare one weight before and after a step",
    ),
    symptom(
        "step-marked-bad",
        CERTAIN,
        "ok=false",
        r"\bok=False\b",
        "the program itself marked this step as not sound, so it was presumably not applied.",
        "count the steps that were attempted and those that were applied",
    ),
    symptom(
        "invalid-operation",
        LIKELY,
        "-nan",
        r"(?<![\w.>-])-nan(?:\(\w*\))?(?![\w-])",
        "on x86 the sign tells: a NaN that the processor makes from 0/0, inf - inf, 0*inf or the root of a negative "
        "number is printed -nan by C and C++, a NaN literal as nan. So this one was most likely computed, in the "
        "forward pass that gave this loss; weights that are never updated cannot create it. (On ARM, and from Python, "
        "the sign tells nothing.)",
        "trap the operation (feenableexcept(FE_INVALID) in C, numpy.errstate(invalid='raise')); look at the first "
        "forward: range of the logits, a row with everything masked, log of a probability that is 0",
    ),
    symptom(
        "backward-nan",
        CERTAIN,
        "backward",
        r"Function '?(?P<op>\w+?)(?:Backward\d*)'? returned nan values in its (?P<n>\d+)\w\w output",
        "the gradient of {op} (its input {n}) is NaN. The forward value may have been finite: the slope of a root or "
        "a norm at 0, of log at 0 and of a masked branch under where() is not.",
        "print the inputs of the forward {op} at the line that anomaly mode shows, and the gradient that came into "
        "it: if that was already NaN or inf, the birth is further down",
    ),
    symptom(
        "label-out-of-range",
        CERTAIN,
        "out of|outside|assertion|is not in [|must be in 0..|class values must be",
        r"Target (?P<t>-?\d+) is out of bounds|index out of range in self"
        rf"|\b(?:label|target|id|token|class(?:es)?)s?\b{IN_SENTENCE}{{0,60}}"
        r"(?:out of (?:range|bounds)|outside (?:of )?(?:the|its) )"
        r"|Assertion [`'\"]?(?:(?:t|cur_target|label|target) >= 0 && (?:t|cur_target|label|target) < n_classes"
        r"|srcIndex < srcSelectDimSize|idx_dim >= 0 && idx_dim < index_size|-?sizes\[i\] <= index)"
        r"|indices\[[\d, ]*\] = -?\d+ is not in \[0, \d+\)|(?:ids|targets) must be in 0\.\.\d+"
        r"|Class values must be (?:smaller than num_classes|non-negative)",
        "a label or a token id is outside 0..V-1.",
        "compare the minimum and maximum of ids and labels with the rows of the embedding (vocab_size), special "
        "tokens included",
    ),
    symptom(
        "label-out-of-range",
        POSSIBLE,
        "out of bounds",
        r"index (?P<i>-?\d+) is out of bounds for (?:axis|dimension) \d+ with size (?P<n>\d+)",
        "index {i} was read from {n} rows. Where those are the rows of an embedding, or classes, it is a token id or a "
        "label outside 0..{n}-1.",
        "look at the line that indexes; compare the minimum and maximum of ids and labels with vocab_size",
    ),
    symptom(
        "label-out-of-range",
        LIKELY,
        "device-side assert",
        r"device-side assert",
        "on a GPU this is most often an id or a label outside its range; the line shown may be far from the place.",
        "run the same batch on the CPU, where the message has the value; or set CUDA_LAUNCH_BLOCKING=1",
    ),
    symptom(
        "labels-masked",
        CERTAIN,
        "-100",
        rf"(?:all|every|each)\b{IN_SENTENCE}{{0,60}}\b(?:labels?|targets?)\b{IN_SENTENCE}{{0,60}}-100",
        "the program says that every label is masked: there is nothing to learn from, and a mean over no label is 0/0.",
        COUNT_LABELS,
    ),
    symptom(
        "exp-overflow",
        CERTAIN,
        "overflow encountered",
        r"overflow encountered in (?:exp|expm1|cosh|sinh|power|logaddexp)",
        "exp of more than 88.72 (float32; 709.78 in float64) is infinite. What follows, inf/inf or inf - inf, is NaN.",
        "subtract the maximum before exp, or use a fused log-softmax; then look why the argument is that large",
    ),
    symptom(
        "product-overflow",
        CERTAIN,
        "overflow",
        r"overflow encountered in (?!exp|cosh|sinh|power|logaddexp)(?P<op>\w+)",
        "a result of {op} is beyond the largest number of its type (3.4e38 in float32, 65504 in float16).",
        "print the magnitudes of both operands one step before",
    ),
    symptom(
        "log-zero",
        CERTAIN,
        "divide by zero",
        r"divide by zero encountered in log",
        "the log of an exact 0 is -inf: a probability has underflowed, or a count is 0.",
        "compute log-softmax directly from logits instead of log(softmax)",
    ),
    symptom(
        "invalid-operation",
        CERTAIN,
        "invalid value",
        r"invalid value encountered in (?P<op>\w+)",
        "a NaN was made in {op}: 0/0, inf - inf, 0*inf, or a root or log of a negative number.",
        "numpy.errstate(invalid='raise') stops at the line; print its operands",
    ),
    symptom(
        "invalid-operation",
        CERTAIN,
        "invalid value",
        r"invalid value \(nan\) encountered in (?P<op>[\w()./<>-]+)",
        "a NaN was made in {op}.",
        "run without jit, so that the first primitive with a NaN output is named; print its operands",
    ),
    symptom(
        "half-precision",
        LIKELY,
        "scale",
        r"(?:loss )?scale (?:is )?already at minimum|minimum loss scale",
        "the loss scale fell until it could fall no more: gradients have been inf or NaN at every step for a while. "
        "The scale is the symptom; raising it or its minimum hides it.",
        "run one batch in float32: if it is not finite there either, half precision is not the cause",
    ),
    symptom(
        "half-precision",
        POSSIBLE,
        "overflow|skipping step",
        rf"gradient overflow|OVERFLOW!|overflow{IN_SENTENCE}{{0,40}}skipping step"
        rf"|skipping step{IN_SENTENCE}{{0,60}}(?:loss scale|scaler)",
        "a step was skipped because float16 gradients overflowed. A few of these at the start are normal: the scale "
        "is being found. All the time they mean gradients that are not finite in any precision.",
        "count skipped against applied steps; run one batch in float32",
    ),
    symptom(
        "half-precision",
        CERTAIN,
        "unscale fp16",
        r"Attempting to unscale FP16 gradients",
        "the trainable weights are float16; a gradient scaler wants them in float32.",
        "keep what is trained (adapters too) in float32 and let autocast lower the arithmetic",
    ),
    symptom(
        "half-precision",
        CERTAIN,
        "not implemented for",
        r"\"(?P<op>\w+)\" not implemented for '(?P<type>Half|BFloat16)'",
        "{op} does not exist for {type} on this device: on a CPU much of half precision is missing. No number is "
        "wrong.",
        "load the model in float32 on a CPU (torch_dtype=torch.float32, or model.float()); bfloat16 has more of it "
        "there than float16",
    ),
    symptom(
        "half-precision",
        CERTAIN,
        "expected scalar type|to have the same dtype|same dtype",
        r"expected scalar type \w+ but found \w+|expected m1 and m2 to have the same dtype"
        r"|mat1 and mat2 must have the same dtype",
        "two operands have different types: a part of the model, or its input, was cast to another precision. No "
        "number is wrong.",
        "list the dtype of every parameter and of the input; cast them all, or let autocast do it",
    ),
    symptom(
        "no-gradient",
        CERTAIN,
        "no inf checks",
        r"No inf checks were recorded for this optimizer",
        "the gradient scaler met no gradient at all: none of this optimizer's parameters has one.",
        "list the parameters of the optimizer whose grad is None after backward",
    ),
    symptom(
        "no-gradient",
        CERTAIN,
        "grad",
        r"does not require grad and does not have a grad_fn|None of the inputs have requires_grad=True",
        "the loss is not connected to any trainable weight: nothing can be learned.",
        "list the parameters with requires_grad; look for detach(), no_grad(), .data or .item() between them and the "
        "loss; with checkpointing of a frozen model, make the inputs require a gradient",
    ),
    symptom(
        "no-update",
        LIKELY,
        "learning|(void)|weight|backprop",
        r"\(void\)\s?(?:learning_rate|lr)\b|learning rate is never used|no weight updates|no backpropagation"
        r"|never updates? (?:the )?weights",
        "as the text says, no weight is ever updated. This explains a loss that does not fall. It cannot create a "
        "NaN: one that is there was made in the forward pass with the first weights.",
        "compare every weight before and after a step; double the rate and see whether the second loss changes; and, "
        "for the NaN, look at the very first forward",
    ),
    symptom(
        "initialisation",
        LIKELY,
        "logit",
        rf"\blogits?\b{IN_SENTENCE}{{0,60}}?(?<!\d)(?:[-−–]?\d{{3,}}(?:\.\d+)?\s?(?:to|and|\.\.\.?|…)\s?[+-]?\d{{3,}}"
        r"|(?:±|\+/-|\+-)\s?\d{3,})",
        "logits of hundreds at the start mean weights that are initialised too large; the first loss should be near "
        "ln V plus half the variance of the logits.",
        "print the standard deviation of the first logits; initialise with about 0.02",
    ),
    symptom(
        "memory",
        CERTAIN,
        "memory|bad_alloc|allocate",
        r"out of memory(?![^\n]{0,20}[:=]\s*0\b)|can't allocate memory|cannot allocate memory"
        r"|\bMemoryError\b(?=\s*(?:[:(]|$))|bad_alloc"
        r"|Unable to allocate",
        "memory ran out; this is no numerical fault.",
        "a smaller batch with more accumulation has the same gradient",
    ),
    symptom(
        "norm-overflow",
        LIKELY,
        "non-finite",
        rf"total norm of order [\d.]+ for gradients{IN_SENTENCE}{{0,40}}is non-finite",
        "the gradient norm is not finite. Either a gradient is, or finite ones of 1e19 and more overflowed when "
        "squared.",
        "take the norm in float64: if it is finite, the squares overflowed; else name the first parameter whose "
        "gradient is not",
    ),
    symptom(
        "not-finite-reported",
        CERTAIN,
        "nan|inf|finite|invalid loss",
        r"Detected nan and/or inf values in|Invalid loss, terminating training|loss is (?:nan or inf|not finite"
        r"|non-?finite)"
        r"|Tensor had (?:NaN|Inf) values|input (?:\w{1,20} )?contains (?:nan|inf)|Loss is nan, stopping"
        r"|NaN loss during training"
        r"|loss became infinite or nan|diverged with loss = nan|found nan in local"
        r"|non-?finite (?:loss|grad(?:ient)?s?(?: norm)?)\b(?! (?:check|guard|filter|steps?: 0))",
        "the program stopped at a number that is not finite, or reports one; it does not say where it was born.",
        FIRST_BAD,
    ),
    symptom(
        "not-finite-reported",
        CERTAIN,
        "nan|inf",
        r"(?<!no )(?<!0 )\b(?:nan|inf)(?:s|/inf|/nan| (?:or|and) (?:nan|inf))?(?: (?:value|element|gradient)s?)?"
        r" (?:was |were |is )?"
        r"(?:detected|encountered|found) (?:in|at|for)\b(?! input tensor)"
        r"|\b(?:detected|found|encountered) (?:a |an )?(?:nan|inf)s?(?:/(?:nan|inf))?(?: or (?:nan|inf))? in\b"
        r"(?![^\n]{0,30}[:=]\W*(?:0|false)\b)"
        r"|\bgrad(?:ient)?s? (?:is|are|was|were|became) (?:nan|inf(?:inite)?)\b",
        "the program met a number that is not finite; it does not say where it was born.",
        FIRST_BAD,
    ),
    symptom(
        "not-finite-reported",
        CERTAIN,
        "nan or inf found|inf or nan found",
        r"(?<!no )(?:nan or inf|inf or nan) found in input tensor",
        "something that was given to the logger (a scalar or a histogram of TensorBoard) is not finite. It need not be "
        "the loss, and the line does not say what it was.",
        "test what is logged with isfinite, name by name; then " + FIRST_BAD,
    ),
    symptom(
        "not-finite-reported",
        CERTAIN,
        "probability tensor|invalid values",
        r"probability tensor contains either `?inf`?, `?nan`? or element"
        r"|to satisfy the constraint.{0,120}found invalid values",
        "the probabilities to sample from are not sound: the logits before them hold NaN or inf, so a weight, an "
        "activation in half precision or an input is not finite.",
        "test every weight with isfinite; run the same prompt in float32: logits that are finite there blame the "
        "precision",
    ),
    symptom(
        "not-finite-reported",
        LIKELY,
        "nan|inf",
        rf"\bloss\b{IN_SENTENCE}{{0,30}}\b(?:becomes?|became|goes to|went|turn(?:s|ed)|is|was|=|:)\s{{0,2}}"
        r"(?:to |into )?`?nan\b"
        r"|\b(?:nan|inf(?:inite)?) (?:loss(?:es)?|gradients?)\b(?![^\n]{0,24}[:=]\s*\W*0\b)",
        "the text speaks of numbers that are not finite.",
        "get the log lines of the last healthy and the first bad step: loss, gradient norm and rate",
    ),
    symptom(
        "damaged-file",
        CERTAIN,
        "deserializing header",
        r"Error while deserializing header: ?(?P<what>\w*)",
        "the file is no whole safetensors file ({what}): a git-lfs pointer or a web page in its place (both are text, "
        "and their first bytes read as an absurd size), another format, or a download that was cut off.",
        "look at the size and at the first 100 bytes of the file: a pointer begins with 'version https://git-lfs', a "
        "page with '<'. Fetch the file itself (git lfs pull, or download again)",
    ),
    symptom(
        "damaged-file",
        LIKELY,
        "unable to load weights",
        r"Unable to load weights from (?:pytorch )?checkpoint file",
        "the file of weights could not be read, whatever the rest of the sentence proposes: a git-lfs pointer in its "
        "place, or a download that was cut off.",
        "look at the size and at the first 100 bytes of the file; fetch it again",
    ),
    symptom(
        "damaged-file",
        LIKELY,
        "expecting value",
        r"Expecting value: line 1 column 1 \(char 0\)",
        "a file that is read as JSON is empty or something else: a git-lfs pointer, a web page, an unfinished write.",
        "look at the first 100 bytes of the file that is named in the trace",
    ),
    symptom(
        "damaged-file",
        CERTAIN,
        "invalid load key|pytorchstreamreader|central directory|ran out of input|might be corrupted|unexpected eof",
        r"invalid load key, |PytorchStreamReader failed|Ran out of input|file might be corrupted"
        r"|failed finding central directory|unexpected EOF, expected \d+ more bytes",
        "the file is not what it is read as, or it was cut off. The load key 'v' is that of a git-lfs pointer "
        "('version https://git-lfs'), '<' that of a web page.",
        "look at the size and at the first 100 bytes of the file, and fetch it again (git lfs pull)",
    ),
    symptom(
        "last-batch",
        POSSIBLE,
        "epoch",
        rf"\bnan\b{IN_SENTENCE}{{0,60}}\b(?:at|near) (?:the )?end of (?:the )?(?:first |each |every |an? )?epoch",
        "a NaN at the end of an epoch points to its last batch, which is smaller than the others or empty.",
        "drop the last batch: if the NaN is gone, look at its size and at the number of its labels",
    ),
    symptom(
        "data-not-finite",
        POSSIBLE,
        "zerodivision",
        r"ZeroDivisionError",
        "a count that was divided by is 0; in training code most often the number of batches, of tokens or of labels "
        "that are not masked.",
        COUNT_LABELS,
    ),
)
