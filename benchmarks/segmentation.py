"""Masks by clicks beside OpenCV's GrabCut: the same held-out pictures and protocol, mean IoU after 1, 3, 5 clicks.

Each side gets the next click in the middle of its own largest error. GrabCut is given a disc of 3 pixels around each
click as sure, and the rest as probable: within a quarter of the side of the first click foreground, elsewhere
background; five iterations, OpenCV's random numbers seeded.

Bar: after 3 clicks at least 0.15 above GrabCut. Printed are means, the paired difference with a 95 % bootstrap
interval, and the median time of a click on the processor (the picture seen, and seen already).

Usage: python benchmarks/segmentation.py PROGRAM [--data stamps] [--most 200] [--peer-python PATH]; consents to fetching
the data. OpenCV is taken from this environment, or from that of PATH (pip install opencv-python-headless numpy).
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

from sw2.catalog import catalog
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
from sw2.parts.metrics.intervals import bootstrap, paired_bootstrap

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--data", default="stamps")
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--peer-python", default=sys.executable)
    given = parser.parse_args()
    context = Context(confirm=lambda question: True)
    program = catalog().program(given.program, context)
    runtime = program.capability(ClickSegmenter)
    task = ImageSegmentation()
    data = task.read(given.data, SegmentationOptions(test=given.most, validation=0), context)
    held_out = data.split("test")[: given.most]
    pictures = list(pictures_seen(held_out, runtime.prep))

    ours = np.array(task.judge(program, held_out, context)[0].details["clicks"])
    with tempfile.TemporaryDirectory() as folder:
        command = [given.peer_python, "-c", PEER, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None

            def grabcut(number: int, clicks: object) -> np.ndarray:
                assert peer.stdin is not None
                assert peer.stdout is not None
                print(number, *np.array(clicks).ravel(), file=peer.stdin, flush=True)
                if peer.stdout.readline() != "done\n":
                    raise SystemExit("GrabCut did not answer; is opencv-python-headless there? See --peer-python.")
                mask: np.ndarray = np.load(Path(folder) / "mask.npy")
                return mask

            theirs_N5 = []
            for number, (image, target) in enumerate(pictures):
                np.save(Path(folder) / f"{number}.npy", image)
                theirs_N5.append(clicked(target, lambda clicks, number=number: grabcut(number, clicks)))  # type: ignore[misc]
            peer.stdin.close()
    theirs = np.array(theirs_N5)
    print(f"{len(pictures)} pictures of {given.data}, {runtime.side} pixels a side")
    for clicks in (1, 3, 5):
        one, other = ours[:, clicks - 1], theirs[:, clicks - 1]
        gain = paired_bootstrap(other, one, seed=0)
        print(
            f"{clicks} clicks: sw2 {bootstrap(one, seed=0).value:.3f}  GrabCut {other.mean():.3f}  "
            f"difference {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        )
    _times(runtime, pictures)


def _times(runtime: ClickSegmenter, pictures: list[tuple[np.ndarray, np.ndarray]]) -> None:
    first, further = [], []
    for image, _ in pictures[:20]:
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
