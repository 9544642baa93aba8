"""Settings for language models: from the data and one dial to every number, each with its reason.

tiny    seconds, for tests and first looks
small   minutes: what measured best in ten minutes on two cores
full    hours: the ten-million-parameter decoder
"""

from __future__ import annotations

import shutil

from sw2.base.config import from_dict, to_dict
from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.core.gradient import GradientConfig
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.objective import LearnConfig
from sw2.domains.language.task import PrepConfig
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


def recipe(request: Request) -> Recipe:
    """Every setting for `request`."""
    shape = _SHAPES[request.preset]
    prep = PrepConfig(vocab_size=_VOCABULARY[request.preset])
    reasons = {"prep.vocab_size": f"{prep.vocab_size} tokens for a model of width {shape.width}"}
    if request.parent is not None:
        if "decoder" not in request.parent.nets:
            raise UsageError(
                "A language model cannot start from this program.",
                where=request.parent.path,
                wanted="a program for text-generation",
                got=f"a program for {request.parent.task.name}",
            )
        known = to_dict(request.parent.nets["decoder"].module.config)
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
        model_config=shape,
        prep_config=prep,
        keeps_prep=request.parent is not None,
        objective="next-token",
        learn_config=LearnConfig(
            gradient=GradientConfig(
                batch_size=_BATCH[request.preset],
                compile="on" if compile_on else "off",
                optim=OptimConfig(
                    method="muon",
                    learning_rate=_RATES[request.preset] * (0.3 if request.parent else 1.0),
                    weight_decay=0.05,
                ),
            )
        ),
        reasons=reasons,
    )
