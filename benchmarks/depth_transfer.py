"""Whether the learning rate that `--depth` derives is the best one at every depth.

Small decoders of depth 2, 4 and 6, with every setting as `--depth` derives it, learn the same number of bytes of
Python's standard library at several multiples of the derived learning rate. Printed is the mean loss over the last
tenth of the steps, in nats per byte, whose best multiple should stay within a factor of two.

Tokens are bytes and rows are 128 long, so that all of it takes minutes; the tokenizer and the context of a real
training are larger. One seed.

    python benchmarks/depth_transfer.py [--tokens 100000] [--depths 2,4,6]
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

import numpy as np
import torch

from sw2.base.config import replace
from sw2.base.seed import generator
from sw2.core.data import Data
from sw2.core.domain import Request
from sw2.domains.language.decoder import Decoder, parameter_count
from sw2.domains.language.presets import recipe
from sw2.parts.data.order import ShuffledOrder
from sw2.parts.optim.build import build_optim

__all__ = ["main"]

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
CONTEXT = 128


def corpus() -> torch.Tensor:
    """Bytes of the standard library's modules, about four million."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return torch.from_numpy(np.frombuffer(b"".join(path.read_bytes() for path in paths), np.uint8).astype(np.int64))


def learn(text: torch.Tensor, depth: int, multiple: float, tokens: int) -> tuple[float, float, int]:
    """(loss over the last tenth of the steps, learning rate, weights) of one training."""
    found = recipe(Request(data=Data(name="bytes", splits={}, fingerprint=""), preset="small", depth=depth))
    shape = replace(found.model_config, vocab_size=256, context=CONTEXT)
    gradient = found.learn_config.gradient
    rate = gradient.optim.learning_rate * multiple
    net = Decoder(shape)
    net.initialise(generator(0, "weights"))
    optim = build_optim(replace(gradient.optim, learning_rate=rate), list(net.named_parameters()))
    rows = gradient.batch_size
    order = ShuffledOrder((len(text) - 1) // CONTEXT, rows, 0)
    steps = tokens // (rows * CONTEXT)
    losses = []
    for step in range(steps):
        windows = torch.stack([text[i * CONTEXT : i * CONTEXT + CONTEXT + 1] for i in order.indices(step)])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = net({"tokens": windows[:, :-1], "targets": windows[:, 1:]})["nats"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), gradient.clip_norm)
        optim.step(step, steps)
        net.zero_grad()
        losses.append(loss.item())
    return float(np.mean(losses[-max(1, steps // 10) :])), rate, parameter_count(shape)


def main() -> None:
    """Print a row per depth."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--depths", default="2,4,6")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = corpus()
    print("depth   weights      rate" + "".join(f"{multiple:>8g}x" for multiple in MULTIPLES) + "    best")
    for depth in map(int, options.depths.split(",")):
        runs = [learn(text, depth, multiple, options.tokens) for multiple in MULTIPLES]
        losses = [loss for loss, _, _ in runs]
        best = MULTIPLES[int(np.argmin(losses))]
        row = "".join(f"{loss:>9.3f}" for loss in losses)
        print(f"{depth:>5}{runs[0][2]:>10}{runs[2][1]:>10.2g}{row}{best:>7g}x", flush=True)


if __name__ == "__main__":
    main()
