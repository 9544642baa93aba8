"""Speed of the native decode step beside llama.cpp, on the same GGUF file, in the same minutes.

Measured with two threads (`--threads`) on SmolLM2-135M-Instruct, Q4_1 with a Q8_0 embedding:
- decode: 256 tokens of prompt, then 128 greedy tokens, one text
- batch: the same for 8 texts at once, tokens of all texts per second
- prefill: 512 tokens of prompt, logits of the last
- read: a sum over 512 MiB in huge pages with the same threads, the limit of what weights can be read at

Each measurement is a process of its own; ours, the peer and the limit take turns, because other load on a machine moves
any single timing by 15 % and more. A process warms up once and prints one line of JSON. The table gives the median over
the rounds, the median of the ratio within a round, and for decode the bytes of weights read per token (the cache not
counted) as GB/s and as a share of the limit of the same round.

    python benchmarks/native_decode.py FILE.gguf [--rounds 5] [--threads 2] [--peer-python PATH]

Needs the packages gguf here and llama-cpp-python in `--peer-python`. The prompt is arithmetic on token ids, not text:
the speed does not depend on it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

PROMPT, NEW, TEXTS, LONG = 256, 128, 8, 512
TASKS = {"decode": NEW, "batch": NEW * TEXTS, "prefill": LONG}


def prompt(length: int, text: int = 0) -> list[int]:
    return [(7919 * (place + 1) + 104729 * text) % 40_000 + 100 for place in range(length)]


def ours(file: Path, threads: int) -> dict[str, float]:
    """Seconds of each task on the kernels; and the bytes of weights that a token reads."""
    import torch

    from sw2.parts.decoding.native import NativeStep

    torch.set_num_threads(1)  # the kernels have threads of their own
    weights = read_gguf(file, 1024)
    step = NativeStep(weights, TEXTS, 1024, threads)

    def run(task: str) -> float:
        if task == "prefill":
            begin = time.perf_counter()
            step([prompt(LONG)], [0], [0])
            return time.perf_counter() - begin
        slots = list(range(TEXTS if task == "batch" else 1))
        logits = torch.cat([step([prompt(PROMPT, slot)], [slot], [0]) for slot in slots])
        begin = time.perf_counter()
        for new in range(NEW):
            logits = step([[int(row.numpy().argmax())] for row in logits], slots, [PROMPT + new] * len(slots))
        return time.perf_counter() - begin

    return {**timed(run), "bytes": weights.bytes_per_token()}


def peer(file: Path, threads: int) -> dict[str, float]:
    """The same on llama.cpp, by the functions of its C interface: no sampling, no text."""
    import llama_cpp as llama
    import numpy as np

    quiet = llama.llama_log_callback(lambda *_: None)  # as long as this name lives, the library may call it
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def context(texts: int) -> Any:
        settings = llama.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = 1024 * texts, texts
        settings.n_batch = settings.n_ubatch = LONG
        settings.n_threads = settings.n_threads_batch = threads
        return llama.llama_init_from_model(model, settings)

    batch = llama.llama_batch_init(LONG, 0, TEXTS)

    def decode(where: Any, rows: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for index, (token, place, text, wanted) in enumerate(rows):
            batch.token[index], batch.pos[index], batch.logits[index] = token, place, wanted
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, text
        if llama.llama_decode(where, batch):
            raise RuntimeError("llama_decode failed")

    def best(where: Any, index: int) -> int:
        return int(np.ctypeslib.as_array(llama.llama_get_logits_ith(where, index), (vocabulary,)).argmax())

    def read(where: Any, tokens: list[int], text: int) -> int:
        last = len(tokens) - 1
        decode(where, [(token, place, text, place == last) for place, token in enumerate(tokens)])
        return best(where, last)

    contexts = {"prefill": context(1), "decode": context(1), "batch": context(TEXTS)}

    def run(task: str) -> float:
        where, texts = contexts[task], TEXTS if task == "batch" else 1
        llama.llama_memory_clear(llama.llama_get_memory(where), True)
        begin = time.perf_counter()
        if task == "prefill":
            read(where, prompt(LONG), 0)
            return time.perf_counter() - begin
        tokens = [read(where, prompt(PROMPT, text), text) for text in range(texts)]
        begin = time.perf_counter()
        for new in range(NEW):
            decode(where, [(tokens[text], PROMPT + new, text, True) for text in range(texts)])
            tokens = [best(where, text) for text in range(texts)]
        return time.perf_counter() - begin

    return timed(run)


def timed(run: Any) -> dict[str, float]:
    """Tokens per second of each task, after a warm-up."""
    for task in ("prefill", "decode"):
        run(task)
    return {task: tokens / run(task) for task, tokens in TASKS.items()}


def limit(threads: int) -> dict[str, float]:
    """GB/s of summing 512 MiB: the best of 12 passes, each thread its own part. numpy's sum runs without the GIL."""
    import numpy as np

    size = 512 << 20
    memory = mmap.mmap(-1, size)
    memory.madvise(mmap.MADV_HUGEPAGE)
    numbers = np.frombuffer(memory, dtype=np.int64)
    numbers[:] = 1
    best = float("inf")
    for _ in range(12):
        workers = [threading.Thread(target=np.add.reduce, args=(part,)) for part in np.array_split(numbers, threads)]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - begin)
    return {"read": size / best / 1e9}


