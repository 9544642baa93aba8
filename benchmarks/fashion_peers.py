"""Fashion-MNIST from scratch in the same minutes: `sw2 train`, Keras 3 and plain PyTorch; test accuracy of each.

    sw2      what a user types, `sw2 train image-classification fashion-mnist --minutes M`: no setting is made
    torch    a ResNet as short trainings have it (after DAWNBench's ResNet-9): channels-last, bf16 autocast, all
             pictures in memory, SGD with Nesterov momentum in one cycle, label smoothing, mirror and shift
    keras    Keras 3 on torch by `fit`: the same network and recipe in its layers, with dropout where there is time to
             overfit, `mixed_bfloat16`, batches by `keras.utils.PyDataset`

    python benchmarks/fashion_peers.py --minutes 1:3 3:1 10:1 --threads 1 --peer-python PATH --json rows.jsonl

`1:3` is one minute with three seeds, and `10` all of `--seeds`. Sides take turns, each in a process of its own. The
minutes of the peers run from their first step, by the clock on the wall; their rate of learning follows the share of
the minutes that is gone, so that it is zero at the end on whatever machine. sw2's run from the start of `fit`: trial
steps and checkpoints are within them, and it plans a number of steps, so it may end sooner or later than asked; the
column "minutes" says what learning took on each side. Reading data, building and judging are the column "beside", in
seconds; "cores" is processor time by time on the wall, which is below `--threads` where something else ran.

How the peers were made strong: cheap batches (one gather from padded pictures), the allocator's setting that sw2 makes
for itself (freed memory is kept), bf16, which took less processor time a step than fp32 with both, and networks whose
width grows with the minutes. What was tried, one seed, 375 steps of 128, about a minute of one core, judged on the
test split, which favours the peers: torch, width 32, rates 0.2, 0.4 and 0.8: 0.892, 0.891, 0.891; width 24: 0.887;
Keras, width 24, AdamW at 2e-3 and 4e-3: 0.847, 0.859; SGD at 0.4, label smoothing: 0.883; width 16: 0.876. What is
set for more minutes was not tried. sw2's settings were chosen on held-out training pictures, for ten minutes on
two cores, and for one and three on one; it learns from 57,000 pictures, the peers from 60,000.

Logistic regression and chance stand beside, from sw2's card. `--peer-python` needs Keras 3, torch and numpy.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["main"]

COLUMNS: Final = ("accuracy", "minutes", "steps", "pictures", "parameters", "beside", "cores")
SHIFT: Final = 2
KEPT: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647"}  # base.device.keep_freed_memory


# -- what both peers share ---------------------------------------------------------------------------------------------


class Pictures:
    """The arrays of the data set, and batches moved and mirrored at random.

    Args:
        file: an .npz with "train", "test" uint8 [N, 28, 28] and "train_labels", "test_labels" int64 [N].
        batch: pictures in a batch.
        seed: of order, shifts and mirrors.
    """

    def __init__(self, file: Path, batch: int, seed: int) -> None:
        with np.load(file) as arrays:
            train, self.labels = arrays["train"], arrays["train_labels"]
            self.test, self.test_labels = arrays["test"], arrays["test_labels"]
        self.mean, self.deviation = float(train[:2000].mean()), float(train[:2000].std())
        edge = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT))
        self.windows = np.lib.stride_tricks.sliding_window_view(np.pad(train, edge, mode="edge"), (28, 28), axis=(1, 2))
        self.batch, self.draw = batch, np.random.default_rng(seed)
        self.order = np.empty(0, dtype=np.int64)

    def next(self) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [B, 28, 28] and int64 [B], in a new order in every pass."""
        if len(self.order) < self.batch:
            self.order = self.draw.permutation(len(self.labels))
        chosen, self.order = self.order[: self.batch], self.order[self.batch :]
        down, right = self.draw.integers(0, 2 * SHIFT + 1, (2, self.batch))
        found = self.windows[chosen, down, right]
        mirrored = self.draw.random(self.batch) < 0.5
        found[mirrored] = found[mirrored, :, ::-1]
        return found, self.labels[chosen]

    def normal(self, pictures: np.ndarray) -> np.ndarray:
        """Zero mean and unit deviation: float32."""
        return (pictures.astype(np.float32) - self.mean) / self.deviation


