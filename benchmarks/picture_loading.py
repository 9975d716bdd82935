"""Pictures a second that are decoded, come out of the cache, or are drawn, beside those that a training step eats.

    python benchmarks/picture_loading.py [--pictures 200] [--width 500] [--height 375] [--setting tiny,nano_8gb]

A picture of Flickr8k is about 500 x 375. Loading is timed by the time of one processor, so a machine that is busy with
other things tells the same; a step (`loopos bench pictures`) by the clock, with all threads. Where one processor loads
more pictures a second than the step eats, a thread ahead of the step is enough; it takes their ratio of a processor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loopos.bench import picture_settings, precisions, suites
from loopos.vision import CaptionBatches, CaptionFolder, Shapes, WordVocabulary

STEPS = 200  # batches that are made out of the cache


def folder_of(path: Path, count: int, width: int, height: int) -> Path:
    """A folder in the layout of Flickr8k with smooth noise, which JPEG packs about as well as photographs."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (path / "Images").mkdir()
    lines = ["image,caption"]
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 12, width // 12, 3), np.uint8))
        image = np.asarray(coarse.resize((width, height))).astype(np.int64) + rng.integers(-12, 13, (height, width, 1))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path / "Images" / f"{number}.jpg", quality=90)
        lines += [f"{number}.jpg,A dog runs on the grass ."] * 5
    (path / "captions.txt").write_text("\n".join(lines))
    return path


def rate(pictures: int, make: Callable[[], object]) -> float:
    """Pictures a second of processor time."""
    before = time.process_time()
    make()
    return pictures / (time.process_time() - before)


def batch_rate(batches: CaptionBatches) -> float:
    def make() -> None:
        for step in range(STEPS):
            batches.batch(step)
        batches.close()

    return rate(STEPS * batches.batch_size, make)


def eaten(names: str, threads: int | None) -> dict[str, dict[str, float]]:
    """{setting: {precision: pictures a second of its step}}."""
    result = suites.run("pictures", setting=names, peers="loopos", rounds=1, threads=threads)
    precision = {engine: name for name, engine in precisions.OURS.items()}
    return {
        each["setting"]["name"]: {precision[peer["peer"]]: peer["pictures_per_second"] for peer in each["peers"]}
        for each in result["settings"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--setting", default=",".join(picture_settings.PICTURES))
    parser.add_argument("--threads", type=int, help="of the steps")
    asked = parser.parse_args()
    settings = picture_settings.named(asked.setting)
    vocabulary = WordVocabulary.of(["a dog runs on the grass ."])
    steps = eaten(asked.setting, asked.threads)
    print("pictures a second: a step by the clock, loading by the time of one processor")
    enough = True
    with tempfile.TemporaryDirectory() as name:
        path = folder_of(Path(name), asked.pictures, asked.width, asked.height)
        for setting in settings:
            size, most = setting.encoder.height, max(steps[setting.name].values())
            folder = CaptionFolder(path, image_size=size)
            first = rate(len(folder), lambda folder=folder, size=size: folder.kept(-(-size * 8 // 7)))
            batches = CaptionBatches(folder.part("train"), vocabulary, batch_size=setting.batch, ahead=0)
            found = {"first pass, decoded from JPEG": first, "later passes, out of the cache": batch_rate(batches)}
            if size == Shapes(1).image_size:
                shapes = Shapes(1000)
                words = WordVocabulary.of(shapes.captions(0))
                found["shapes, drawn"] = rate(1000, lambda shapes=shapes, size=size: shapes.kept(size))
                part = CaptionBatches(shapes.part("train"), words, batch_size=setting.batch, ahead=0)
                found["shapes, later passes"] = batch_rate(part)
            print(f"{setting.name}, {size} x {size} pixels")
            for precision, pictures in steps[setting.name].items():
                print(f"  a step eats, {precision:26} {pictures:10.1f}")
            for what, pictures in found.items():
                share = 100 * most / pictures
                print(f"  {what:39} {pictures:10.1f}   the fastest step takes {share:.1f} % of a processor")
                enough = enough and pictures >= most
    print("one processor loads as many as every step eats" if enough else "loading is too slow for the fastest step")
    sys.exit(0 if enough else 1)


if __name__ == "__main__":
    main()
