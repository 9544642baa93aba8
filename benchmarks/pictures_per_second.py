"""Training pictures a second of one ResNet on Fashion-MNIST: `sw2 train` beside two loops of plain PyTorch.

    sw2              `sw2 train image-classification fashion-mnist` as it comes: Muon, an average of the weights, health
                     probes, checkpoints; the clock is that of the run's own events
    sw2 with SGD     the same with the peers' optimiser (`--set learn.gradient.optim.method=sgd`),
                     so that loops are compared
    sw2 with SGD, compiled   and under `--set learn.gradient.compile=on`
    plain            a Dataset that normalises, shifts and mirrors one picture at a time, a DataLoader in the same
                     process, fp32
    best             pictures as one array in memory and batches by one gather, channels-last, bf16 autocast, SGD with
                     `foreach`, freed memory kept
    best, compiled   the same under `torch.compile`

    python benchmarks/pictures_per_second.py --threads 1 --rounds 3 --steps 200

Every side trains the network of the recipe (`domains.vision.resnet`), in the recipe's batches; the peers by torch's own
operations, sw2 with batch normalisation and ReLU as one (`parts.layers.batch_norm`), and with the first convolution, of
one channel, as a product. Sides take turns, each in a process of its own; warm-up and compiling are before the clock. A
rate is pictures by time on the wall from step `--warm` to the last one. sw2 looks at its progress once, where a
training does so ten times however long it is: of so few steps ten checkpoints would be a large share. Bars: sw2 at
least 1.3 times plain, and 1.0 times the better of the two best. The peers' loops do nothing else: no record, no guard,
no checkpoint; they read the loss at every step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from fashion_peers import KEPT, SHIFT, Pictures, export

__all__ = ["main"]

SIDES: Final = ("sw2", "sw2 with SGD", "sw2 with SGD, compiled", "plain", "best", "best, compiled")
BATCH: Final = 256
PLAIN: Final = {"SW2_NATIVE": "off"}  # the network by torch's operations alone


def be_sw2(told: Mapping[str, Any]) -> float:
    """Pictures a second of the driver, from the events that the run writes."""
    import torch

    import sw2

    torch.set_num_threads(told["threads"])
    settings: dict[str, str] = {"learn.gradient.optim.method": "sgd"} if "SGD" in told["side"] else {}
    if told["side"].endswith("compiled"):
        settings["learn.gradient.compile"] = "on"
    with tempfile.TemporaryDirectory() as folder:
        settings["trainer.evaluations"] = "1"
        program = sw2.train(
            "image-classification", "fashion-mnist", steps=told["steps"], out=f"{folder}/run", settings=settings
        )
        lines = (Path(folder) / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert program.card.facts["steps"] == told["steps"]
    seconds = {row["step"]: row["seconds"] for row in map(json.loads, lines) if row["kind"] == "step"}
    return (told["steps"] - told["warm"]) * BATCH / float(seconds[told["steps"]] - seconds[told["warm"]])


def be_torch(told: Mapping[str, Any]) -> float:
    """Pictures a second of a plain loop."""
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, Dataset

    from sw2.domains.vision.resnet import Config, GreyConvolution, ResNet

    torch.set_num_threads(told["threads"])
    torch.manual_seed(0)
    best = told["side"] != "plain"
    net = ResNet(Config())
    for module in net.modules():  # as anybody would write it
        if isinstance(module, GreyConvolution):
            module.__class__ = torch.nn.Conv2d
    if best:
        net = net.to(memory_format=torch.channels_last)
    pictures = Pictures(Path(told["file"]), BATCH, 0)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=best)
    call = torch.compile(net, dynamic=False) if told["side"] == "best, compiled" else net

    class One(Dataset):  # type: ignore[type-arg]
        """One picture at a time, as tutorials write it."""

        def __init__(self) -> None:
            with np.load(told["file"]) as arrays:
                self.train, self.labels = torch.from_numpy(arrays["train"]), torch.from_numpy(arrays["train_labels"])

        def __len__(self) -> int:
            return len(self.train)

        def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            image = (self.train[number][None].float() - pictures.mean) / pictures.deviation
            padded = F.pad(image[None], (SHIFT,) * 4, mode="replicate")[0]
            down, right = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
            image = padded[:, down : down + 28, right : right + 28]
            return image.flip(2) if torch.rand(()) < 0.5 else image, self.labels[number]

    batches = iter(DataLoader(One(), batch_size=BATCH, shuffle=True, drop_last=True)) if not best else None

    def step() -> None:
        nonlocal batches
        if batches is None:
            found, numbers = pictures.next()
            labels = torch.from_numpy(numbers)
            images = torch.from_numpy(found)[:, None].float().sub_(pictures.mean).div_(pictures.deviation)
            images = images.contiguous(memory_format=torch.channels_last)
        else:
            images, labels = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=best):
            logits = call({"image": images})["logits"]
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        assert np.isfinite(loss.item())

    for _ in range(told["warm"]):
        step()
    began = time.perf_counter()
    for _ in range(told["steps"] - told["warm"]):
        step()
    return float((told["steps"] - told["warm"]) * BATCH / (time.perf_counter() - began))


def main() -> None:
    """Print a row for each side and round, then medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of every side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of 256 pictures, at most 234: one pass")
    parser.add_argument("--warm", type=int, default=20, help="of these, how many before the clock")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--be", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be:
        told = json.loads(asked.be)
        rate = be_sw2(told) if told["side"].startswith("sw2") else be_torch(told)
        Path(told["answer"]).write_text(json.dumps(rate), encoding="utf-8")
        return
    rates: dict[str, list[float]] = {side: [] for side in asked.sides}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(asked.threads))
    with tempfile.TemporaryDirectory() as scratch:
        file, answer = Path(scratch) / "fashion.npz", Path(scratch) / "answer.json"
        export(file)
        for number in range(asked.rounds):
            for side in asked.sides:
                told = {"side": side, "file": str(file), "answer": str(answer)}
                told |= {name: getattr(asked, name) for name in ("threads", "steps", "warm")}
                kept = {} if side.startswith("sw2") else PLAIN | (KEPT if side.startswith("best") else {})
                command = [sys.executable, __file__, "--be", json.dumps(told)]
                subprocess.run(command, check=True, env={**os.environ, **threads, **kept})
                rates[side].append(json.loads(answer.read_text(encoding="utf-8")))
                print(f"round {number}  {side:<23}{rates[side][-1]:>9.0f} pictures a second", flush=True)
    print()
    middle = {side: statistics.median(found) for side, found in rates.items()}
    for side, rate in middle.items():
        told_of = [f"{rate / other:.2f} of {name}" for name, other in middle.items() if name != side]
        print(
            f"{side:<23}{rate:>9.0f} pictures a second ({min(rates[side]):.0f} to {max(rates[side]):.0f}); "
            + ", ".join(told_of)
        )


if __name__ == "__main__":
    main()