def one_cycle(gone: float, rise: float = 0.2) -> float:
    """The share of the highest rate when this share of the minutes is gone: a straight rise, then a cosine to zero."""
    if gone < rise:
        return 0.05 + 0.95 * gone / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (gone - rise) / (1 - rise))))


def processor() -> float:
    """Seconds of processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# -- plain PyTorch -----------------------------------------------------------------------------------------------------


def be_torch(told: Mapping[str, Any]) -> dict[str, Any]:
    """Train the ResNet; its row."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    began = time.perf_counter()
    torch.set_num_threads(told["threads"])
    torch.manual_seed(told["seed"])
    width, batch, rate = torch_settings(told)

    def convolution(into: int, out: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(into, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        )

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.branch = nn.Sequential(convolution(width, width), convolution(width, width))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.branch(x)

    net = nn.Sequential(
        convolution(1, width // 2),
        convolution(width // 2, width, stride=2),
        Residual(width),
        convolution(width, 2 * width),
        nn.MaxPool2d(2),
        convolution(2 * width, 4 * width),
        nn.MaxPool2d(2),
        Residual(4 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10, bias=False),
    ).to(memory_format=torch.channels_last)
    pictures = Pictures(told["file"], batch, told["seed"])
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}],
        lr=rate, momentum=0.9, nesterov=True, foreach=True,
    )  # fmt: skip

    def logits(images: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(images)[:, None].float().sub_(pictures.mean).div_(pictures.deviation)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(told["bf16"])):
            found = net(x.contiguous(memory_format=torch.channels_last))
        return 0.125 * found.float()

    def step(gone: float) -> None:
        for group in optimiser.param_groups:
            group["lr"] = rate * one_cycle(gone)
        images, labels = pictures.next()
        loss = F.cross_entropy(logits(images), torch.from_numpy(labels), label_smoothing=0.1)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    built = time.perf_counter()
    row = learn(told, step, batch)
    net.eval()
    with torch.no_grad():
        right = [
            int((logits(pictures.test[i : i + 1000]).argmax(1).numpy() == pictures.test_labels[i : i + 1000]).sum())
            for i in range(0, len(pictures.test), 1000)
        ]
    row |= {"accuracy": sum(right) / len(pictures.test), "parameters": sum(p.numel() for p in net.parameters())}
    return row | {"beside": built - began + time.perf_counter() - row.pop("ended")}


def torch_settings(told: Mapping[str, Any]) -> tuple[int, int, float]:
    """Width, batch and highest rate for so many minutes on so many threads."""
    work = told["minutes"] * told["threads"]
    width = 24 if work < 0.5 else 32 if work < 5 else 48
    return told.get("width") or width, told.get("batch") or (128 if work < 5 else 256), told.get("rate") or 0.4


def learn(told: Mapping[str, Any], step: Callable[[float], None], batch: int) -> dict[str, Any]:
    """Steps until the minutes are gone; what can be said of them."""
    seconds, taken, used, began = told["minutes"] * 60, 0, processor(), time.perf_counter()
    while (gone := (time.perf_counter() - began) / seconds if not told.get("steps") else taken / told["steps"]) < 1:
        step(gone)
        taken += 1
    ended = time.perf_counter()
    return {
        "steps": taken, "pictures": taken * batch, "minutes": (ended - began) / 60,
        "cores": (processor() - used) / (ended - began), "ended": ended,
    }  # fmt: skip


# -- Keras -------------------------------------------------------------------------------------------------------------