def read_gguf(file: Path, capacity: int) -> Any:
    """A LLaMA in Q4_1, Q8_0 or F32 as the kernels want it, bits untouched."""
    import numpy as np
    import torch
    from gguf import GGUFReader

    from sw2.parts.decoding.native import NativeLayer, NativeMatrix, NativeNorm, NativeWeights
    from sw2.parts.layers.transformer import rotary_table

    reader = GGUFReader(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    field = {name.removeprefix("llama."): each.contents() for name, each in reader.fields.items() if "llama." in name}
    heads, kv_heads = int(field["attention.head_count"]), int(field["attention.head_count_kv"])
    channels = int(field["embedding_length"]) // heads

    def parts(name: str) -> tuple[int, list[torch.Tensor]]:
        tensor = tensors[name]
        bits, bytes_each, heads_of_it = {"Q4_1": (4, 20), "Q8_0": (8, 34)}[tensor.tensor_type.name] + (0,)
        blocks = torch.from_numpy(np.array(tensor.data)).view(tensor.data.shape[0], -1, bytes_each)
        if "attn_q." in name or "attn_k." in name:
            # llama.cpp turns neighbouring channels, we turn channel c with c + E / 2: put the rows back in our order.
            heads_of_it = len(blocks) // channels
            blocks = blocks.view(heads_of_it, channels // 2, 2, *blocks.shape[1:]).transpose(1, 2).flatten(0, 2)
        halves, head = [], 2 * (2 if bits == 4 else 1)
        for at in range(0, head, 2):
            halves.append(blocks[..., at : at + 2].contiguous().view(torch.float16)[..., 0])
        codes = blocks[..., head:].contiguous().flatten(1)
        return bits, [codes if bits == 4 else codes.view(torch.int8), *halves]

    def matrix(*names: str) -> NativeMatrix:
        found = [parts(name) for name in names]
        stacked = [torch.cat(each) for each in zip(*(each for _, each in found), strict=True)]
        return NativeMatrix(bits=found[0][0], **dict(zip(("codes", "scales", "minima"), stacked, strict=False)))

    def norm(name: str) -> NativeNorm:
        return NativeNorm(weight=torch.from_numpy(np.array(tensors[f"{name}.weight"].data)))

    cosines, sines = rotary_table(torch.arange(capacity), channels, float(field["rope.freq_base"]))
    embedding = matrix("token_embd.weight")
    layers = tuple(
        NativeLayer(
            attention_norm=norm(f"blk.{at}.attn_norm"),
            qkv=matrix(*(f"blk.{at}.attn_{part}.weight" for part in "qkv")),
            out=matrix(f"blk.{at}.attn_output.weight"),
            mlp_norm=norm(f"blk.{at}.ffn_norm"),
            up=matrix(f"blk.{at}.ffn_gate.weight", f"blk.{at}.ffn_up.weight"),
            down=matrix(f"blk.{at}.ffn_down.weight"),
        )
        for at in range(int(field["block_count"]))
    )
    return NativeWeights(
        heads=heads,
        kv_heads=kv_heads,
        norm_epsilon=float(field["attention.layer_norm_rms_epsilon"]),
        activation="swiglu",
        cosines=cosines,
        sines=sines,
        slopes=torch.zeros(heads),
        embedding=embedding,
        layers=layers,
        norm=norm("output_norm"),
        head=matrix("output.weight") if "output.weight" in tensors else embedding,
    )


def measured(kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one kind in a process of its own."""
    python = arguments.peer_python if kind == "peer" else sys.executable
    command = [python, __file__, str(arguments.file), "--threads", str(arguments.threads), "--only", kind]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--only", choices=("ours", "peer", "read"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        if arguments.only == "read":
            print(json.dumps(limit(arguments.threads)))
        else:
            print(json.dumps({"ours": ours, "peer": peer}[arguments.only](arguments.file, arguments.threads)))
        return
    rounds = []
    for number in range(arguments.rounds):
        one = {kind: measured(kind, arguments) for kind in ("ours", "peer", "read")}
        rounds.append(one)
        print(f"round {number + 1}: {json.dumps(one)}", flush=True)
    mine, theirs = [one["ours"] for one in rounds], [one["peer"] for one in rounds]
    limits = [one["read"]["read"] for one in rounds]
    print(f"\n{'tokens/s':<10}{'sw2':>10}{'llama.cpp':>12}{'ratio':>8}")
    for task in TASKS:
        we, they = ([each[task] for each in side] for side in (mine, theirs))
        ratio = statistics.median(ours / other for ours, other in zip(we, they, strict=True))
        print(f"{task:<10}{statistics.median(we):>10.0f}{statistics.median(they):>12.0f}{ratio:>8.2f}")
    speeds = [each["decode"] * each["bytes"] / 1e9 for each in mine]
    share = statistics.median(speed / most for speed, most in zip(speeds, limits, strict=True))
    print(f"\n{TEXTS} texts at once / one: {statistics.median(each['batch'] / each['decode'] for each in mine):.2f}")
    print(f"{mine[0]['bytes'] / 1e6:.1f} MB of weights per token, {statistics.median(speeds):.1f} GB/s,", end=" ")
    print(f"{share:.0%} of the {statistics.median(limits):.1f} GB/s that memory was read at")


if __name__ == "__main__":
    main()
