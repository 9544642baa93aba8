"""Settings for language models: from the data and one dial to every number, each with its reason.

tiny    seconds, for tests and first looks
small   minutes: what measured best in ten minutes on two cores
full    hours: the ten-million-parameter decoder

`--depth N` says how big in one number. The network of depth 4 is that of `small`, where the rates were tuned; all else
follows from the ratio to it:

    width          64 · ⌈N / 2⌉: a head of 64 channels for every two blocks
    hidden         8/3 of the width, up to a multiple of 32, as SwiGLU wants (Shazeer 2020, https://arxiv.org/abs/2002.05202)
    rows           N in a step: the best batch grows with the tokens that a network wants, and more slowly than they do
    learning rate  ∝ √rows / √width. Muon's update W ← W - 0.2 η √max(R, C) · O, O orthogonal, has AdamW's root mean
                   square (Liu et al. 2025, https://arxiv.org/abs/2502.16982) and the spectral norm
                   0.2 η √width, which a change of features of the same size wants constant (Yang et al. 2023,
                   https://arxiv.org/abs/2310.17813, condition 1); AdamW's noise wants √rows (Malladi et al. 2022,
                   https://arxiv.org/abs/2205.10287, the square-root rule)
    weight decay   ∝ rows / learning rate, so that the weights remember the same number of tokens (Wang & Aitchison
                   2024, https://arxiv.org/abs/2405.13698)

`benchmarks/depth_transfer.py` measures whether the derived rate is the best one at depths 2, 4 and 6.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from sw2.base.config import from_dict, replace, to_dict
from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.core.gradient import GradientConfig
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.objective import LearnConfig
from sw2.domains.language.prep import PrepConfig
from sw2.domains.language.task import TextWriter
from sw2.domains.language.window import presets as window
from sw2.parts.optim.build import OptimConfig

__all__ = ["recipe"]

# The tokenizer decides the vocabulary, so the shapes leave it open.
_VOCABULARY = {"tiny": 512, "small": 4096, "full": 8192}
_SHAPES = {
    "tiny": Decoder.Config(vocab_size=0, context=64, width=64, depth=2, heads=2, kv_heads=2, hidden=160, recall=3),
    "small": Decoder.Config(vocab_size=0, context=512, width=128, depth=4, heads=2, kv_heads=2, hidden=352, recall=3),
    "full": Decoder.Config(vocab_size=0, context=512, width=384, depth=8, heads=6, kv_heads=6, hidden=1024, recall=3),
}
_BATCH = {"tiny": 8, "small": 4, "full": 16}
_RATES = {"tiny": 5e-3, "small": 4e-3, "full": 2e-3}
# Compiling takes 20 to 60 seconds and then saves a tenth of each step (AVX2) to a third.
_WORTH_COMPILING = 3.0


_REFERENCE = "small"
_DECAY = 0.05


@dataclass(frozen=True, kw_only=True)
class _Size:
    """What grows with a network: its shape, the rows of a step, the rate and the decay, and why, by their keys."""

    shape: Decoder.Config
    rows: int
    rate: float
    decay: float = _DECAY
    reasons: Mapping[str, str] = field(default_factory=dict)


def _of_preset(name: str) -> _Size:
    return _Size(shape=_SHAPES[name], rows=_BATCH[name], rate=_RATES[name])


def _of_depth(depth: int, context: int) -> _Size:
    """The rules at the top of this file."""
    reference = _of_preset(_REFERENCE)
    width = 64 * math.ceil(depth / 2)
    heads = width // 64
    hidden = 32 * math.ceil(width / 12)
    wider, more = width / reference.shape.width, depth / reference.rows
    rate = _rounded(reference.rate * math.sqrt(more / wider))
    decay = _rounded(reference.decay * more * reference.rate / rate)
    return _Size(
        shape=replace(
            reference.shape, context=context, depth=depth, width=width, heads=heads, kv_heads=heads, hidden=hidden
        ),
        rows=depth,
        rate=rate,
        decay=decay,
        reasons={
            "model.depth": f"{depth}, as asked; what follows is scaled from depth {reference.shape.depth}",
            "model.width": f"{width}, 64 for every two blocks",
            "model.heads": f"{heads}, of 64 channels",
            "model.hidden": f"{hidden}, 8/3 of the width",
            "learn.gradient.batch_size": f"{depth} rows, one for each block",
            "learn.gradient.optim.learning_rate": f"{rate:g}, {reference.rate:g} · √({more:.3g} of the "
            f"rows / {wider:.3g} of the width)",
            "learn.gradient.optim.weight_decay": f"{decay:g}, the weights remember as many tokens as at depth "
            f"{reference.shape.depth}",
        },
    )


def _rounded(value: float) -> float:
    """Three digits: what is printed is what is used."""
    return float(f"{value:.3g}")


def recipe(request: Request) -> Recipe:
    """Every setting for `request`.

    Raises:
        UsageError: when the program to start from has no decoder, or a depth is asked of it.
    """
    if request.model == window.NAME:
        return window.recipe(request)
    size = _of_preset(request.preset)
    if request.depth is not None:
        if request.parent is not None:
            raise UsageError(
                "A program to start from has the depth that it has.",
                wanted="--from or --depth, not both",
                got=f"--depth {request.depth}",
            )
        size = _of_depth(request.depth, size.shape.context)
    shape = size.shape
    prep = PrepConfig(vocab_size=_VOCABULARY[request.preset])
    reasons = {"prep.vocab_size": f"{prep.vocab_size} tokens for a model of width {shape.width}", **size.reasons}
    if request.parent is not None:
        if not isinstance(request.parent.runtime, TextWriter):
            raise UsageError(
                "A language model cannot start from this program.",
                where=request.parent.path,
                wanted="a program with a decoder",
                got=f"a program for {request.parent.task.name} of another kind"
                if request.parent.task.name == "text-generation"
                else f"a program for {request.parent.task.name}",
            )
        known = to_dict(request.parent.runtime.net.config)
        # The tokenizer decides the vocabulary, and packed weights are unpacked to learn.
        known |= {"vocab_size": 0, "matrix_bits": 0, "embedding_bits": 0, "head_bits": 0}
        shape = from_dict(Decoder.Config, known, "model")
        prep = from_dict(PrepConfig, request.parent.prep.state().config, "prep")
        reasons = {"model": "as in the program to start from, and so is its tokenizer"}
    compiler = shutil.which("g++") or shutil.which("clang++")
    long_enough = request.preset != "tiny" and (request.minutes or 0.0) >= _WORTH_COMPILING
    compile_on = long_enough and compiler is not None
    reasons["learn.gradient.compile"] = (
        "on, the run is long enough to win back the compiling"
        if compile_on
        else "off, the run is shorter than the compiling is worth"
        if not long_enough
        else "off, there is no C++ compiler"
    )
    return Recipe(
        model="decoder",
        depth=request.depth,
        model_config=shape,
        prep_config=prep,
        keeps_prep=request.parent is not None,
        objective="next-token",
        learn_config=LearnConfig(
            gradient=GradientConfig(
                batch_size=size.rows,
                compile="on" if compile_on else "off",
                optim=OptimConfig(
                    method="muon",
                    learning_rate=size.rate * (0.3 if request.parent else 1.0),
                    weight_decay=size.decay,
                ),
            )
        ),
        reasons=reasons,
    )