def be_keras(told: Mapping[str, Any]) -> dict[str, Any]:
    """Train the network by `fit`; its row."""
    began = time.perf_counter()
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch
    from keras import layers

    torch.set_num_threads(told["threads"])
    keras.utils.set_random_seed(told["seed"])
    if told["bf16"]:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    width, batch, rate, dropout = keras_settings(told)
    pictures = Pictures(told["file"], batch, told["seed"])

    def convolution(x: Any, out: int, stride: int = 1) -> Any:
        x = layers.Conv2D(out, 3, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    def residual(x: Any, width: int) -> Any:
        return layers.Add()([x, convolution(convolution(x, width), width)])

    entrance = x = layers.Input((28, 28, 1))
    x = convolution(convolution(x, width // 2), width, stride=2)
    x = residual(x, width)
    x = layers.MaxPooling2D()(convolution(x, 2 * width))
    x = layers.MaxPooling2D()(convolution(x, 4 * width))
    x = residual(x, 4 * width)
    x = layers.Dropout(dropout)(layers.GlobalMaxPooling2D()(x))
    x = layers.Rescaling(0.125, dtype="float32")(layers.Dense(10, use_bias=False, dtype="float32")(x))
    model = keras.Model(entrance, x)
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate=rate, momentum=0.9, nesterov=True),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        jit_compile=False,
    )

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 1_000_000_000

        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            images, labels = pictures.next()
            return pictures.normal(images)[..., None], np.eye(10, dtype=np.float32)[labels]

    class Minutes(keras.callbacks.Callback):  # type: ignore[misc]
        taken, began, used, ended = 0, 0.0, 0.0, 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if not self.began:
                self.began, self.used = time.perf_counter(), processor()
            gone = self.taken / told["steps"] if told.get("steps") else self.seconds() / (60 * told["minutes"])
            self.model.optimizer.learning_rate = rate * one_cycle(gone)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.taken += 1
            over = self.taken >= told["steps"] if told.get("steps") else self.seconds() >= 60 * told["minutes"]
            if over:
                self.model.stop_training, self.ended = True, time.perf_counter()

        def seconds(self) -> float:
            return time.perf_counter() - self.began

    clock = Minutes()
    model.fit(Batches(workers=0), epochs=1, shuffle=False, callbacks=[clock], verbose=0)
    used = processor() - clock.used
    found = model.predict(pictures.normal(pictures.test)[..., None], batch_size=1000, verbose=0).argmax(1)
    seconds = clock.ended - clock.began
    return {
        "accuracy": float((found == pictures.test_labels).mean()), "minutes": seconds / 60, "steps": clock.taken,
        "pictures": clock.taken * batch, "parameters": model.count_params(), "cores": used / seconds,
        "beside": time.perf_counter() - began - seconds,
    }  # fmt: skip


def keras_settings(told: Mapping[str, Any]) -> tuple[int, int, float, float]:
    """Width, batch, highest rate and dropout for so many minutes on so many threads."""
    work = told["minutes"] * told["threads"]
    width = 16 if work < 0.5 else 24 if work < 5 else 40
    dropout = 0.0 if work < 2 else 0.1 if work < 5 else 0.2
    return told.get("width") or width, told.get("batch") or 128, told.get("rate") or 0.4, dropout


BE: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {"keras": be_keras, "torch": be_torch}


# -- sw2, and all of them ----------------------------------------------------------------------------------------------


def be_sw2(told: Mapping[str, Any]) -> dict[str, Any]:
    """Train as a user does; the row, with logistic regression and chance beside."""
    began = time.perf_counter()
    import torch

    import sw2

    torch.set_num_threads(told["threads"])
    with tempfile.TemporaryDirectory() as folder:
        used = processor()
        program = sw2.train(
            "image-classification", "fashion-mnist", minutes=told["minutes"], seed=told["seed"], out=f"{folder}/run"
        )
        used = processor() - used
    card = program.card
    batch = card.settings["learn"]["gradient"]["batch_size"]
    accuracy = {score["of"]: score["value"] for score in card.scores if score["name"] == "accuracy"}
    minutes, whole = card.measured["minutes"], time.perf_counter() - began
    return {
        "accuracy": accuracy.pop("program"), "minutes": minutes, "steps": card.facts["steps"],
        "pictures": card.facts["steps"] * batch, "parameters": card.facts["parameters"],
        "cores": used / whole, "beside": whole - 60 * minutes, "baselines": accuracy,
    }  # fmt: skip


BE: Final = {"sw2": be_sw2, "keras": be_keras, "torch": be_torch}


def export(file: Path) -> None:
    """The data set's arrays as sw2 reads them, for the peers."""
    from sw2.domains.vision.data import fashion_mnist

    data = fashion_mnist(lambda question: True)
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        examples = data.split(split)
        arrays[split] = np.stack([example["image"] for example in examples])
        numbers = {label: number for number, label in enumerate(data.facts["labels"])}
        arrays[f"{split}_labels"] = np.array([numbers[example["label"]] for example in examples])
    np.savez(file, **arrays)


def show(row: Mapping[str, Any]) -> None:
    """One line of the table."""
    minutes = f"{row['accuracy']:>10.4f}{row['minutes']:>9.2f}"
    counts = "".join(f"{row[name]:>12,.0f}" for name in ("steps", "pictures", "parameters"))
    print(f"{row['who']:<34}{minutes}{counts}{row['beside']:>9.1f}{row['cores']:>7.2f}", flush=True)


def medians(rows: Sequence[Mapping[str, Any]], minutes: Sequence[float], sides: Sequence[str]) -> None:
    """The median of each side for each number of minutes, and what sw2 has more than the peers."""
    for asked in minutes:
        middle: dict[str, float] = {}
        for side in sides:
            mine = [row for row in rows if (row["side"], row["asked"]) == (side, asked)]
            if mine:
                median = {name: statistics.median(row[name] for row in mine) for name in COLUMNS}
                show({"who": f"{side}, {asked:g} min, median of {len(mine)}", **median})
                middle[side] = median["accuracy"]
        for side in set(middle) - {"sw2"} if "sw2" in middle else ():
            print(f"  sw2 less {side}: {middle['sw2'] - middle[side]:+.4f}")
    for row in rows:
        if "baselines" in row:
            print("beside: " + ", ".join(f"{name} {value:.4f}" for name, value in row["baselines"].items()))
            break


def with_seeds(text: str) -> tuple[float, int | None]:
    """`3` or `3:1`: minutes, and how many seeds."""
    minutes, _, seeds = text.partition(":")
    return float(minutes), int(seeds) if seeds else None


def main() -> None:
    """Print a row for each training, then medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", nargs="+", type=with_seeds, default=[(1.0, None)], help="M or M:SEEDS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", choices=list(BE), default=list(BE))
    parser.add_argument("--threads", type=int, default=1, help="of every side")
    parser.add_argument("--peer-python", help="an interpreter with Keras 3 and torch; without it there is no keras")
    parser.add_argument("--json", type=Path, help="a file to which each row is appended as it comes")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be:
        told = json.loads(asked.be)
        Path(told["row"]).write_text(json.dumps(BE[told["side"]](told)), encoding="utf-8")
        return
    sides = [side for side in asked.sides if side != "keras" or asked.peer_python]
    rows: list[dict[str, Any]] = []
    print(
        f"{'':<34}{'accuracy':>10}{'minutes':>9}{'steps':>12}{'pictures':>12}{'parameters':>12}{'beside':>9}{'cores':>7}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        file, answer = Path(scratch) / "fashion.npz", Path(scratch) / "row.json"
        export(file)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(asked.threads))
        for minutes, seeds in asked.minutes:
            for seed in asked.seeds[:seeds]:
                for side in sides:
                    told = {
                        "side": side, "minutes": minutes, "seed": seed, "threads": asked.threads, "bf16": True,
                        "file": str(file), "row": str(answer),
                    }  # fmt: skip
                    subprocess.run(
                        [asked.peer_python if side == "keras" else sys.executable, __file__, "--be", json.dumps(told)],
                        check=True,
                        env={**os.environ, **threads, **({} if side == "sw2" else KEPT)},
                    )
                    found = json.loads(answer.read_text(encoding="utf-8"))
                    row = {"side": side, "asked": minutes, "seed": seed, "threads": asked.threads, **found}
                    rows.append(row | {"who": f"{side}, {minutes:g} min, seed {seed}"})
                    show(rows[-1])
                    if asked.json:
                        with asked.json.open("a", encoding="utf-8") as lines:
                            lines.write(json.dumps(row) + "\n")
    print()
    medians(rows, [minutes for minutes, _ in asked.minutes], sides)


if __name__ == "__main__":
    main()
