"""Attention of packed rows, forward and backward: the kernel beside the loop over pieces in torch, in the same minutes.

    OMP_NUM_THREADS=2 python benchmarks/packed_attention.py [--rounds 15] [--heads 9] [--processor-time]

Rows of 2048 tokens in bf16, as learning from conversations has them: several documents, one of 1400 tokens beside two
more, and prompts with several answers. Both ways take turns within a round, because other load on a machine moves any
single timing; the table gives medians over the rounds, and the median of the ratio within a round. "GMAC/s" are the
kernel's billions of multiplications and additions a second, counted for what is visible: two products forward, five
backward. `--processor-time` counts the time that the process had a processor: with one thread, what it would take if
nothing else ran.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sw2.parts.layers import attention, attention_kernel

__all__ = ["main"]

ROW = 2048
LAYOUTS = {
    "documents of 1100, 508, 220, 220": [[1100], [508], [220], [220]],
    "documents of 1400, 400, 248": [[1400], [400], [248]],
    "branches: 700 + 4 of 80, 600 + 3 of 140": [[700, 80, 80, 80, 80], [600, 140, 140, 140]],
}
"""Documents, each as the size of what its branches have in common, then of the branches."""


def row(layout: list[list[int]]) -> Tensor:
    """Documents and branches, [1, 2, T], with padding."""
    documents, branches = [], []
    for number, sizes in enumerate(layout):
        for branch, size in enumerate(sizes):
            documents += [number] * size
            branches += [branch] * size
    padding = [-1] * (ROW - len(documents))
    return torch.tensor([[documents + padding, branches + padding]])


def pairs(layout: list[list[int]]) -> int:
    """Of a query and a key that it sees."""
    return sum(
        size * (size + 1) // 2 + (size * sizes[0] if branch else 0)
        for sizes in layout
        for branch, size in enumerate(sizes)
    )


def timed(clock: Callable[[], float], work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    begin = clock()
    result = work(*given)
    return clock() - begin, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--heads", type=int, default=9)
    parser.add_argument("--kv-heads", type=int, default=3)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--processor-time", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.processor_time else time.perf_counter
    H, K, E = given.heads, given.kv_heads, given.channels
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(1, ROW, H + 2 * K, E, generator=generator).bfloat16()
    q, k, v = (part.transpose(1, 2) for part in qkv.split([H, K, K], dim=2))
    q, k = q.clone(), k.clone()
    gradient = torch.randn(1, ROW, H, E, generator=generator).bfloat16().transpose(1, 2)
    if not attention_kernel.serves(q, k, v):
        raise SystemExit("The kernel does not run here: see sw2/parts/layers/attention_kernel.py.")
    print(f"{torch.get_num_threads()} threads, {H} heads of {E} channels over {K}, medians of {given.rounds} rounds\n")
    print(f"{'milliseconds':<40} {'':<9}{'torch':>8}{'kernel':>8}{'ratio':>8}{'GMAC/s':>8}")
    for name, layout in LAYOUTS.items():
        documents = row(layout)
        documents = documents if max(map(len, layout)) > 1 else documents[:, 0]
        times: dict[tuple[str, str], list[float]] = {}
        for number in range(given.rounds + 1):
            for way in ("torch", "kernel"):
                os.environ["SW2_NATIVE"] = "on" if way == "kernel" else "off"
                forward, (mixed, sums, kept) = timed(clock, attention._in_documents, q, k, v, documents, True)
                saved = (q, k, v, documents, mixed, sums, kept)
                backward, _ = timed(clock, attention._in_documents_backward, gradient, *saved)
                if number:  # the first round warms up
                    times.setdefault((way, "forward"), []).append(forward)
                    times.setdefault((way, "backward"), []).append(backward)
                    times.setdefault((way, "both"), []).append(forward + backward)
        for part, products in (("forward", 2), ("backward", 5), ("both", 7)):
            slow, fast = times["torch", part], times["kernel", part]
            ratio = statistics.median(one / other for one, other in zip(slow, fast, strict=True))
            middle = statistics.median(fast)
            speed = products * pairs(layout) * H * E / middle / 1e9
            print(
                f"{name if part == 'forward' else '':<40} {part:<9}{1e3 * statistics.median(slow):>8.1f}"
                f"{1e3 * middle:>8.1f}{ratio:>8.2f}{speed:>8.0f}"
            )


if __name__ == "__main__":
    main()
