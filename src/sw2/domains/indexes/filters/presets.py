"""Every setting of a filter from the data and one dial.

A preset says from how many keys a classifier learns, and how often; the keys say the rest.
"""

from __future__ import annotations

from sw2.core.domain import Recipe, Request
from sw2.domains.indexes.filters.models import MODELS
from sw2.domains.indexes.filters.objective import LearnConfig
from sw2.domains.indexes.filters.task import PrepConfig

__all__ = ["recipe"]

_EXAMPLES = {"tiny": (20_000, 1), "small": (500_000, 3), "full": (5_000_000, 5)}


def recipe(request: Request) -> Recipe:
    """The recipe: `--model` is taken as given, otherwise the filter with the fewest bytes (`learn.choose`)."""
    model = request.model or next(iter(MODELS))
    examples, epochs = _EXAMPLES[request.preset]
    config = LearnConfig(choose="given" if request.model else "smallest", examples=examples, epochs=epochs)
    return Recipe(
        model=model,
        model_config=MODELS[model].Config(),
        prep_config=PrepConfig(),
        objective="one-filter",
        learn_config=config,
        reasons={
            "learn.choose": "given, by --model" if request.model else "smallest: a classifier has to pay for itself"
        },
    )
