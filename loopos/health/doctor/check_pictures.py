"""What the doctor asks of a model that looks at pictures: that they come in, and that every token sees all of them."""

from __future__ import annotations

import numpy as np

from loopos.vision.pixels import normalised

from .check_forward import precision
from .patient import NotApplicable
from .report import FAIL, OK, WARN, Check
from .seen import PicturePatient, SeenClasses

FLAT = 1e-3  # deviation of the numbers of a picture that shows nothing
FAR = 3.0  # from 0, of the mean of normalised numbers
NARROW = 0.05  # their deviation


def pixels(patient: PicturePatient) -> Check:
    """The pictures show something, are not all the same, and are normalised as the model expects them."""
    name, expected = "pictures", f"different ones, normalised to a mean within {FAR:g} and a deviation above {NARROW:g}"
    images, vision = patient.model.images, patient.model.whole.vision
    numbers = normalised("doctor", images, vision, "float64")
    flat = int((numbers.reshape(len(numbers), -1).std(axis=1) < FLAT).sum())
    kinds = len({image.tobytes() for image in images})
    mean, deviation = float(numbers.mean()), float(numbers.std())
    measured = (
        f"{kinds} different ones of {len(images)}, {flat} of one colour, mean {mean:.2f}, deviation {deviation:.2f}"
    )
    if flat == len(images) or (kinds == 1 and len(images) > 1):
        return Check(name, measured, expected, FAIL, "nothing can be learned of these: look at how they are read")
    if 2 * flat > len(images):
        return Check(name, measured, expected, WARN, "most pictures show nothing: look at how they are read")
    if abs(mean) > FAR or deviation < NARROW:
        advice = "image_mean and image_std are not of these pictures; or they were normalised twice"
        return Check(name, measured, expected, WARN, advice)
    return Check(name, measured, expected, OK)


def matters(patient: PicturePatient) -> Check:
    """The logits of a row change when its picture is exchanged for another one of the batch."""
    name, images = "picture matters", patient.model.images
    ids = patient.batch[0][: len(images)]
    other = [next((k for k in range(len(images)) if (images[k] != images[row]).any()), row) for row in range(len(ids))]
    if all(k == row for row, k in enumerate(other)):
        raise NotApplicable("there is no other picture to exchange one for")
    before, after = patient.model.shown(images[: len(ids)], ids), patient.model.shown(images[other], ids)
    allowed = precision(before)
    moved = np.abs(after - before).max(axis=(1, 2)) / max(1e-30, float(np.abs(before).max()))
    still = int(sum(moved[row] <= allowed for row, k in enumerate(other) if k != row))
    measured = f"another picture moves the logits by {moved.max():.1e} of the largest"
    expected = f"above {allowed:.0e} in every row"
    if still:
        advice = (
            "the picture does not reach the logits: look at what projects the encoder into the decoder, at what tokens "
            "may see, and at the pictures themselves"
        )
        return Check(name, f"{measured}; {still} rows do not feel it", expected, FAIL, advice)
    return Check(name, measured, expected, OK)


def visible(patient: PicturePatient) -> Check:
    """Each token of a row, and the class of a classifier, feels the first, the middle and the last patch of its
    picture; no other row does."""
    name = "picture visible"
    vision, images = patient.model.whole.vision, patient.model.images[:2]
    images = images if len(images) > 1 else np.concatenate([images, images])
    ids = patient.batch[0][:2] if len(patient.batch[0]) > 1 else np.repeat(patient.batch[0], 2, axis=0)
    before = patient.model.shown(images, ids)
    blind, leaks = {}, 0
    for patch in sorted({0, _patches(vision) // 2, _patches(vision) - 1}):
        after = patient.model.shown(another_patch(images, vision, patch), ids)
        felt = (after[0] != before[0]).any(axis=-1)
        if not felt.all():
            blind[patch] = int((~felt).sum())
        leaks += int((after[1] != before[1]).sum())
    who = "a class" if isinstance(patient.model, SeenClasses) else f"each of {ids.shape[1]} tokens"
    expected = f"{who} feels every patch of its picture, and of no other"
    if blind:
        measured = ", ".join(f"{count} tokens do not feel patch {patch}" for patch, count in blind.items())
        advice = "what a token may see ends before the picture does: look at the visibility of the prefix"
        return Check(name, f"{measured} of {_patches(vision)}", expected, FAIL, advice)
    if leaks:
        advice = "rows of a batch see each other's pictures: look for a reshape that mixes them"
        return Check(name, f"{leaks} logits of another row feel it", expected, FAIL, advice)
    return Check(name, f"the first, middle and last of {_patches(vision)} patches are felt by {who}", expected, OK)


def rows_see(patient: PicturePatient) -> Check:
    """In an encoder every row sees all of its picture: the first patch moves every row, and so does the last."""
    model, images = patient.model.whole, patient.model.images[:2]
    name, expected = "rows see the picture", "every row feels every patch"
    before, vision = model.forward(images), model.config
    for patch in (0, _patches(vision) - 1):
        felt = (model.forward(another_patch(images, vision, patch))[0] != before[0]).any(axis=-1)
        if not felt.all():
            measured = f"{int((~felt).sum())} of {len(felt)} rows do not feel patch {patch}"
            return Check(name, measured, expected, FAIL, "an encoder is not causal: look at the mask of its attention")
    return Check(name, f"each of {len(felt)} rows feels the first patch and the last", expected, OK)


def generation(patient: PicturePatient) -> Check:
    """Captions are made with kept keys and values: their logits are those of whole forwards."""
    seen = patient.sibling()
    ids = patient.sibling_batch(rows=2)[0]
    images = seen.images[:2]
    whole = seen.whole.forward(images, ids)
    seen.whole.begin(images, ids.shape[1])
    steps = [seen.whole.next_logits(ids[:, at : at + 1]) for at in range(ids.shape[1])]
    error = float(np.abs(np.stack(steps, axis=1) - whole).max()) / float(np.abs(whole).max())
    measured = f"{ids.shape[1]} tokens of each row; logits with kept keys and values differ by {error:.1e}"
    if error <= 1e-10:
        return Check("generation", measured, "at most 1e-10", OK)
    advice = "the cache is wrong: positions behind the picture, or what is kept of a row"
    return Check("generation", measured, "at most 1e-10", FAIL, advice)


def another_patch(images: np.ndarray, vision: object, patch: int) -> np.ndarray:
    """The pictures, and in the first one other pixels in one patch."""
    side, across = vision.patch_size, vision.width // vision.patch_size  # type: ignore[attr-defined]
    top, left = patch // across * side, patch % across * side
    changed = images.copy()
    piece = changed[0, top : top + side, left : left + side]
    white = 255 if changed.dtype == np.uint8 else 1
    piece[...] = np.where(piece < white / 2, white, 0)
    return changed


def _patches(vision: object) -> int:
    return vision.rows - vision.class_token  # type: ignore[attr-defined]
