"""Tokens per second of decoders of other families than LLaMA: the native kernels, our torch path, transformers.

Random weights, since speed does not depend on them: GPT-2's smallest published shape in fp32 and bf16, and the shape
that `sw2 train text-generation` takes for ten minutes (recall included; transformers has no such network).
- one: 128 tokens of prompt, then 64 greedy tokens, the prompt not counted
- eight: the same for 8 texts at once, tokens of all texts per second; transformers as one batch

Each measurement is a process of its own, warms up once and prints JSON; the kinds take turns and the table has medians.

    python benchmarks/native_families.py [--rounds 3] [--threads 2] [--peer-python PATH]

`--peer-python` has transformers; without it that column is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

__all__ = ["main"]

PROMPT, NEW, TEXTS = 128, 64, 8
GPT2 = {
    "vocab_size": 50257,
    "context": 1024,
    "width": 768,
    "depth": 12,
    "heads": 12,
    "kv_heads": 12,
    "hidden": 3072,
    "positions": "learned",
    "norm": "layer",
    "activation": "gelu_tanh",
    "biases": "all",
}
OWN = {
    "vocab_size": 4096,
    "context": 512,
    "width": 128,
    "depth": 4,
    "heads": 2,
    "kv_heads": 2,
    "hidden": 352,
    "recall": 3,
}
SHAPES = {"gpt2 fp32": GPT2, "gpt2 bf16": GPT2, "trained here": OWN}


def prompt(text: int) -> list[int]:
    return [(7919 * (place + 1) + 104729 * text) % 4000 + 20 for place in range(PROMPT)]


def ours(shape: str, threads: int, native: bool) -> dict[str, float]:
    import torch

    from sw2.domains.language.decoder import Decoder

    torch.set_num_threads(threads)
    net = Decoder(Decoder.Config(**SHAPES[shape])).eval()
    step = (net.bfloat16() if "bf16" in shape else net).cached_step(TEXTS)
    if native != (type(step).__name__ == "NativeStep"):
        raise SystemExit("the kernels do not run here")

    def run(texts: int) -> float:
        slots = list(range(texts))
        logits = torch.cat([step([prompt(slot)], [slot], [0]) for slot in slots])
        begin = time.perf_counter()
        for new in range(NEW):
            logits = step([[int(row.argmax())] for row in logits], slots, [PROMPT + new] * texts)
        return texts * NEW / (time.perf_counter() - begin)

    return measured(run)


def peer(shape: str, threads: int) -> dict[str, float]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(threads)
    net = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None, pad_token_id=0)).eval()
    net = net.bfloat16() if "bf16" in shape else net

    def seconds(texts: int, new: int) -> float:
        ids = torch.tensor([prompt(text) for text in range(texts)])
        begin = time.perf_counter()
        net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False)
        return time.perf_counter() - begin

    return measured(lambda texts: texts * NEW / (seconds(texts, NEW + 1) - seconds(texts, 1)))


def measured(run: Callable[[int], float]) -> dict[str, float]:
    run(1)
    return {"one": run(1), "eight": run(TEXTS)}


def in_own_process(kind: str, shape: str, arguments: argparse.Namespace) -> dict[str, float]:
    python = arguments.peer_python if kind == "transformers" else sys.executable
    command = [python, __file__, "--threads", str(arguments.threads), "--only", kind, shape]
    environment = {**os.environ, "SW2_NATIVE": "on" if kind == "native" else "off"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{kind} of {shape} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        kind, shape = arguments.only
        threads = arguments.threads
        print(json.dumps(peer(shape, threads) if kind == "transformers" else ours(shape, threads, kind == "native")))
        return
    print(f"{'tokens/s':<14}{'texts':<8}{'native':>10}{'torch':>10}{'transformers':>14}")
    for shape in SHAPES:
        kinds = ["native", "torch"] + ["transformers"] * bool(arguments.peer_python and "gpt2" in shape)
        rounds = [{kind: in_own_process(kind, shape, arguments) for kind in kinds} for _ in range(arguments.rounds)]
        for texts in ("one", "eight"):
            print(
                f"{shape:<14}{texts:<8}" + row([[each[kind][texts] for each in rounds] for kind in kinds]), flush=True
            )


def row(columns: Sequence[Sequence[float]]) -> str:
    return "".join(f"{statistics.median(each):>{width}.0f}" for each, width in zip(columns, (10, 10, 14), strict=False))


if __name__ == "__main__":
    main()
