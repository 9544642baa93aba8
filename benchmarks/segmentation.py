"""Masks by clicks beside OpenCV's GrabCut: the same pictures and protocol, mean IoU after 1, 3, 5 clicks.

Two parts: the held-out pictures of --data, and real masks, which nobody pasted: 25 things in two photographs that the
wheel of scikit-image carries. 24 are Greek coins, outlined by the recipe of its documentation (watershed of the Sobel
edges from sure markers). One is the motorcycle of Middlebury's stereo set, whose distances were measured with
structured light: its mask is what stands nearer than the shelves and above the plane of the floor. Each is seen in a
square of three times its longer side, or in as much of it as the photograph has.

Each side gets the next click in the middle of its own largest error. GrabCut is given a disc of 3 pixels around each
click as sure, and the rest as probable: within a quarter of the side of the first click foreground, elsewhere
background; five iterations, OpenCV's random numbers seeded.

Bar: after 3 clicks at least 0.15 above GrabCut on --data. Printed are means, the paired difference with a 95 %
bootstrap interval, and the median time of a click on the processor (the picture seen, and seen already). The coins lie
in one photograph, bright on dark, so their interval says nothing about other photographs; one motorcycle has none.

Usage: python benchmarks/segmentation.py PROGRAM [--data stamps] [--most 200] [--peer-python PATH]; consents to fetching
the data. OpenCV and scikit-image are taken from this environment, or from that of PATH (pip install
opencv-python-headless scikit-image numpy).

Sources: https://scikit-image.org/docs/stable/auto_examples/applications/plot_coins_segmentation.html; Scharstein et al.
2014, "High-resolution stereo datasets with subpixel-accurate ground truth",
https://vision.middlebury.edu/stereo/data/scenes2014/.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sw2.base.store import sha256_of_bytes
from sw2.catalog import catalog
from sw2.core.data import Example, Split
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.domains.vision.segmentation.task import (
    CLICKS,
    Answers,
    ClickSegmenter,
    ImageSegmentation,
    SegmentationOptions,
    clicked,
    pictures_seen,
)
from sw2.parts.metrics.intervals import paired_bootstrap

# Answers the clicks that come on standard input, "PICTURE x y label x y label …", with a file of a mask.
PEER = """
import sys
import cv2
import numpy as np
folder, radius = sys.argv[1], 3
for line in sys.stdin:
    number, *values = map(int, line.split())
    image = np.load(f"{folder}/{number}.npy")[..., ::-1].copy()
    side = image.shape[0]
    clicks = np.array(values).reshape(-1, 3)
    y, x = np.mgrid[:side, :side]
    mask = np.full((side, side), cv2.GC_PR_BGD, np.uint8)
    mask[np.hypot(x - clicks[0, 0], y - clicks[0, 1]) < side / 4] = cv2.GC_PR_FGD
    for left, top, label in clicks:
        mask[np.hypot(x - left, y - top) <= radius] = cv2.GC_FGD if label else cv2.GC_BGD
    cv2.setRNGSeed(0)
    cv2.grabCut(image, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    np.save(f"{folder}/mask.npy", (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))
    print("done", flush=True)
"""

# Writes one file for each thing, NAME.npz with the photograph and the thing's mask, both cut out around it.
REAL = """
import sys
import numpy as np
from scipy import ndimage
from skimage import data, filters, segmentation

def write(name, image, mask):
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    half = 1.5 * max(ys[-1] - ys[0], xs[-1] - xs[0])
    top, left = (max(round((each[0] + each[-1]) / 2 - half), 0) for each in (ys, xs))
    cut = slice(top, top + round(2 * half)), slice(left, left + round(2 * half))
    np.savez(f"{sys.argv[1]}/{name}.npz", image=image[cut], mask=mask[cut])

grey = data.coins()
markers = np.where(grey < 30, 1, np.where(grey > 150, 2, 0))
numbered, count = ndimage.label(ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(grey), markers) == 2))
sizes = np.bincount(numbered.ravel())
coins = [number for number in range(1, count + 1) if sizes[number] > 100]
assert len(coins) == 24, len(coins)
for number in coins:
    write(f"coin-{number:02d}", np.repeat(grey[..., None], 3, 2), numbered == number)

