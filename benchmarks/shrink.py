"""A language model in 16, 8 and 4 bits by every method: size, how far weights moved, bits per byte, tokens per second.

The program is one that is given, or is trained here on Python's standard library for so many minutes, without recall,
so that the native kernels write. The first row, against which losses are stated, are its weights in bf16. "KL" is the
mean Kullback-Leibler divergence of the next-token probabilities from those of 32 bits, over 8,192 held-out tokens: it
tells methods apart where bits per byte do not. Speeds are medians of interleaved rounds.

Usage: python benchmarks/shrink.py [PROGRAM] [--minutes 10] [--rounds 5] [--examples N]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

import torch

import sw2
from sw2.base.config import from_dict
from sw2.core.card import size
from sw2.core.task import Context
from sw2.domains.language import shrinking
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.task import TextWriter
from sw2.verbs.shrink import tokens_per_second, with_nets

TOKENS = 8192


def matrices(net: Decoder) -> dict[str, torch.Tensor]:
    """The matrices in 32 bits, by name."""
    return {name: tensor.float() for name, tensor in net.unpacked().state_dict().items() if tensor.ndim == 2}


def forms(net: Decoder, rows: Any) -> Iterator[tuple[str, Decoder]]:
    """The network in every form, the first one in 16 bits."""
    yield "16 bits, bf16", copy.deepcopy(net).bfloat16()
    for bits in (8, 4):
        for method in reversed(shrinking.methods(4)):
            yield f"{bits} bits, {method}", shrinking.shrink(net, bits, method, lambda: rows)  # type: ignore[arg-type]


def log_probabilities(net: Decoder, rows: Any) -> torch.Tensor:
    """Of every next token, float32 [tokens, V]."""
    with torch.inference_mode():
        net = copy.deepcopy(net.unpacked()).float()
        return torch.cat([net(batch)["logits"].log_softmax(-1).flatten(0, 1) for batch in rows])


def measure(program: sw2.Program, rounds: int, examples: int | None) -> None:
    """Print the table."""
    writer = program.capability(TextWriter)
    net, context = writer.net, Context()
    data = program.task.read(
        program.card.settings["run"]["data"],
        from_dict(program.task.Options, program.card.settings["data"], "data"),
        context,
    )
    encode, length = writer.prep.documents, net.config.context
    rows = shrinking.calibration_rows(encode, data.split("train"), length, 0)
    unseen = shrinking.calibration_rows(encode, data.split("test"), length, 0)
    unseen = unseen[: max(1, TOKENS // unseen[0]["tokens"].numel())]
    wanted, weights = log_probabilities(net, unseen), matrices(net)
    held_out = data.split("test")[:examples]
    made = {name: (form, with_nets(program, {"decoder": form})) for name, form in forms(net, rows)}
    speeds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(1 + rounds):
        for name, (_, form) in made.items():
            speeds[name].append(tokens_per_second(form, program.task.question(held_out[0])))
    print(f"{'':<14}{'weights':>10}{'mean square':>14}{'KL, mnats':>12}{'bits/byte':>11}{'loss':>9}{'tokens/s':>10}")
    first = 0.0
    for name, (form, whole) in made.items():
        stored = sum(tensor.numel() * tensor.element_size() for tensor in form.state_dict().values())
        moved = [(each - weights[key]).square() for key, each in matrices(form).items()]
        mean = sum(float(each.sum()) for each in moved) / sum(each.numel() for each in moved)
        got = log_probabilities(form, unseen)
        apart = float((wanted.exp() * (wanted - got)).sum(-1).mean()) * 1000
        # bf16 weights are judged in 32-bit arithmetic, as the packed ones are.
        judged = with_nets(program, {"decoder": copy.deepcopy(form).float()}) if not form.packed else whole
        bits = program.task.judge(judged, held_out, context)[0].value
        first = first or bits
        speed = statistics.median(speeds[name][1:])
        scored = f"{mean:>14.2e}{apart:>12.3f}{bits:>11.4f}{bits / first - 1:>+9.3%}{speed:>10.0f}"
        print(f"{name:<14}{size(stored):>10}{scored}", flush=True)
    print(f"{len(held_out)} held-out documents, {len(rows) * rows[0]['tokens'].numel()} tokens to calibrate on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int)
    arguments = parser.parse_args()
    if arguments.program:
        measure(sw2.load(arguments.program), arguments.rounds, arguments.examples)
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {"model.recall": 0}
        program = sw2.train(
            "text-generation",
            "python-stdlib",
            minutes=arguments.minutes,
            settings=settings,
            out=f"{folder}/run",
        )
        measure(program, arguments.rounds, arguments.examples)


if __name__ == "__main__":
    main()
