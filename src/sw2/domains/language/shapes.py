"""Published sizes as presets of our one Decoder, and a shape for any number of parameters.

    gpt2("124m") … gpt2("1.5b")       gpt3("125m") … gpt3("175b")
    bloom("560m") … bloom("176b")     llama("7b") … llama("65b")

Each returns a `Decoder.Config`; `SHAPES` has them all by name ("llama-65b"), and `shape_for` finds the depth, width and
heads for a number of parameters. A test holds `parameter_count` of each against the published count.

Sources
- GPT-2: Radford et al. 2019, "Language models are unsupervised multitask learners", table 2; the counts as corrected in
  the README of https://github.com/openai/gpt-2.
- GPT-3: Brown et al. 2020, https://arxiv.org/abs/2005.14165, table 2.1 and the counts of table D.1; context 2,048
  (section 2.1). Two rows of table 2.1 contradict themselves, and the counts decide: 1.3 B has 24 heads of 128 channels
  for a width of 2,048 (here 16), 13 B a width of 5,140 for 40 heads of 128 (here 5,120).
- BLOOM: Le Scao et al. 2022, https://arxiv.org/abs/2211.05100, table 3; the vocabulary is padded to 250,880.
- LLaMA: Touvron et al. 2023, https://arxiv.org/abs/2302.13971, table 2; hidden sizes as in the published weights.

What it does not do: GPT-3's alternation of dense and banded sparse attention; every layer is dense here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np

from sw2.base.errors import UsageError
from sw2.base.names import pick
from sw2.domains.language.decoder import Decoder, parameter_count

__all__ = ["PUBLISHED", "SHAPES", "bloom", "gpt2", "gpt3", "llama", "shape_for"]

# depth, width, heads
_GPT2 = {"124m": (12, 768, 12), "355m": (24, 1024, 16), "774m": (36, 1280, 20), "1.5b": (48, 1600, 25)}
_GPT3 = {
    "125m": (12, 768, 12),
    "350m": (24, 1024, 16),
    "760m": (24, 1536, 16),
    "1.3b": (24, 2048, 16),
    "2.7b": (32, 2560, 32),
    "6.7b": (32, 4096, 32),
    "13b": (40, 5120, 40),
    "175b": (96, 12288, 96),
}
_BLOOM = {
    "560m": (24, 1024, 16),
    "1b1": (24, 1536, 16),
    "1b7": (24, 2048, 16),
    "3b": (30, 2560, 32),
    "7b1": (30, 4096, 32),
    "176b": (70, 14336, 112),
}
# … and hidden
_LLAMA = {
    "7b": (32, 4096, 32, 11008),
    "13b": (40, 5120, 40, 13824),
    "33b": (60, 6656, 52, 17920),
    "65b": (80, 8192, 64, 22016),
}


def gpt2(size: str) -> Decoder.Config:
    """GPT-2 of a published size: "124m", "355m", "774m" or "1.5b"."""
    return _gpt(pick("size of GPT-2", size, _GPT2), context=1024)


def gpt3(size: str) -> Decoder.Config:
    """GPT-3 of a published size, from "125m" to "175b"."""
    return _gpt(pick("size of GPT-3", size, _GPT3), context=2048)


def _gpt(shape: tuple[int, int, int], *, context: int) -> Decoder.Config:
    depth, width, heads = shape
    return Decoder.Config(
        vocab_size=50257,
        context=context,
        depth=depth,
        width=width,
        heads=heads,
        kv_heads=heads,
        hidden=4 * width,
        positions="learned",
        norm="layer",
        activation="gelu_tanh",
        biases="all",
    )


def bloom(size: str) -> Decoder.Config:
    """BLOOM of a published size, from "560m" to "176b"."""
    depth, width, heads = pick("size of BLOOM", size, _BLOOM)
    return Decoder.Config(
        vocab_size=250_880,
        context=2048,
        depth=depth,
        width=width,
        heads=heads,
        kv_heads=heads,
        hidden=4 * width,
        positions="alibi",
        norm="layer",
        activation="gelu_tanh",
        biases="all",
        embedding_norm=True,
    )


def llama(size: str) -> Decoder.Config:
    """LLaMA (the first) of a published size: "7b", "13b", "33b" or "65b"."""
    depth, width, heads, hidden = pick("size of LLaMA", size, _LLAMA)
    return Decoder.Config(
        vocab_size=32_000,
        context=2048,
        depth=depth,
        width=width,
        heads=heads,
        kv_heads=heads,
        hidden=hidden,
        norm_epsilon=1e-6,
        tied=False,
    )


SHAPES: Final[Mapping[str, Callable[[], Decoder.Config]]] = {
    **{f"gpt2-{size}": partial(gpt2, size) for size in _GPT2},
    **{f"gpt3-{size}": partial(gpt3, size) for size in _GPT3},
    **{f"bloom-{size}": partial(bloom, size) for size in _BLOOM},
    **{f"llama-{size}": partial(llama, size) for size in _LLAMA},
}
"""Every published size by name."""

# fmt: off
PUBLISHED: Final[Mapping[str, float]] = {
    # The README of openai/gpt-2 and table 2 for the largest.
    "gpt2-124m": 124e6, "gpt2-355m": 355e6, "gpt2-774m": 774e6, "gpt2-1.5b": 1558e6,
    # Table D.1.
    "gpt3-125m": 125e6, "gpt3-350m": 356e6, "gpt3-760m": 760e6, "gpt3-1.3b": 1320e6,
    "gpt3-2.7b": 2650e6, "gpt3-6.7b": 6660e6, "gpt3-13b": 12_850e6, "gpt3-175b": 174_600e6,
    # Table 3.
    "bloom-560m": 559e6, "bloom-1b1": 1065e6, "bloom-1b7": 1722e6, "bloom-3b": 3003e6, "bloom-7b1": 7069e6,
    "bloom-176b": 176_247e6,
    # Table 2.
    "llama-7b": 6.7e9, "llama-13b": 13.0e9, "llama-33b": 32.5e9, "llama-65b": 65.2e9,
}
"""How many parameters the papers say they have."""
# fmt: on


def shape_for(parameters: float, vocab_size: int = 32_000) -> tuple[Decoder.Config, str]:
    """A shape with about so many parameters, and where it comes from.

    One of LLaMA's sizes where it is within 2 %. Otherwise LLaMA's kind of network whose depth is within 5 % of the
    line through the depths of GPT-3's and LLaMA's tables (logarithms of depth and parameters), and with the width that
    comes closest: heads of 128 channels (64 below a width of 2,048), an even number of them from 2,048 on, a multiple
    of four from 8,192 and of eight from 16,384, so that large matrices can be divided; hidden 8/3 of the width.

    Args:
        parameters: from 100 million to 100 trillion.
        vocab_size: of the tokenizer.

    Returns:
        The shape, within 10 % of `parameters` for a vocabulary of 32,000, and a phrase.

    Raises:
        UsageError: it is out of range.
    """
    if not 1e8 <= parameters <= 1e14:
        raise UsageError("No shape is known for that size.", wanted="1e8 to 1e14 parameters", got=f"{parameters:g}")
    for size in _LLAMA:
        config = llama(size)
        if vocab_size == config.vocab_size and abs(parameter_count(config) / parameters - 1) < 0.02:
            return config, f"llama-{size} as published"
    known = sorted(
        [(PUBLISHED[f"gpt3-{size}"], _GPT3[size][0]) for size in _GPT3 if size not in ("6.7b", "13b")]
        + [(PUBLISHED[f"llama-{size}"], _LLAMA[size][0]) for size in _LLAMA]
    )
    logs = np.log(np.array(known, dtype=np.float64))
    slope, offset = np.polyfit(logs[:, 0], logs[:, 1], 1)
    depth = math.exp(offset + slope * math.log(parameters))
    depths = range(max(2, math.ceil(0.95 * depth)), math.floor(1.05 * depth) + 1)
    choices = [_llama_like(each, width, vocab_size) for each in depths or [round(depth)] for width in _widths()]
    config = min(choices, key=lambda each: abs(math.log(parameter_count(each) / parameters)))
    return config, "LLaMA's kind of network; its depth is from the line through the tables of GPT-3 and LLaMA"


def _widths() -> list[int]:
    return [
        *range(64, 2048, 64),
        *range(2048, 8192, 256),
        *range(8192, 16_384, 512),
        *range(16_384, 262_144 + 1, 1024),
    ]


def _llama_like(depth: int, width: int, vocab_size: int) -> Decoder.Config:
    heads = width // (128 if width >= 2048 else 64)
    return Decoder.Config(
        vocab_size=vocab_size,
        context=2048,
        depth=depth,
        width=width,
        heads=heads,
        kv_heads=heads,
        hidden=math.ceil(8 * width / 3 / 64) * 64,
        tied=width < 2048,
    )