image, _, disparity = data.stereo_motorcycle()
known = np.isfinite(disparity)
y, x = np.mgrid[: len(disparity), : disparity.shape[1]]
floor = known & ((y > 470) & (x < 640) | (y > 380) & (x < 90) | (y > 420) & (x > 705))
level = np.stack((x, y, np.ones_like(x)), -1)
plane = level @ np.linalg.lstsq(level[floor].astype(float), disparity[floor], rcond=None)[0]
near = ndimage.binary_closing(known & (disparity > np.maximum(plane + 1.5, 33)), iterations=3)
numbered, _ = ndimage.label(near)
write("motorcycle", image, numbered == np.bincount(numbered.ravel())[1:].argmax() + 1)
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--data", default="stamps")
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--peer-python", default=sys.executable)
    given = parser.parse_args()
    context = Context(confirm=lambda question: True)
    program = catalog().program(given.program, context)
    task = ImageSegmentation()
    data = task.read(given.data, SegmentationOptions(test=given.most, validation=0), context)
    real = _real(given.peer_python)
    coins = [example for example in real if example["name"] != "motorcycle"]
    others = [example for example in real if example["name"] == "motorcycle"]
    _compare(f"pictures of {given.data}", data.split("test")[: given.most], program, given.peer_python)
    _compare("real masks: coins of one photograph", coins, program, given.peer_python)
    _compare("real masks: a motorcycle", others, program, given.peer_python)
    runtime = program.capability(ClickSegmenter)
    _times(runtime, list(pictures_seen(data.split("test")[:20], runtime.prep)))


def _real(python: str) -> list[Example]:
    """The things of two photographs with their masks."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([python, "-c", REAL, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{done.stderr}\nNo real masks; is scikit-image there? See --peer-python.")
        made: list[Example] = []
        for path in sorted(Path(folder).glob("*.npz")):
            with np.load(path) as file:
                image, mask = file["image"], file["mask"]
            digest = sha256_of_bytes(image.tobytes() + mask.tobytes())
            made.append({"image": image, "mask": mask, "name": path.stem, "sha256": digest})
        return made


def _compare(title: str, held_out: Split, program: Program, peer_python: str) -> None:
    """Print a line for each number of clicks."""
    runtime, context = program.capability(ClickSegmenter), Context()
    pictures = list(pictures_seen(held_out, runtime.prep))
    ours = np.array(ImageSegmentation().judge(program, held_out, context)[0].details["clicks"])
    theirs = _grabcut(pictures, peer_python)
    print(f"{len(pictures)} {title}, {runtime.side} pixels a side")
    for clicks in (1, 3, 5):
        one, other = ours[:, clicks - 1], theirs[:, clicks - 1]
        gain = paired_bootstrap(other, one, seed=0)
        between = f" ({gain.low:+.3f} to {gain.high:+.3f})" if len(one) > 1 else ""
        print(
            f"{clicks} click{'s' if clicks > 1 else ' '}: sw2 {one.mean():.3f}  GrabCut {other.mean():.3f}  "
            f"difference {gain.value:+.3f}{between}"
        )


def _grabcut(pictures: list[tuple[np.ndarray, np.ndarray]], python: str) -> np.ndarray:
    """The IoU of OpenCV's masks after each click, [N, 5]."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", PEER, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:

            def answer(number: int, clicks: object) -> np.ndarray:
                assert peer.stdin is not None
                assert peer.stdout is not None
                print(number, *np.array(clicks).ravel(), file=peer.stdin, flush=True)
                if peer.stdout.readline() != "done\n":
                    raise SystemExit("GrabCut did not answer; is opencv-python-headless there? See --peer-python.")
                mask: np.ndarray = np.load(Path(folder) / "mask.npy")
                return mask

            found_N5 = []
            for number, (image, target) in enumerate(pictures):
                np.save(Path(folder) / f"{number}.npy", image)
                found_N5.append(clicked(target, lambda clicks, number=number: answer(number, clicks)))  # type: ignore[misc]
            assert peer.stdin is not None
            peer.stdin.close()
    return np.array(found_N5)


def _times(runtime: ClickSegmenter, pictures: list[tuple[np.ndarray, np.ndarray]]) -> None:
    first, further = [], []
    for image, _ in pictures:
        begin = time.perf_counter()
        square = runtime.prep.normalise(torch.from_numpy(image).permute(2, 0, 1)[None])
        answers = Answers(runtime.net, square)
        points, labels = torch.full((1, CLICKS, 2), 0.5), torch.ones(1, CLICKS, dtype=torch.int64)
        answers.to(points[:, :1], labels[:, :1])
        first.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        answers.to(points, labels)
        further.append(time.perf_counter() - begin)
    one, more = (1000 * statistics.median(seconds) for seconds in (first, further))
    print(f"first click {one:.0f} ms, a further one {more:.0f} ms (bar 100)")


if __name__ == "__main__":
    main()
