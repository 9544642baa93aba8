"""Settings for a window of words: the paper's shape, learned the way of today.

tiny    seconds, for tests and first looks
small   the paper's best network on the Brown corpus (table 1): n = 5, 30 channels, 100 hidden, no direct connections
full    twice as wide, a third left out at random; not the paper's

The paper descends example by example, with a rate that falls as 1 / t and a small weight decay. Here it is AdamW on
rows of words, with a rate that falls to nothing at the end.
"""

from __future__ import annotations

from typing import Final

from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.core.gradient import GradientConfig
from sw2.domains.language.window.network import WordWindow
from sw2.domains.language.window.objective import LearnConfig
from sw2.domains.language.window.words import WordConfig
from sw2.domains.language.window.writer import WordWriter
from sw2.parts.optim.build import OptimConfig
from sw2.parts.optim.schedule import ScheduleConfig

__all__ = ["NAME", "recipe"]

NAME: Final = "bengio"
"""What the catalogue calls the model."""

_SHAPES: Final = {
    "tiny": WordWindow.Config(context=64, channels=16, hidden=32),
    "small": WordWindow.Config(),
    "full": WordWindow.Config(channels=60, hidden=200, dropout=0.3),
}
_ROWS: Final = {"tiny": 4, "small": 4, "full": 4}
_BETAS: Final = (0.9, 0.999)
"""A rare word is a target once in hundreds of steps, and a little too likely in all others. A second moment that
forgets in between (0.95) would make full steps of those small gradients, and drive the word out."""
_RATES: Final = {"tiny": 1e-2, "small": 2e-3, "full": 2e-3}


def recipe(request: Request) -> Recipe:
    """Every setting for `request`.

    Raises:
        UsageError: it starts from a program.
    """
    if request.parent is not None:
        raise UsageError(
            "A window of words starts from nothing.",
            where="--from",
            wanted=f"no --from together with --model {NAME}",
            got=request.parent.path or f"a program for {request.parent.task.name}",
        )
    apart = bool(request.data.facts.get("words stand apart"))
    shape = _SHAPES[request.preset]
    return Recipe(
        model=NAME,
        model_config=shape,
        prep_config=WordConfig(cut="spaces" if apart else "marks"),
        runtime=WordWriter.name,
        objective="next-word",
        learn_config=LearnConfig(
            gradient=GradientConfig(
                batch_size=_ROWS[request.preset],
                optim=OptimConfig(
                    learning_rate=_RATES[request.preset],
                    weight_decay=0.01,
                    betas=_BETAS,
                    schedule=ScheduleConfig(shape="cosine"),
                ),
            )
        ),
        reasons={
            "prep.cut": "spaces, punctuation stands apart in this text"
            if apart
            else "marks, punctuation is set apart from words",
            "prep.min_count": "4, rarer words are one symbol, as in the paper",
            "model.order": f"{shape.order}, a word is predicted from the {shape.order - 1} before it",
        },
    )
