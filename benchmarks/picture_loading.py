"""Pictures a second, by the time of the processor: decoded from JPEG files, out of the cache, and drawn.

    python benchmarks/picture_loading.py [--pictures 200] [--width 500] [--height 375]

A picture of Flickr8k is about 500 x 375. Time is that of all threads together, so a machine that is busy with other
things tells the same; pictures a second of wall clock are up to the number of threads times as many.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loopos.vision import CaptionBatches, CaptionFolder, Shapes, WordVocabulary


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


def batch_rate(batches: CaptionBatches, steps: int) -> float:
    def make() -> None:
        for step in range(steps):
            batches.batch(step)
        batches.close()

    return rate(steps * batches.batch_size, make)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    asked = parser.parse_args()
    vocabulary = WordVocabulary.of(["a dog runs on the grass ."])
    print("pictures a second of one processor")
    with tempfile.TemporaryDirectory() as name:
        path = folder_of(Path(name), asked.pictures, asked.width, asked.height)
        for size in (224, 64):
            folder = CaptionFolder(path, image_size=size)
            decoded = rate(len(folder), lambda folder=folder, size=size: folder.kept(-(-size * 8 // 7)))
            print(f"  {size:3}: decoded from JPEG {decoded:8.0f}")
            batches = CaptionBatches(folder.part("train"), vocabulary, ahead=0)
            print(f"  {size:3}: batches, decoded before {batch_rate(batches, 200):8.0f}")
    shapes = Shapes(1000)
    print(f"   64: shapes drawn {rate(1000, lambda: shapes.kept(64)):8.0f}")
    batches = CaptionBatches(shapes.part("train"), WordVocabulary.of(shapes.captions(0)), ahead=0)
    print(f"   64: batches of shapes {batch_rate(batches, 300):8.0f}")


if __name__ == "__main__":
    main()
