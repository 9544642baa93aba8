"""Every setting of an index from the data and one dial.

A preset says how many questions the trial asks; the keys say the rest.
"""

from __future__ import annotations

from sw2.core.domain import Recipe, Request
from sw2.domains.indexes.models import MODELS
from sw2.domains.indexes.objective import CANDIDATES, LearnConfig
from sw2.domains.indexes.task import PrepConfig

__all__ = ["recipe"]

_TRIAL = {"tiny": 20_000, "small": 200_000, "full": 1_000_000}


def recipe(request: Request) -> Recipe:
    """The recipe: `--model` is taken as given, otherwise a trial chooses (`learn.choose`)."""
    model = request.model or next(iter(MODELS))
    config = LearnConfig(choose="given" if request.model else "measured", trial=_TRIAL[request.preset])
    chosen = f"measured: the best of {len(CANDIDATES)} on these keys, {config.trial} questions each"
    return Recipe(
        model=model,
        model_config=MODELS[model].Config(),
        prep_config=PrepConfig(),
        objective="one-pass",
        learn_config=config,
        reasons={"learn.choose": "given, by --model" if request.model else chosen},
    )
