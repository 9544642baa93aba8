"""Encoding speed beside tiktoken and tokenizers: a 32k vocabulary trained here, 10 MB of Python source in documents of
20 kB. One thread and a batch on all; medians of five, the ways in turn. The ids are compared.

    python benchmarks/encoding.py
"""

from __future__ import annotations

import json
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiktoken

from sw2.base.device import usable_cores
from sw2.domains.language.fast_encoding import _GPT2
from sw2.domains.language.tokenizer import Tokenizer, _byte_of_character

__all__ = ["main"]


def main() -> None:
    """Print the table."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = [path for pattern in ("*.py", "*/*.py") for path in sorted(folder.glob(pattern))]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    began = time.perf_counter()
    tokenizer = Tokenizer.train(texts, 32_768)
    trained = time.perf_counter() - began
    whole = "".join(texts)[:10_000_000]
    documents = [whole[start : start + 20_000] for start in range(0, len(whole), 20_000)]
    size = sum(len(document.encode()) for document in documents) / 1e6
    said, byte_of = json.loads(tokenizer.to_json()), _byte_of_character()
    special = {token["content"] for token in said["added_tokens"]}
    ranks = {
        bytes(byte_of[character] for character in name): number
        for name, number in said["model"]["vocab"].items()
        if name not in special
    }
    direct = tiktoken.Encoding("direct", pat_str=_GPT2, mergeable_ranks=ranks, special_tokens={})
    cores = usable_cores()
    ways: dict[str, Callable[[], Any]] = {
        "sw2, one by one": lambda: [tokenizer.encode(document) for document in documents],
        "tiktoken, one by one": lambda: [direct.encode_ordinary(document) for document in documents],
        "sw2, batch": lambda: tokenizer.encode_batch(documents),
        "tiktoken, batch": lambda: direct.encode_ordinary_batch(documents, num_threads=cores),
        "tokenizers, batch": lambda: tokenizer._inner.encode_batch_fast(documents, add_special_tokens=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(5):
        for name, way in ways.items():
            began = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - began)
    wanted = found["tiktoken, one by one"]
    same = all(list(ids) == other for ids, other in zip(found["sw2, batch"], wanted, strict=True))
    same &= all(each.ids == other for each, other in zip(found["tokenizers, batch"], wanted, strict=True))
    print(f"{size:.1f} MB, {tokenizer.vocab_size} tokens trained in {trained:.1f} s, {cores} cores, ids equal: {same}")
    for name, each in seconds.items():
        peer = statistics.median(seconds["tiktoken, " + name.split(", ")[1]])
        here = statistics.median(each)
        print(f"{name:<22}{size / here:>8.1f} MB/s{peer / here:>8.2f} of tiktoken")


if __name__ == "__main__":
    main()
